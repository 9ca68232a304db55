package spool

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func rec(i int) Record {
	return Record{
		Topic: "t", Key: fmt.Appendf(nil, "key-%d", i), Value: fmt.Appendf(nil, "value-%d-%s", i, strings.Repeat("x", i%97)),
		Headers: []Header{{Key: "traceparent", Value: fmt.Appendf(nil, "00-%d", i)}},
	}
}

func mustOpen(t testing.TB, dir string, opts Options) *Spool {
	t.Helper()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func mustAppend(t testing.TB, s *Spool, records ...Record) {
	t.Helper()
	if err := s.Append(t.Context(), records); err != nil {
		t.Fatal(err)
	}
}

// drain reads everything that is there.
func drain(t testing.TB, s *Spool, ack bool) []Record {
	t.Helper()
	var out []Record
	for {
		b, err := s.tryRead(Limit{Records: 7, Bytes: 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		if len(b.Records) == 0 {
			return out
		}
		out = append(out, b.Records...)
		if ack {
			if err := s.Ack(b.Next); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func records(from, to int) (out []Record) {
	for i := from; i < to; i++ {
		out = append(out, rec(i))
	}
	return out
}

func TestRecordsComeOutInTheOrderInWhichTheyWereAppended(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d, SegmentBytes: 512})
	for i := range 100 {
		mustAppend(t, s, rec(i))
	}
	if diff := cmp.Diff(records(0, 100), drain(t, s, true)); diff != "" {
		t.Error(diff)
	}
	if st := s.Stats(); st.Records != 0 || d.bytes() > 512 || !s.Empty() {
		t.Errorf("drained segments were not deleted: %+v, %d bytes on the disk", st, d.bytes())
	}
}

func TestWhatWasNotAcknowledgedIsReadAgainAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir, Options{SegmentBytes: 512})
	mustAppend(t, s, records(0, 50)...)
	b, err := s.Read(t.Context(), Limit{Records: 20, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	done := len(b.Records)
	if err := s.Ack(b.Next); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context(), Limit{Records: 5, Bytes: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, dir, Options{SegmentBytes: 512})
	if diff := cmp.Diff(records(done, 50), drain(t, s, true)); diff != "" {
		t.Error(diff)
	}
}

func TestASecondProcessCannotOpenTheSameSpool(t *testing.T) {
	dir := t.TempDir()
	mustOpen(t, dir, Options{})
	if s, err := Open(dir, Options{}); err == nil {
		_ = s.Close()
		t.Fatal("opened twice")
	}
}

func TestAFullSpoolRefusesUntilASegmentIsDrained(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{MaxBytes: 4096, SegmentBytes: 1024})
	n := 0
	for ; ; n++ {
		err := s.Append(t.Context(), records(n, n+1))
		if errors.Is(err, ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if st := s.Stats(); st.Bytes > 4096 || n == 0 {
		t.Fatalf("%d records, %+v", n, st)
	}
	if got := drain(t, s, true); len(got) != n {
		t.Fatalf("drained %d of %d", len(got), n)
	}
	mustAppend(t, s, rec(n))
}

func TestWhatWaitsForTheDiskCountsTowardsTheBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		s := mustOpen(t, "", Options{Disk: d, MaxBytes: 500})
		d.busy = make(chan struct{})
		var wg sync.WaitGroup
		var taken atomic.Int64
		for range 20 { // about 80 bytes each
			wg.Go(func() {
				switch err := s.Append(t.Context(), records(0, 1)); {
				case err == nil:
					taken.Add(1)
				case !errors.Is(err, ErrFull):
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		close(d.busy)
		wg.Wait()
		if st := s.Stats(); st.Bytes > 500 || st.Records == 0 || st.Records != taken.Load() {
			t.Errorf("%d were taken, %+v", taken.Load(), st)
		}
	})
}

// While one flush is under way others gather, and are written together, over as many segments as they need.
func TestASegmentIsSafeBeforeTheNextOneBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newMemDisk()
		s := mustOpen(t, "", Options{Disk: d, SegmentBytes: 40})
		d.busy = make(chan struct{})
		var wg sync.WaitGroup
		for i := range 5 {
			wg.Go(func() { mustAppend(t, s, rec(i)) })
			synctest.Wait()
		}
		close(d.busy)
		wg.Wait()
		if n := len(d.segments()); n != 5 {
			t.Errorf("%d segments", n)
		}
		s = mustOpen(t, "", Options{Disk: d.powerCut(func(int) int { return 0 })})
		if diff := cmp.Diff(records(0, 5), drain(t, s, true)); diff != "" || s.Stats().Lost > 0 {
			t.Errorf("after a power cut %d are lost: %s", s.Stats().Lost, diff)
		}
	})
}

// Else a power cut would bring the reader back to before what is gone, as if the disk had lost it.
func TestADrainedSegmentGoesOnlyWhenTheDiskKnowsThatItIsDrained(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d, SegmentBytes: 40, CursorSync: time.Hour})
	for i := range 5 {
		mustAppend(t, s, rec(i))
	}
	drain(t, s, true)
	if n := len(d.segments()); n != 1 {
		t.Errorf("%d segments are left of what was drained, want the newest", n)
	}
	s = mustOpen(t, "", Options{Disk: d.powerCut(func(int) int { return 0 })})
	if n := s.Stats().Lost; n > 0 {
		t.Errorf("after a power cut %d records are said to be lost", n)
	}
}

func TestATooLargeRecordIsRefusedAlone(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{})
	if err := s.Append(t.Context(), []Record{{Value: make([]byte, MaxRecordBytes+1)}}); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	big := Record{Topic: "t", Value: make([]byte, 9<<20)}
	mustAppend(t, s, big, rec(1))
	got := drain(t, s, true)
	if len(got) != 2 || len(got[0].Value) != 9<<20 {
		t.Errorf("%d records", len(got))
	}
}

