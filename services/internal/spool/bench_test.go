package spool

import (
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkAppend measures durable appends of 2 KiB by 64 callers, while a reader drains.
func BenchmarkAppend(b *testing.B) {
	s := mustOpen(b, b.TempDir(), Options{})
	record := []Record{{Topic: "t", Key: []byte("docs/1"), Value: make([]byte, 2048)}}
	var reader sync.WaitGroup
	reader.Go(func() {
		for {
			batch, err := s.Read(b.Context(), Limit{Records: 2000, Bytes: 4 << 20})
			if err != nil {
				return
			}
			if err := s.Ack(batch.Next); err != nil {
				b.Error(err)
				return
			}
		}
	})
	const callers = 64
	times := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			for range b.N / callers {
				start := time.Now()
				if err := s.Append(b.Context(), record); err != nil {
					b.Error(err)
					return
				}
				times[c] = append(times[c], time.Since(start))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	all := slices.Concat(times...)
	slices.Sort(all)
	if len(all) > 0 {
		b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "appends/s")
		b.ReportMetric(float64(all[len(all)*99/100].Microseconds())/1000, "p99-ms")
	}
	_ = s.Close()
	reader.Wait()
}
