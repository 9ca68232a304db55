package spool

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// sized is a record whose frame has a length of about n.
func sized(n int) Record {
	return Record{Topic: "t", Key: []byte("k"), Value: bytes.Repeat([]byte("v"), n)}
}

func TestAnEmptySpoolHasRoomForARecordOfNearlyItsBound(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d, MaxBytes: 4096})
	for _, size := range []int{3900, 3900, 100, 200, 3900, 500, 3900} {
		mustAppend(t, s, sized(size))
		if got := d.bytes(); got > 4096 {
			t.Errorf("%d bytes are on the disk", got)
		}
		if err := s.Append(t.Context(), []Record{sized(4030)}); !errors.Is(err, ErrFull) {
			t.Errorf("what is not acknowledged was given up: %v", err)
		}
		if diff := cmp.Diff([]Record{sized(size)}, drain(t, s, true)); diff != "" {
			t.Error(diff)
		}
		if st := s.Stats(); st.Bytes != 0 {
			t.Errorf("an empty spool is said to hold %d bytes", st.Bytes)
		}
	}
}

func TestADrainedSpoolHasRoomAfterARestart(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d, MaxBytes: 4096})
	mustAppend(t, s, sized(3900))
	drain(t, s, true)
	_ = s.Close()
	s = mustOpen(t, "", Options{Disk: d, MaxBytes: 4096})
	mustAppend(t, s, sized(3901))
	if diff := cmp.Diff([]Record{sized(3901)}, drain(t, s, true)); diff != "" || s.Stats().Lost > 0 {
		t.Errorf("%d are lost: %s", s.Stats().Lost, diff)
	}
}

// If no room can be made, the records are refused, not written beyond the bound; and the next ones find it.
func TestRoomThatCannotBeMadeIsTriedAgain(t *testing.T) {
	for _, what := range []string{"create", "sync of the cursor"} {
		t.Run(what, func(t *testing.T) {
			d := newMemDisk()
			s := mustOpen(t, "", Options{Disk: d, MaxBytes: 4096, SegmentBytes: 4096, CursorSync: 1 << 40})
			for _, size := range []int{10, 3900} { // the first acknowledgement is flushed at once
				mustAppend(t, s, sized(size))
				drain(t, s, true)
			}
			if what == "create" {
				d.failCreate = 1
			} else {
				d.files[cursorName].failSync = 1
			}
			if err := s.Append(t.Context(), []Record{sized(3901)}); !errors.Is(err, errDisk) || errors.Is(err, ErrFailed) {
				t.Fatal(err)
			}
			mustAppend(t, s, sized(3902))
			if diff := cmp.Diff([]Record{sized(3902)}, drain(t, s, true)); diff != "" || d.bytes() > 4096 {
				t.Errorf("%d bytes on the disk, %s", d.bytes(), diff)
			}
		})
	}
}

func TestManyCallersShareASpoolThatHoldsOneRecord(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d, MaxBytes: 1500})
	const callers, each = 8, 25
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				r := Record{Topic: "t", Key: []byte{byte(c)}, Value: append([]byte{byte(i)}, strings.Repeat("x", 900)...)}
				for err := s.Append(t.Context(), []Record{r}); err != nil; err = s.Append(t.Context(), []Record{r}) {
					if !errors.Is(err, ErrFull) {
						t.Error(err)
						return
					}
					runtime.Gosched()
				}
			}
		})
	}
	last := map[byte]int{}
	for n := 0; n < callers*each; n++ {
		b, err := s.Read(t.Context(), Limit{Records: 1, Bytes: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		if r := b.Records[0]; int(r.Value[0]) != last[r.Key[0]] {
			t.Fatalf("caller %d: %d came, %d was due", r.Key[0], r.Value[0], last[r.Key[0]])
		}
		last[b.Records[0].Key[0]]++
		if got := d.bytes(); got > 1500 {
			t.Fatalf("%d bytes are on the disk", got)
		}
		if err := s.Ack(b.Next); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if st := s.Stats(); st.Lost != 0 || st.Records != 0 {
		t.Errorf("%+v", st)
	}
}
