package lsm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

var tiny = lsm.Options{Memory: 3000, Fanout: 2}

// process is a table as one process has it.
type process struct {
	db    *sqlite.DB
	table *lsm.Table
}

func open(t testing.TB, path string, opts lsm.Options) *process {
	t.Helper()
	db, err := sqlite.Open(context.Background(), path, sqlite.Options{Migrations: []string{lsm.Schema("t")}, Map: true})
	if err != nil {
		t.Fatal(err)
	}
	table, err := lsm.Open(context.Background(), db, "t", opts)
	if err != nil {
		t.Fatal(err)
	}
	return &process{db, table}
}

func (p *process) close(t testing.TB) {
	t.Helper()
	if err := p.db.Close(); err != nil {
		t.Error(err)
	}
}

func (p *process) tx(fn func(ctx context.Context, v *lsm.View) error) error {
	return p.db.InRows(context.Background(), func(ctx context.Context, tx *sqlite.Tx) error {
		v, err := p.table.View(ctx, tx)
		if err != nil {
			return err
		}
		return fn(ctx, v)
	})
}

func (p *process) put(t testing.TB, now int64, entries ...lsm.Entry) {
	t.Helper()
	if err := p.tx(func(ctx context.Context, v *lsm.View) error { return v.Put(ctx, entries, now) }); err != nil {
		t.Fatal(err)
	}
}

type reader interface {
	Get(ctx context.Context, keys []string) (map[string]lsm.Entry, error)
	Scan(ctx context.Context, after, before string, limit int) ([]lsm.Entry, error)
}

// check compares all that a reader sees with what it must. Expired entries may be there or not.
func check(t *rapid.T, r reader, want map[string]lsm.Entry, now int64) {
	all := make([]string, 0, keySpace)
	for i := range keySpace {
		all = append(all, key(i))
	}
	got, err := r.Get(context.Background(), all)
	if err != nil {
		t.Fatal(err)
	}
	same(t, "get", got, want, now)
	scanned := map[string]lsm.Entry{}
	last := ""
	for {
		part, err := r.Scan(context.Background(), last, "", 7)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range part {
			if e.Key <= last {
				t.Fatalf("%q comes after %q", e.Key, last)
			}
			last = e.Key
			scanned[e.Key] = e
		}
		if len(part) < 7 {
			break
		}
	}
	same(t, "scan", scanned, want, now)
	from, to := key(keySpace/4), key(keySpace/2)
	part, err := r.Scan(context.Background(), from, to, keySpace)
	if err != nil {
		t.Fatal(err)
	}
	for k := range want {
		if e := want[k]; k > from && k < to && (e.Expires == 0 || e.Expires > now) && !slices.ContainsFunc(part, func(e lsm.Entry) bool { return e.Key == k }) {
			t.Fatalf("a scan between %q and %q misses %q", from, to, k)
		}
	}
	for _, e := range part {
		if e.Key <= from || e.Key >= to { // the bounds are not in it
			t.Fatalf("a scan between %q and %q has %q", from, to, e.Key)
		}
	}
}

func same(t *rapid.T, how string, got, want map[string]lsm.Entry, now int64) {
	for k, e := range want {
		g, ok := got[k]
		if expired := e.Expires != 0 && e.Expires <= now; !ok && !expired {
			t.Fatalf("%s: %q is lost", how, k)
		}
		if ok && (string(g.Value) != string(e.Value) || g.Expires != e.Expires || g.Deleted) {
			t.Fatalf("%s: %q is %+v, not %+v", how, k, g, e)
		}
	}
	for k, e := range got {
		if _, ok := want[k]; !ok && (e.Expires == 0 || e.Expires > now) {
			t.Fatalf("%s: %q was deleted or never there", how, k)
		}
	}
}

const keySpace = 120

func key(i int) string { return fmt.Sprintf("%c/%d", 'a'+i%5, i) }