func TestAfterAFailedFlushNothingIsAcknowledgedUntilTheSpoolIsOpenedAgain(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d})
	mustAppend(t, s, rec(0))
	d.failSync = 1
	for i := 1; i < 3; i++ { // the second time the disk would work
		if err := s.Append(t.Context(), records(i, i+1)); !errors.Is(err, ErrFailed) || !errors.Is(err, errDisk) {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(records(0, 1), drain(t, s, true)); diff != "" {
		t.Error(diff)
	}
	if s.Err() == nil {
		t.Error("the failure is not told")
	}
	_ = s.Close()
	s = mustOpen(t, "", Options{Disk: d.powerCut(func(int) int { return 0 })})
	mustAppend(t, s, rec(3))
	if diff := cmp.Diff(records(3, 4), drain(t, s, true)); diff != "" {
		t.Error(diff)
	}
}

func TestAFailedWriteIsUndoneAndTheNextOneGoesOn(t *testing.T) {
	for _, what := range []string{"write", "create"} {
		t.Run(what, func(t *testing.T) {
			d := newMemDisk()
			d.shortWrite = true
			s := mustOpen(t, "", Options{Disk: d, SegmentBytes: 40})
			mustAppend(t, s, rec(0))
			if what == "write" {
				d.failWrite = 1
			} else {
				d.failCreate = 1
			}
			if err := s.Append(t.Context(), records(1, 2)); !errors.Is(err, errDisk) || errors.Is(err, ErrFailed) {
				t.Fatal(err)
			}
			mustAppend(t, s, rec(2))
			want := []Record{rec(0), rec(2)}
			if diff := cmp.Diff(want, drain(t, s, false)); diff != "" {
				t.Error(diff)
			}
			_ = s.Close()
			s = mustOpen(t, "", Options{Disk: d})
			if diff := cmp.Diff(want, drain(t, s, true)); diff != "" {
				t.Error("after opening again", diff)
			}
			if n := len(s.Damages()); n > 0 {
				t.Errorf("%d damages: %v", n, s.Damages())
			}
		})
	}
}

// segmentFile returns the one segment's path.
func segmentFile(t *testing.T, dir string) string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	return names[0]
}

func TestDamageOnTheDiskIsSkippedAndTold(t *testing.T) {
	for _, tc := range []struct {
		name   string
		damage func(data []byte) []byte
		lost   []int // of 0…9
	}{
		{"a torn tail loses only the cut record", func(b []byte) []byte { return b[:len(b)-3] }, []int{9}},
		{"a flipped bit in a payload loses that record", func(b []byte) []byte { b[headerSize+4] ^= 1; return b }, []int{0}},
		{"a flipped bit in a header loses that record", func(b []byte) []byte { b[5] ^= 1; return b }, []int{0}},
		{"zeros over the first records lose them", func(b []byte) []byte { clear(b[:headerSize+20]); return b }, []int{0}},
		{"garbage after the end is cut off", func(b []byte) []byte { return append(b, "garbage with a magic \x0d\xf0\xa1\x5e word"...) }, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			s := mustOpen(t, dir, Options{})
			for i := range 10 {
				mustAppend(t, s, rec(i))
			}
			_ = s.Close()
			path := segmentFile(t, dir)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tc.damage(data), 0o600); err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			s = mustOpen(t, dir, Options{Logger: testLogger(&log)})
			mustAppend(t, s, rec(10))
			var want []Record
			for i := range 11 {
				lost := false
				for _, l := range tc.lost {
					lost = lost || l == i
				}
				if !lost {
					want = append(want, rec(i))
				}
			}
			if diff := cmp.Diff(want, drain(t, s, true)); diff != "" {
				t.Error(diff)
			}
			if len(s.Damages()) == 0 || log.Len() == 0 {
				t.Error("the damage was not told")
			}
		})
	}
}

