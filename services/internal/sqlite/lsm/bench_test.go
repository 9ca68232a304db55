package lsm_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

func sizes() []int {
	all := []int{10_000, 100_000, 1_000_000}
	if n, err := strconv.Atoi(os.Getenv("HOOKMESH_BENCH_KNOWN")); err == nil {
		all = append(all, n)
	}
	return all
}

// processor is the processor time that this process has used, which other work on the machine changes less than it changes time.
func processor() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTable reads and then replaces rows here and there, as the stages do: the processor time of each, and how many
// pages a read looks into, by how many rows there are.
func BenchmarkTable(b *testing.B) {
	const batch = 1000
	for _, known := range sizes() {
		b.Run(fmt.Sprintf("known=%d", known), func(b *testing.B) {
			path := filepath.Join(b.TempDir(), "t.db")
			if dir := os.Getenv("HOOKMESH_BENCH_DIR"); dir != "" {
				path = filepath.Join(dir, fmt.Sprintf("%d.db", known))
			}
			p := open(b, path, lsm.Options{})
			defer p.close(b)
			put := func(keys []string) {
				entries := make([]lsm.Entry, len(keys))
				for i, k := range keys {
					entries[i] = lsm.Entry{Key: k, Value: []byte(strings.Repeat(k, 3))}
				}
				p.put(b, 0, entries...)
			}
			name := func(i int) string { return fmt.Sprintf("source/page-%d", i) }
			for n := int(p.table.Len()); n < known; n += batch {
				keys := make([]string, batch)
				for i := range keys {
					keys[i] = name(n + i)
				}
				put(keys)
			}
			keys := make([]string, batch)
			var read, wrote time.Duration
			for b.Loop() {
				used := map[int]bool{}
				for i := range keys {
					n := rand.IntN(known)
					for used[n] {
						n = rand.IntN(known)
					}
					used[n], keys[i] = true, name(n)
				}
				began := processor()
				err := p.db.InRows(context.Background(), func(ctx context.Context, tx *sqlite.Tx) error {
					v, err := p.table.View(ctx, tx)
					if err != nil {
						return err
					}
					found, err := v.Get(ctx, keys)
					if err == nil && len(found) != batch {
						err = fmt.Errorf("%d of %d rows", len(found), batch)
					}
					return err
				})
				if err != nil {
					b.Fatal(err)
				}
				got := processor()
				put(keys)
				read, wrote = read+got-began, wrote+processor()-got
			}
			rows := float64(b.N * batch)
			b.ReportMetric(float64(read.Nanoseconds())/rows, "read-cpu-ns/row")
			b.ReportMetric(float64(wrote.Nanoseconds())/rows, "write-cpu-ns/row")
			b.ReportMetric(0, "ns/op")
		})
	}
}
