package lsm_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
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
	// who is what the keys of its rounds begin with.
	who string
}

func start(path string, opts lsm.Options) (*process, error) {
	ctx := context.Background()
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: []string{lsm.Schema("t"), lsm.RunFilesSchema("t")}})
	if err != nil {
		return nil, err
	}
	table, err := lsm.Open(ctx, db, "t", opts)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &process{db: db, table: table}, nil
}

func open(t testing.TB, path string, opts lsm.Options) *process {
	t.Helper()
	p, err := start(path, opts)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *process) close(t testing.TB) {
	t.Helper()
	if err := p.db.Close(); err != nil {
		t.Error(err)
	}
}

// files are the files of runs.
func (p *process) files(t testing.TB) (files []os.FileInfo) {
	t.Helper()
	all, err := os.ReadDir(p.db.Files())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		info, err := f.Info()
		if err == nil && strings.HasSuffix(f.Name(), ".run") {
			files = append(files, info)
		}
	}
	return files
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
		for i, p := range processes {
			p.close(t)
			processes[i] = open(t, path, tiny)
			processes[i].named(t)
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
	bytes := func() (n int64) {
		for _, f := range p.files(t) {
			n += f.Size()
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
			most = bytes()
		}
	}
	if n := bytes(); n > 2*most || most == 0 {
		t.Errorf("%d bytes of runs, %d at half time", n, most)
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

// page is a run as older versions kept it: in pages of the database, whose numbers begin with the run's.
func page(run int64, n int) int64 { return run<<24 | int64(n) }

func TestRunsOfOlderVersionsBecomeFiles(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "t.db"), t.Context()
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: []string{lsm.Schema("t")}})
	if err != nil {
		t.Fatal(err)
	}
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.Write.ExecContext(ctx, query, args...); err != nil {
			t.Fatal(err)
		}
	}
	// Run 7 is older than run 9; 8 was being built when its process died, and of 6, which is dead, a page is left.
	const keys, perPage = 3000, 11
	for _, run := range []int64{7, 9} {
		exec(`INSERT INTO t_runs (id, state, level, upto, entries, expires, fences, filter) VALUES (?, 1, 0, ?, ?, 0, x'00', x'00')`, run, run, keys)
		for n := 0; n*perPage < keys; n++ {
			var data []byte
			for i := n * perPage; i < min(keys, (n+1)*perPage); i++ {
				data = lsm.AppendEntry(data, &lsm.Entry{Key: fmt.Sprintf("key-%06d", i+int(run-7)*100), Value: fmt.Appendf(nil, "%d of run %d", i, run), Deleted: run == 9 && i == 0})
			}
			exec(`INSERT INTO t_pages (id, data) VALUES (?, ?)`, page(run, n), data)
		}
	}
	exec(`INSERT INTO t_runs (id, state, level, upto, entries, expires) VALUES (8, 2, 1, 8, 0, 0), (6, 0, 0, 6, 0, 0)`)
	exec(`INSERT INTO t_pages (id, data) VALUES (?, x'00'), (?, x'00')`, page(8, 0), page(6, 3))
	exec(`INSERT INTO t_log (seq, entries) VALUES (10, ?)`, lsm.AppendEntry(nil, &lsm.Entry{Key: "key-000001", Value: []byte("of the log")}))
	exec(`UPDATE t_state SET last = 10, next = 12`)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	for range 2 { // the second start has nothing to move
		p := open(t, path, tiny)
		want := map[string]string{
			"key-000000": "0 of run 7", "key-000001": "of the log", "key-000199": "199 of run 7", "key-000200": "", // deleted by run 9
			"key-000201": "1 of run 9", "key-003199": "2999 of run 9", "key-003200": "",
		}
		found, err := p.table.Get(ctx, slices.Collect(maps.Keys(want)))
		if err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if e, ok := found[k]; ok != (v != "") || string(e.Value) != v {
				t.Errorf("%s is %q, %v; want %q", k, e.Value, ok, v)
			}
		}
		if all, err := p.table.Scan(ctx, "", "", 2*keys); err != nil || len(all) != keys+200-1 {
			t.Errorf("a scan finds %d, %v", len(all), err)
		}
		if files := p.files(t); len(files) != 2 {
			t.Errorf("%d files for two runs", len(files))
		}
		pages := 0
		if err := p.db.Read.QueryRow(`SELECT count(*) FROM t_pages`).Scan(&pages); err != nil || pages != 0 {
			t.Errorf("%d pages are left, %v", pages, err)
		}
		p.close(t)
	}
}

// A move that fails, for want of room, say, is tried again with each start, and leaves no more each time.
func TestAMoveThatFailsDoesNotFillTheDisk(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "t.db"), t.Context()
	db, err := sqlite.Open(ctx, path, sqlite.Options{Migrations: []string{lsm.Schema("t")}})
	if err != nil {
		t.Fatal(err)
	}
	data := lsm.AppendEntry(nil, &lsm.Entry{Key: "a", Value: []byte("1")})
	_, err = db.Write.ExecContext(ctx, `INSERT INTO t_pages (id, data) VALUES (?, ?), (?, ?)`, page(1, 0), data, page(2, 0), data)
	for id := range 2 { // one of two entries that the second is said to have
		_, err2 := db.Write.ExecContext(ctx, `INSERT INTO t_runs (id, state, level, upto, entries, expires) VALUES (?, 1, 0, ?, ?, 0)`, id+1, id+1, id+1)
		err = errors.Join(err, err2)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := start(path, tiny); err == nil || !strings.Contains(err.Error(), "entries") {
			t.Fatalf("a run that is cut off: %v", err)
		}
		if files, err := os.ReadDir(sqlite.FilesOf(path)); err != nil || len(files) > 2 {
			t.Errorf("%d files, %v", len(files), err)
		}
	}
}