func TestDamageInASealedSegmentIsFoundWhileReading(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d, SegmentBytes: 300})
	for i := range 30 {
		mustAppend(t, s, rec(i))
	}
	s.mu.Lock()
	damaged := s.segments[1]
	first, next := damaged.base, s.segments[2].base
	s.mu.Unlock()
	mf := damaged.file.(*memFile)
	d.mu.Lock()
	clear(mf.data)
	d.mu.Unlock()
	want := append(records(0, int(first)), records(int(next), 30)...)
	if diff := cmp.Diff(want, drain(t, s, true)); diff != "" {
		t.Error(diff)
	}
	if st := s.Stats(); st.Lost != int64(next-first) || st.Records != 0 {
		t.Errorf("%+v, want %d lost", st, next-first)
	}
}

func TestAPayloadThatLooksLikeAFrameIsNotTakenForOne(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d})
	forged, err := encode([]Record{{Topic: "t", Key: []byte("k"), Value: []byte("forged")}})
	if err != nil {
		t.Fatal(err)
	}
	seal(forged, 12345, 1) // whoever sends it does not know the salt
	mustAppend(t, s, Record{Topic: "t", Key: []byte("k"), Value: forged})
	mustAppend(t, s, rec(1))
	for _, f := range d.segments() {
		d.mu.Lock()
		f.data[0] ^= 1
		d.mu.Unlock()
	}
	if diff := cmp.Diff(records(1, 2), drain(t, s, true)); diff != "" {
		t.Error(diff)
	}
}

func TestAReaderWaitsForRecordsAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, "", Options{Disk: newMemDisk()})
		go func() {
			time.Sleep(time.Hour)
			_ = s.Append(context.Background(), records(0, 1))
		}()
		if b, err := s.Read(t.Context(), Limit{Records: 1, Bytes: 1}); err != nil || len(b.Records) != 1 {
			t.Fatal(b, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := s.Read(ctx, Limit{Records: 1, Bytes: 1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		go func() { _ = s.Close() }()
		if _, err := s.Read(t.Context(), Limit{Records: 1, Bytes: 1}); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		if err := s.Append(t.Context(), records(0, 1)); !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
	})
}

func TestManyCallersAppendWhileOneReads(t *testing.T) {
	s := mustOpen(t, t.TempDir(), Options{SegmentBytes: 4096})
	const callers, each = 16, 50
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				if err := s.Append(t.Context(), []Record{{Topic: "t", Key: []byte{byte(c)}, Value: []byte{byte(i)}}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	last := map[byte]int{}
	for n := 0; n < callers*each; {
		b, err := s.Read(t.Context(), Limit{Records: 100, Bytes: 1 << 16})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range b.Records {
			if int(r.Value[0]) != last[r.Key[0]] {
				t.Fatalf("caller %d: %d came, %d was due", r.Key[0], r.Value[0], last[r.Key[0]])
			}
			last[r.Key[0]]++
		}
		n += len(b.Records)
		if err := s.Ack(b.Next); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
}

// Whoever was refused looks whether records wait in the spool, which others' must not overtake; those that are being refused do not.
func TestASpoolThatHasFailedIsEmptyWhileItRefusesTheRest(t *testing.T) {
	d := newMemDisk()
	s := mustOpen(t, "", Options{Disk: d})
	mustAppend(t, s, sized(10))
	drain(t, s, true)
	d.failSync = 1
	if err := s.Append(t.Context(), []Record{sized(10)}); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.queued += 10 // of a caller whose group the writer has not come to
	s.mu.Unlock()
	if !s.Empty() {
		t.Error("what is refused in a moment counts as waiting")
	}
	s.mu.Lock()
	s.queued -= 10
	s.mu.Unlock()
}