// TestATableIsWhatWasPut plays random transactions of two processes, some of them rolled back, between restarts.
func TestATableIsWhatWasPut(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		path := filepath.Join(t.TempDir(), fmt.Sprint(rand.Uint64()), "t.db")
		processes := []*process{open(t, path, tiny), open(t, path, tiny)}
		defer func() {
			for _, p := range processes {
				p.close(t)
			}
		}()
		want := map[string]lsm.Entry{}
		now := int64(0)
		for range rapid.IntRange(1, 40).Draw(rt, "transactions") {
			i := rapid.IntRange(0, 1).Draw(rt, "process")
			if rapid.IntRange(0, 9).Draw(rt, "restart") == 0 {
				processes[i].close(t)
				processes[i] = open(t, path, tiny)
			}
			now += rapid.Int64Range(0, 10).Draw(rt, "time")
			next := maps.Clone(want)
			rollback := rapid.IntRange(0, 5).Draw(rt, "rollback") == 0
			err := processes[i].tx(func(ctx context.Context, v *lsm.View) error {
				for range rapid.IntRange(0, 3).Draw(rt, "puts") {
					entries := map[string]lsm.Entry{}
					for range rapid.IntRange(0, 30).Draw(rt, "entries") {
						e := lsm.Entry{Key: key(rapid.IntRange(0, keySpace-1).Draw(rt, "key")), Value: []byte(strings.Repeat("v", rapid.IntRange(0, 300).Draw(rt, "size")) + fmt.Sprint(rand.Uint32()))}
						if rapid.IntRange(0, 3).Draw(rt, "delete") == 0 {
							e.Deleted, e.Value = true, nil
						} else if rapid.Bool().Draw(rt, "expires") {
							e.Expires = now + rapid.Int64Range(1, 200).Draw(rt, "ttl")
						}
						entries[e.Key] = e
					}
					if err := v.Put(ctx, slices.Collect(maps.Values(entries)), now); err != nil {
						return err
					}
					for k, e := range entries {
						if next[k] = e; e.Deleted {
							delete(next, k)
						}
					}
				}
				check(rt, v, next, now)
				if rollback {
					return errors.New("rolled back")
				}
				return nil
			})
			if !rollback {
				if err != nil {
					rt.Fatal(err)
				}
				want = next
			}
			// What has expired may be gone, and stays gone.
			for k, e := range want {
				if e.Expires != 0 && e.Expires <= now {
					delete(want, k)
				}
			}
			for _, p := range processes {
				check(rt, p.table, want, now)
			}
		}
	})
}

// TestReadersSeeWholeTransactions reads while runs are written and merged away.
func TestReadersSeeWholeTransactions(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "t.db"), tiny)
	defer p.close(t)
	put := func(round int) {
		entries := make([]lsm.Entry, 20)
		for i := range entries {
			entries[i] = lsm.Entry{Key: key(i), Value: fmt.Append(nil, round)}
		}
		p.put(t, 0, append(entries, lsm.Entry{Key: fmt.Sprint("z", round), Value: make([]byte, 200)})...)
	}
	put(0)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				all, err := p.table.Scan(t.Context(), "a", "b", 10)
				if err != nil || len(all) != 4 {
					t.Errorf("%d entries, %v", len(all), err)
					return
				}
				for _, e := range all[1:] {
					if string(e.Value) != string(all[0].Value) {
						t.Errorf("rounds %s and %s at once", all[0].Value, e.Value)
						return
					}
				}
			}
		})
	}
	for round := 1; round < 150; round++ {
		put(round)
	}
	close(done)
	wg.Wait()
}

