package lsm_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"

	sqlite3 "modernc.org/sqlite"

	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

func name(i int) string { return fmt.Sprintf("source/page-%d", i) }

// fill puts rows until there are as many as are wanted, a batch in each transaction.
func (p *process) fill(t testing.TB, from, to, batch int) {
	t.Helper()
	for n := from; n < to; n += batch {
		entries := make([]lsm.Entry, 0, batch)
		for i := n; i < min(to, n+batch); i++ {
			entries = append(entries, lsm.Entry{Key: name(i), Value: []byte(strings.Repeat(name(i), 3))})
		}
		p.put(t, 0, entries...)
	}
}

// written is how many pages the writing connection has given to the write-ahead log.
func (p *process) written(t testing.TB) (pages int) {
	t.Helper()
	conn, err := p.db.Write.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Raw(func(c any) (err error) {
		pages, _, err = c.(sqlite3.DBStatus).Status(sqlite3.DBStatusCacheWrite, false)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

// What a row costs is counted, in a table whose memory is so small that a hundred thousand rows are to it what ten millions are to the one
// of a stage: some five hundred times as many as it holds.
func TestARowCostsTheSameWorkHoweverManyThereAre(t *testing.T) {
	const run, fanout, asked = 200, 8, 500
	p := open(t, filepath.Join(t.TempDir(), "t.db"), lsm.Options{Memory: run * 150, Fanout: fanout})
	defer p.close(t)
	random := rand.New(rand.NewPCG(1, 2))
	for from, levels, to := 0, 1, run*fanout; levels <= 3; from, levels, to = to, levels+1, to*fanout {
		before, pages := p.table.Work(), p.written(t)
		p.fill(t, from, to, run)
		w, rows := p.table.Work().Since(before), float64(to-from)
		pages = p.written(t) - pages
		t.Logf("%6d rows, %2d runs; a row written: %.2f flushed, %.2f merged, %.0f bytes of runs, %.3f pages of the database",
			to, p.table.Runs(), float64(w.Flushed)/rows, float64(w.Merged)/rows, float64(w.Written)/rows, float64(pages)/rows)
		if float64(w.Flushed) > 1.2*rows+run {
			t.Errorf("%d rows: %d became part of a run", to-from, w.Flushed)
		}
		// Each level moves a row once: the logarithm of how many there are.
		if float64(w.Merged) > 1.2*rows*float64(levels) {
			t.Errorf("%d rows on %d levels: merges moved %d", to-from, levels, w.Merged)
		}
		// Seventy bytes or so, ten more in the index, and in small runs the header and lines that are hardly used.
		if moved := w.Flushed + w.Merged; w.Written > 110*moved {
			t.Errorf("%d rows on %d levels: %d bytes written for %d rows moved", to-from, levels, w.Written, moved)
		}
		if runs := p.table.Runs(); runs > 2*fanout*levels {
			t.Errorf("%d rows: %d runs", to, runs)
		}

		for _, there := range []bool{true, false} {
			keys := make([]string, asked)
			for i, n := range random.Perm(to - run)[:asked] { // the newest ones are in memory
				if keys[i] = name(n); !there {
					keys[i] += "x"
				}
			}
			before := p.table.Work()
			found, err := p.table.Get(t.Context(), keys)
			if err != nil || (len(found) == 0) == there {
				t.Fatalf("%d of %d rows, %v", len(found), asked, err)
			}
			w := p.table.Work().Since(before)
			t.Logf("%6d rows; a row looked up, there %v: %.1f filters, %.2f lines of indexes, %.2f entries, %.3f in vain", to, there, float64(w.Filters)/asked, float64(w.Lines)/asked, float64(w.Entries)/asked, float64(w.Vain)/asked)
			// Two of a hundred filters err, and one of ten thousand lines.
			if most := w.Filters/25 + 5; w.Lines > int64(len(found))+most {
				t.Errorf("%d rows, %d of %d found: %d lines for %d filters", to, len(found), asked, w.Lines, w.Filters)
			}
			if most := w.Lines/1000 + 3; w.Vain > most || w.Entries != int64(len(found))+w.Vain {
				t.Errorf("%d rows, %d of %d found: %d entries, %d in vain", to, len(found), asked, w.Entries, w.Vain)
			}
			if most := w.Asked * int64(p.table.Runs()); w.Filters > most {
				t.Errorf("%d rows: %d filters for %d keys and %d runs", to, w.Filters, w.Asked, p.table.Runs())
			}
		}
	}
}
