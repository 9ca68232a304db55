package lsm_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

const (
	// crashDir names the folder in which a process writes until it is killed; with crashLives it opens the table so many times, for powerRounds each, and ends.
	// What it writes begins with crashWho.
	crashDir, crashLives = "HOOKMESH_LSM_CRASH_DIR", "HOOKMESH_LSM_CRASH_LIVES"
	crashWho             = "HOOKMESH_LSM_CRASH_WHO"
	powerRounds          = 100
)

// small is a table whose merges take several transactions.
var small = lsm.Options{Memory: 12_000, Fanout: 2}

// A round replaces all keys of a group at once and adds one of its own; so whatever is committed has each group of one round.
const (
	groups    = 20
	groupKeys = 10
)

func (p *process) groupKey(group, i int) string {
	return fmt.Sprintf("%sgroup-%02d/%d", p.who, group, i)
}

// rounds are those that are committed.
func (p *process) rounds() (int, error) {
	all, err := p.table.Scan(context.Background(), p.who+"round-", p.who+"round.", 1_000_000)
	return len(all), err
}

func (p *process) round(n int) error {
	return p.tx(func(ctx context.Context, v *lsm.View) error {
		entries := []lsm.Entry{{Key: fmt.Sprintf("%sround-%06d", p.who, n), Value: make([]byte, 60)}}
		for i := range groupKeys {
			entries = append(entries, lsm.Entry{Key: p.groupKey(n%groups, i), Value: strconv.AppendInt(nil, int64(n), 10)})
		}
		return v.Put(ctx, entries, 0)
	})
}

// holds says what is wrong with a table in which some rounds are committed, and maybe one more.
func (p *process) holds(t *testing.T, rounds int) (last int) {
	t.Helper()
	last, err := p.rounds()
	if err != nil {
		t.Fatal(err)
	}
	if last != rounds && last != rounds+1 {
		t.Fatalf("%d rounds of %d", last, rounds)
	}
	for g := range groups {
		keys := make([]string, groupKeys)
		for i := range keys {
			keys[i] = p.groupKey(g, i)
		}
		found, err := p.table.Get(t.Context(), keys)
		if err != nil {
			t.Fatal(err)
		}
		want := (last-1)/groups*groups + g
		if want >= last {
			want -= groups
		}
		for _, k := range keys {
			if e, ok := found[k]; ok != (want >= 0) || (ok && string(e.Value) != strconv.Itoa(want)) {
				t.Fatalf("%s is of round %s after %d rounds", k, e.Value, last)
			}
		}
	}
	return last
}

// TestMain is also the process that TestAKilledProcessLosesNothing kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDir); dir != "" {
		lives, _ := strconv.Atoi(os.Getenv(crashLives))
		rounds, opts := powerRounds, small
		if lives == 0 {
			lives, rounds, opts = 1, math.MaxInt, tiny
		}
		for range lives {
			if err := writeRounds(dir, rounds, opts); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// writeRounds goes on where the table ends, and tells each round that is committed.
func writeRounds(dir string, rounds int, opts lsm.Options) error {
	p, err := start(filepath.Join(dir, "t.db"), opts)
	if err != nil {
		return err
	}
	p.who = os.Getenv(crashWho)
	first, err := p.rounds()
	if err != nil {
		return err
	}
	for n := first; n-first < rounds; n++ {
		if err := p.round(n); err != nil {
			return err
		}
		fmt.Printf("round %d\n", n)
	}
	return p.db.Close()
}

// live has a process write rounds and kills it after some. It says how many rounds there were each time.
func live(ctx context.Context, dir, who string, told func(rounds int)) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0]) //nolint:gosec // this test
	cmd.Env = append(os.Environ(), crashDir+"="+dir, crashWho+"="+who)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	most, seen := 20+rand.IntN(150), 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var n int
		if _, err := fmt.Sscanf(lines.Text(), "round %d", &n); err != nil {
			return fmt.Errorf("the process says %q: %w", lines.Text(), errors.Join(err, cmd.Wait()))
		}
		told(n + 1)
		if seen++; seen == most {
			_ = cmd.Process.Kill() // it goes on meanwhile, so that it dies anywhere
		}
	}
	if err := cmd.Wait(); seen < most {
		return fmt.Errorf("the process ended by itself after %d rounds: %w", seen, err)
	}
	return nil
}

func TestAKilledProcessLosesNothing(t *testing.T) {
	dir := t.TempDir()
	rounds := 0
	for range 12 {
		if err := live(t.Context(), dir, "", func(n int) { rounds = n }); err != nil {
			t.Fatal(err)
		}
		p := open(t, filepath.Join(dir, "t.db"), tiny)
		rounds = p.holds(t, rounds)
		p.named(t)
		p.close(t)
	}
}

