package spool

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"testing"

	"pgregory.net/rapid"
)

func testLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// TestWhateverHappensTheAcknowledgedRecordsAreThereInOrder appends, reads, acknowledges, lets the disk fail and cuts the power
// at random, and checks that all acknowledged records come out in order, and that only acknowledged ones are left out.
func TestWhateverHappensTheAcknowledgedRecordsAreThereInOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newMemDisk()
		segment := rapid.Int64Range(30, 400).Draw(t, "segment bytes")
		bound := rapid.Int64Range(500, 1500).Draw(t, "bound")
		open := func() *Spool {
			s, err := Open("", Options{Disk: d, SegmentBytes: segment, MaxBytes: bound})
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		s := open()
		defer func() { _ = s.Close() }()
		var (
			number uint32
			safe   []uint32 // appended and acknowledged to the caller, not yet to the spool by the reader
			acked  uint32   // everything below was acknowledged by the reader
		)
		read := func(ack bool) {
			b, err := s.tryRead(Limit{Records: 3, Bytes: 200})
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Records) == 0 {
				return
			}
			for _, r := range b.Records {
				n := binary.BigEndian.Uint32(r.Value)
				if len(safe) > 0 && n == safe[0] {
					safe = safe[1:]
				} else if len(safe) > 0 && n > safe[0] {
					t.Fatalf("%d came before %d", n, safe[0])
				} // else: one that was never acknowledged, or that was read before
				acked = max(acked, n+1)
			}
			if ack {
				if err := s.Ack(b.Next); err != nil {
					t.Fatal(err)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				if n := d.bytes(); int64(n) > bound {
					t.Fatalf("%d bytes are on the disk, at most %d may be", n, bound)
				}
			},
			"append to the empty spool what it can hold": func(t *rapid.T) {
				if !s.Empty() || s.Err() != nil {
					t.Skip("it is not empty")
				}
				large := Record{Topic: "t", Key: make([]byte, bound-100), Value: binary.BigEndian.AppendUint32(nil, number)}
				if err := s.Append(context.Background(), []Record{large}); err != nil {
					t.Fatal(err)
				}
				safe = append(safe, number)
				number++
			},
			"append": func(t *rapid.T) {
				batch := make([]Record, rapid.IntRange(1, 5).Draw(t, "records"))
				var numbers []uint32
				for i := range batch {
					batch[i] = Record{Topic: "t", Key: make([]byte, rapid.IntRange(0, 60).Draw(t, "size")), Value: binary.BigEndian.AppendUint32(nil, number)}
					numbers = append(numbers, number)
					number++
				}
				if err := s.Append(context.Background(), batch); err == nil {
					safe = append(safe, numbers...)
				}
			},
			"read and acknowledge": func(*rapid.T) { read(true) },
			"find": func(t *rapid.T) {
				if len(safe) == 0 {
					t.Skip("nothing waits")
				}
				n := rapid.SampledFrom(safe).Draw(t, "number")
				found, err := s.Find(context.Background(), func(r Record) bool { return binary.BigEndian.Uint32(r.Value) == n })
				if err != nil || found == nil || found.Acknowledged {
					t.Fatalf("%d waits, but is found as %v, %v", n, found, err)
				}
			},
			"write fails": func(t *rapid.T) {
				d.mu.Lock()
				d.failWrite, d.shortWrite = 1, rapid.Bool().Draw(t, "short")
				d.mu.Unlock()
				_ = s.Append(context.Background(), []Record{{Topic: "t", Value: binary.BigEndian.AppendUint32(nil, number)}})
				number++
				d.mu.Lock()
				d.failWrite = 0
				d.mu.Unlock()
			},
			"flush fails, then a restart": func(*rapid.T) {
				d.mu.Lock()
				d.failSync = 1
				d.mu.Unlock()
				_ = s.Append(context.Background(), []Record{{Topic: "t", Value: binary.BigEndian.AppendUint32(nil, number)}})
				number++
				d.mu.Lock()
				d.failSync = 0
				d.mu.Unlock()
				_ = s.Close()
				s = open()
			},
			"power cut": func(t *rapid.T) {
				after := d.powerCut(func(n int) int { return rapid.IntRange(0, n).Draw(t, "kept") })
				_ = s.Close()
				d = after
				s = open()
				if n := s.Stats().Lost; n > 0 {
					t.Fatalf("%d records are said to be lost: %+v", n, s.Damages())
				}
			},
		})
		for i := 0; len(safe) > 0; i++ {
			before := len(safe)
			read(true)
			if len(safe) == before && i > 10_000 {
				t.Fatalf("%d acknowledged records are gone, the first is %d", len(safe), safe[0])
			}
		}
	})
}