// TestWhatExpiresAndIsDeletedLeavesTheFile fills a table over and over with rows that live for a while.
func TestWhatExpiresAndIsDeletedLeavesTheFile(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "t.db"), lsm.Options{Memory: 50_000, Fanout: 4})
	defer p.close(t)
	pages := func() (n int64) {
		if err := p.db.Read.QueryRow(`SELECT count(*) FROM t_pages`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	const ttl, step = 10_000, 100
	now, most := int64(0), int64(0)
	for round := range 600 {
		now += step
		entries := make([]lsm.Entry, step)
		for i := range entries {
			entries[i] = lsm.Entry{Key: fmt.Sprintf("%x", rand.Uint64()), Value: make([]byte, 40), Expires: now + ttl}
		}
		p.put(t, now, entries...)
		if round == 300 {
			most = pages()
		}
	}
	if n := pages(); n > 2*most || most == 0 {
		t.Errorf("%d pages, %d at half time", n, most)
	}
	if n := p.table.Len(); n > 5*ttl {
		t.Errorf("%d entries of which at most %d live", n, ttl)
	}
}

// TestRowsThatAreReplacedOverAndOverDoNotPileUp changes the same few rows, which never fill the memory.
func TestRowsThatAreReplacedOverAndOverDoNotPileUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	opts := lsm.Options{Memory: 20_000, Fanout: 4}
	p := open(t, path, opts)
	logged := func() (bytes int) {
		if err := p.db.Read.QueryRow(`SELECT coalesce(sum(length(entries)), 0) FROM t_log`).Scan(&bytes); err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	for round := range 500 {
		entries := make([]lsm.Entry, 10)
		for i := range entries {
			entries[i] = lsm.Entry{Key: key(i), Value: fmt.Appendf(nil, "%200d", round)}
		}
		p.put(t, 0, entries...)
		if n := logged(); n > 2*opts.Memory {
			t.Fatalf("%d bytes in the log after %d transactions", n, round)
		}
		if round%100 == 99 { // what was in the log counts after a restart as well
			p.close(t)
			p = open(t, path, opts)
		}
	}
	defer p.close(t)
	found, err := p.table.Get(t.Context(), []string{key(0), key(9)})
	if err != nil || len(found) != 2 || strings.TrimSpace(string(found[key(9)].Value)) != "499" {
		t.Errorf("%v, %v", found, err)
	}
}

// A merge moves eight runs, and begins anew with each process. Here none lives for longer than half of what one takes.
func TestRunsDoNotPileUpWhereNoProcessLivesForAMerge(t *testing.T) {
	const run, fanout, lives = 200, 8, 120
	path := filepath.Join(t.TempDir(), "t.db")
	most := 0
	for life := range lives {
		p := open(t, path, lsm.Options{Memory: run * 150, Fanout: fanout})
		p.fill(t, life*run, (life+1)*run, 50)
		most = max(most, p.table.Runs())
		p.close(t)
	}
	if most > 5*fanout { // three times a level's fanout are enough for the first level's merges to end, and few runs come to the second
		t.Errorf("%d runs of %d rows", most, lives*run)
	}
}

func TestLargeEntriesAndOddKeys(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	p := open(t, path, tiny)
	want := map[string]int{"": 3, "\x00": 0, "\xff\xfe": 5000, "ünï": 100_000, strings.Repeat("k", 9000): 4000}
	for k, n := range want {
		p.put(t, 0, lsm.Entry{Key: k, Value: make([]byte, n)})
	}
	for i := range 200 { // enough to be merged several times
		p.put(t, 0, lsm.Entry{Key: fmt.Sprint("m", i), Value: make([]byte, 200)})
	}
	for range 2 {
		got, err := p.table.Get(t.Context(), slices.Collect(maps.Keys(want)))
		for k, n := range want {
			if e, ok := got[k]; err != nil || !ok || len(e.Value) != n {
				t.Errorf("%.10q: %d bytes, %v, %v; want %d", k, len(e.Value), ok, err, n)
			}
		}
		p.close(t)
		p = open(t, path, tiny)
	}
	p.close(t)
}

func TestFiltersOfOlderVersionsAreMadeAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	p := open(t, path, tiny)
	const keys = 2000
	for from := 0; from < keys; from += 100 {
		var entries []lsm.Entry
		for i := from; i < from+100; i++ {
			entries = append(entries, lsm.Entry{Key: key(i), Value: []byte("v")})
		}
		p.put(t, 1, entries...)
	}
	res, err := p.db.Write.ExecContext(t.Context(), "UPDATE t_runs SET filter = zeroblob(24) WHERE filter IS NOT NULL")
	if err != nil {
		t.Fatal(err)
	}
	runs, err := res.RowsAffected()
	if err != nil || runs == 0 {
		t.Fatal(runs, err)
	}
	p.close(t)
	p = open(t, path, tiny)
	defer p.close(t)
	for i := range keys {
		found, err := p.table.Get(t.Context(), []string{key(i)})
		if err != nil || len(found) != 1 {
			t.Fatalf("key %d: %v %v", i, found, err)
		}
	}
	left := 0
	if err := p.db.Write.QueryRowContext(t.Context(), "SELECT count(*) FROM t_runs WHERE filter = zeroblob(24)").Scan(&left); err != nil || left != 0 {
		t.Fatalf("%d filters of an older version are left (%v)", left, err)
	}
}