// Two processes write to a table and are killed now and then, and a third one reads it and makes backups.
func TestProcessesShareATable(t *testing.T) {
	dir := t.TempDir()
	p := open(t, filepath.Join(dir, "t.db"), tiny)
	writers := []string{"a-", "b-"}
	told := make([]atomic.Int64, len(writers))
	var wg sync.WaitGroup
	var living atomic.Int32
	for i, who := range writers {
		living.Add(1)
		wg.Go(func() {
			defer living.Add(-1)
			for range 4 {
				if err := live(t.Context(), dir, who, func(n int) { told[i].Store(int64(n)) }); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for n := 0; living.Load() > 0; n++ {
		for i, who := range writers {
			least := int(told[i].Load())
			p.who = who
			if rounds, err := p.rounds(); err != nil || rounds < least {
				t.Errorf("%d rounds of %s of at least %d, %v", rounds, who, least, err)
			}
		}
		if n%20 > 0 {
			continue
		}
		to := filepath.Join(dir, strconv.Itoa(n), "t.db")
		if err := os.Mkdir(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := sqlite.Backup(t.Context(), p.db.Path(), to); err != nil {
			t.Fatal(err)
		}
		copied := open(t, to, tiny)
		for _, who := range writers {
			copied.who = who
			rounds, err := copied.rounds()
			if err != nil {
				t.Fatal(err)
			}
			copied.holds(t, rounds)
		}
		copied.named(t)
		copied.close(t)
	}
	wg.Wait()
	for range 2 {
		for i, who := range writers {
			p.who = who
			p.holds(t, int(told[i].Load()))
		}
		p.close(t)
		p = open(t, filepath.Join(dir, "t.db"), tiny)
	}
	p.named(t)
	p.close(t)
}

// named checks that each file is one that the database names, and that none is missing, as it is after a start.
func (p *process) named(t testing.TB) {
	t.Helper()
	rows, err := p.db.Read.Query(`SELECT id, token FROM t_runs`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	names := map[string]bool{}
	for rows.Next() {
		var id, token int64
		if err := rows.Scan(&id, &token); err != nil {
			t.Fatal(err)
		}
		names[fmt.Sprintf("t-%d-%016x.run", id, uint64(token))] = true
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, f := range p.files(t) {
		if !names[f.Name()] {
			t.Errorf("%s is there for nothing", f.Name())
		}
	}
}

// A process that dies while it writes a run leaves a file that the database does not name. What is another table's is not touched.
func TestAFileThatNothingNamesIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	p := open(t, path, tiny)
	p.fill(t, 0, 500, 50)
	runs := len(p.files(t))
	p.close(t)
	for _, name := range []string{"t-99-0123456789abcdef.run", "t-99-0123456789abcdef.run.spots", "other-1-0123456789abcdef.run"} {
		if err := os.WriteFile(filepath.Join(p.db.Files(), name), []byte("begun"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p = open(t, path, tiny)
	defer p.close(t)
	if n := len(p.files(t)); n != runs+1 {
		t.Errorf("%d files of runs; %d are the table's, and one is another's", n, runs)
	}
	if _, err := os.Stat(filepath.Join(p.db.Files(), "t-99-0123456789abcdef.run.spots")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file of spots is left: %v", err)
	}
}

// A backup is one moment of the table, while it is written, and its files are there.
func TestABackupIsOneMoment(t *testing.T) {
	dir := t.TempDir()
	p := open(t, filepath.Join(dir, "t.db"), tiny)
	defer p.close(t)
	for n := range 60 {
		if err := p.round(n); err != nil {
			t.Fatal(err)
		}
	}
	stop, written := make(chan struct{}), make(chan int)
	go func() {
		n := 60
		defer func() { written <- n }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			if err := p.round(n); err != nil {
				t.Error(err)
				return
			}
			n++
		}
	}()
	for i := range 5 {
		to := filepath.Join(dir, "backup", strconv.Itoa(i), "t.db")
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := sqlite.Backup(t.Context(), filepath.Join(dir, "t.db"), to); err != nil {
			t.Fatal(err)
		}
		copied := open(t, to, tiny)
		rounds, err := copied.rounds()
		if err != nil || rounds < 60 {
			t.Fatalf("%d rounds, %v", rounds, err)
		}
		copied.holds(t, rounds)
		copied.named(t)
		copied.close(t)
	}
	close(stop)
	p.holds(t, <-written)
}

// A database without its files is refused, with what to do.
func TestARunThatIsMissingIsTold(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	p := open(t, path, tiny)
	p.fill(t, 0, 500, 50)
	p.close(t)
	if err := os.RemoveAll(p.db.Files()); err != nil {
		t.Fatal(err)
	}
	_, err := start(path, tiny)
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "same backup") {
		t.Errorf("a table without its runs: %v", err)
	}
}

// A commit that fails may be in the write-ahead log all the same, from where a crash brings it back until another one has taken its place: its files stay
// until then, and no longer.
func TestFilesOfACommitThatFailedStayUntilTheNextOne(t *testing.T) {
	p := open(t, filepath.Join(t.TempDir(), "t.db"), tiny)
	defer p.close(t)
	entries := []lsm.Entry{{Key: "a", Value: make([]byte, tiny.Memory)}}
	p.put(t, 0, entries...)
	broken := func() error {
		return p.db.InRows(t.Context(), func(ctx context.Context, tx *sqlite.Tx) error {
			v, err := p.table.View(ctx, tx)
			if err != nil {
				return err
			}
			if err := v.Put(ctx, entries, 0); err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, "ROLLBACK") // so that the commit fails
			return err
		})
	}
	for n := range 3 {
		if err := broken(); err == nil {
			t.Fatal("a commit without a transaction")
		}
		err := p.tx(func(ctx context.Context, v *lsm.View) error { // reading puts nothing in its place
			_, err := v.Get(ctx, []string{"a"})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if files := p.files(t); len(files) != n+1 {
			t.Errorf("%d files after %d commits that failed", len(files), n+1)
		}
	}
	p.put(t, 0, entries...)
	p.named(t)
	if files := p.files(t); len(files) != 1 {
		t.Errorf("%d files of one run", len(files))
	}
}

// A merge that ends in a transaction that is rolled back begins anew at once: nobody waits for it as for another process's.
func TestAMergeWhoseEndIsRolledBackBeginsAnew(t *testing.T) {
	const fanout, run = 4, 100
	p := open(t, filepath.Join(t.TempDir(), "t.db"), lsm.Options{Memory: run * 150, Fanout: fanout})
	defer p.close(t)
	rolledBack := errors.New("rolled back")
	count := func(ctx context.Context, tx *sqlite.Tx, where string) (n int) {
		if err := tx.QueryRowContext(ctx, "SELECT count(*) FROM t_runs WHERE "+where).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	ends, most := 0, 0
	for n := 0; n < 40*run; n += 10 {
		entries := make([]lsm.Entry, 10)
		for i := range entries {
			entries[i] = lsm.Entry{Key: name(n + i), Value: make([]byte, 40)}
		}
		err := p.db.InRows(t.Context(), func(ctx context.Context, tx *sqlite.Tx) error {
			v, err := p.table.View(ctx, tx)
			if err != nil {
				return err
			}
			merged := count(ctx, tx, "state = 1 AND level = 1")
			if err := v.Put(ctx, entries, 0); err != nil {
				return err
			}
			most = max(most, count(ctx, tx, "state = 1 AND level = 0"))
			if count(ctx, tx, "state = 1 AND level = 1") > merged {
				if ends++; ends%2 == 1 {
					return rolledBack
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, rolledBack) {
			t.Fatal(err)
		}
	}
	if ends < 4 || most >= 2*fanout {
		t.Errorf("%d ends of merges, up to %d runs that wait for one", ends, most)
	}
	p.named(t)
}

// A process that died over a merge leaves a run that is not done. Nobody waits for it, as for one that lives, until twice as many runs are there.
func TestAMergeOfTheDeadBeginsAnewAtOnce(t *testing.T) {
	const fanout, run = 4, 100
	for _, living := range []bool{false, true} {
		p := open(t, filepath.Join(t.TempDir(), "t.db"), lsm.Options{Memory: run * 150, Fanout: fanout})
		if _, err := p.db.Write.Exec(`INSERT INTO t_runs (id, token, state, level, upto, entries, expires) VALUES (1000, 1, 2, 1, 0, 0, 0)`); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(p.db.Files(), "t-1000-0000000000000001.run")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if living {
			if err := sqlite.Hold(f); err != nil {
				t.Fatal(err)
			}
		}
		p.close(t)
		p, most := open(t, p.db.Path(), lsm.Options{Memory: run * 150, Fanout: fanout}), 0
		for n := 0; n < 30*run; n += 10 {
			p.fill(t, n, n+10, 10)
			waiting := 0
			if err := p.db.Read.QueryRow(`SELECT count(*) FROM t_runs WHERE state = 1 AND level = 0`).Scan(&waiting); err != nil {
				t.Fatal(err)
			}
			most = max(most, waiting)
		}
		if waited := most >= 2*fanout; waited != living {
			t.Errorf("up to %d runs wait for a merge of a process; it lives: %v", most, living)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("what it left: %v", err)
		}
		p.named(t)
		_ = f.Close()
		p.close(t)
	}
}
