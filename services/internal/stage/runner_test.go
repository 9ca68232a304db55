package stage_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errCrash = errors.New("the process died here")

// memoryLog is one partition per topic. It can die before or after a produce, once.
type memoryLog struct {
	mu     sync.Mutex
	topics map[string][]stage.Record
	// dieBefore and dieAfter count produces down to the one at which the process dies; -1: never.
	dieBefore, dieAfter int
	// early is how many records before the offset come too: brokers send whole batches.
	early int64
	crash context.CancelCauseFunc
}

func newMemoryLog() *memoryLog {
	return &memoryLog{topics: map[string][]stage.Record{}, dieBefore: -1, dieAfter: -1}
}

func (l *memoryLog) append(topic string, outs ...stage.Output) {
	for _, o := range outs {
		l.topics[topic] = append(l.topics[topic], stage.Record{Topic: topic, Offset: int64(len(l.topics[topic])), Key: o.Key, Value: o.Value, Headers: o.Headers})
	}
}

func (l *memoryLog) Produce(ctx context.Context, outs []stage.Output) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	l.dieBefore--
	if l.dieBefore == -1 {
		l.crash(errCrash)
		return errCrash
	}
	for _, o := range outs {
		l.append(o.Topic, o)
	}
	l.dieAfter--
	if l.dieAfter == -1 {
		l.crash(errCrash)
		return errCrash
	}
	return nil
}

func (l *memoryLog) Open(_ context.Context, topic string, _ int, offset int64) (stage.Partition, error) {
	return &memoryPartition{log: l, topic: topic, offset: max(0, offset-l.early)}, nil
}

type memoryPartition struct {
	log    *memoryLog
	topic  string
	offset int64
}

// errDrained ends a run when everything was read.
var errDrained = errors.New("everything was read")

func (p *memoryPartition) Fetch(ctx context.Context, limit int, _ time.Duration) ([]stage.Record, error) {
	p.log.mu.Lock()
	defer p.log.mu.Unlock()
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	all := p.log.topics[p.topic]
	if int(p.offset) >= len(all) {
		p.log.crash(errDrained)
		return nil, errDrained
	}
	n := min(limit, len(all)-int(p.offset))
	out := append([]stage.Record(nil), all[p.offset:int(p.offset)+n]...)
	p.offset += int64(n)
	return out, nil
}

func (p *memoryPartition) Close() error { return nil }

// counting numbers what it has seen, in its transaction, and puts every number out: state and outputs must never part.
type counting struct {
	to    string
	crash *int // Handle calls left until it dies inside the transaction
	die   func()
}

func (c counting) Handle(ctx context.Context, tx *sql.Tx, b stage.Batch) (stage.Result, error) {
	var res stage.Result
	for _, r := range b.Records {
		var n int
		if err := tx.QueryRowContext(ctx, `UPDATE counter SET n = n + 1 RETURNING n`).Scan(&n); err != nil {
			return res, err
		}
		res.Outputs = append(res.Outputs, stage.Output{Topic: c.to, Key: r.Key, Value: fmt.Appendf(nil, "%s#%d", r.Value, n)})
	}
	if c.crash != nil {
		if *c.crash--; *c.crash == -1 {
			c.die()
			return res, errCrash
		}
	}
	return res, nil
}

func openStore(t testing.TB, path string) (*sqlite.DB, *sqlite.StageStore[*sql.Tx]) {
	db, err := sqlite.Open(context.Background(), path, sqlite.Options{Migrations: []string{
		sqlite.StageSchema, sqlite.StageBatchSchema, sqlite.StageMarkSchema, `CREATE TABLE counter (n INTEGER NOT NULL); INSERT INTO counter VALUES (0);`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return db, sqlite.NewStageStore(db, func(tx *sqlite.Tx) *sql.Tx { return tx.Tx })
}

// run lets a stage move everything there is, or die.
func run(log *memoryLog, store stage.Store[*sql.Tx], name, from, to string, batch int, dieInHandle int) error {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	log.crash = cancel
	h := counting{to: to, die: func() { cancel(errCrash) }}
	if dieInHandle >= 0 {
		h.crash = &dieInHandle
	}
	r, err := stage.New(stage.Config{Name: name, Topic: from, BatchSize: batch}, store, log, h, telemetry.Nop())
	if err != nil {
		return err
	}
	return r.RunPartition(ctx, 0, nil)
}

// Two stages in a row, each dying at random points and started again: what comes out is every input once, in order, and the
// first stage's numbering shows that its state and its outputs never parted.
func TestCrashesAnywhereLoseNothingAndRepeatNothing(t *testing.T) {
	dir := t.TempDir()
	count := 0
	rapid.Check(t, func(rt *rapid.T) {
		count++
		log := newMemoryLog()
		total := rapid.IntRange(1, 40).Draw(rt, "records")
		for i := range total {
			log.append("in", stage.Output{Key: []byte("k"), Value: []byte(strconv.Itoa(i))})
		}
		one, first := openStore(t, filepath.Join(dir, fmt.Sprintf("%d-1.db", count)))
		two, second := openStore(t, filepath.Join(dir, fmt.Sprintf("%d-2.db", count)))
		defer func() { _, _ = one.Close(), two.Close() }()
		for range rapid.IntRange(0, 8).Draw(rt, "crashes") {
			log.dieBefore = rapid.IntRange(-1, 5).Draw(rt, "before")
			log.dieAfter = rapid.IntRange(-1, 5).Draw(rt, "after")
			inside := rapid.IntRange(-1, 5).Draw(rt, "inside")
			batch := rapid.IntRange(1, 10).Draw(rt, "batch")
			if rapid.Bool().Draw(rt, "second stage") {
				_ = run(log, second, "second", "mid", "out", batch, inside)
			} else {
				_ = run(log, first, "first", "in", "mid", batch, inside)
			}
		}
		log.dieBefore, log.dieAfter = -1, -1
		for _, s := range []struct {
			store    stage.Store[*sql.Tx]
			from, to string
		}{{first, "in", "mid"}, {second, "mid", "out"}} {
			if err := run(log, s.store, s.from, s.from, s.to, 7, -1); !errors.Is(err, errDrained) {
				rt.Fatalf("the last run ended with %v", err)
			}
		}
		checkOutcome(rt, log.topics["out"], total)
	})
}

// checkOutcome wants "0#1#1", "1#2#2", … ; the topic itself may hold repeats, which a third stage would drop by their links.
func checkOutcome(rt *rapid.T, out []stage.Record, total int) {
	next, seen := 0, map[string]bool{}
	for _, r := range out {
		var link string
		for _, h := range r.Headers {
			if h.Key == stage.LinkHeader {
				link = string(h.Value)
			}
		}
		if seen[link] {
			continue
		}
		seen[link] = true
		if want := fmt.Sprintf("%d#%d#%d", next, next+1, next+1); string(r.Value) != want {
			rt.Fatalf("output %d is %q, want %q", next, r.Value, want)
		}
		next++
	}
	if next != total {
		rt.Fatalf("%d of %d records came out", next, total)
	}
}

func TestAZombieIsFenced(t *testing.T) {
	db, store := openStore(t, filepath.Join(t.TempDir(), "s.db"))
	defer func() { _ = db.Close() }()
	ctx := t.Context()
	zombie, _, err := store.Claim(ctx, "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	owner, _, err := store.Claim(ctx, "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	update := func(p stage.Position) error {
		return store.Update(ctx, func(ctx context.Context, tx *sql.Tx) (stage.Advance, error) {
			_, err := tx.ExecContext(ctx, `UPDATE counter SET n = n + 1`)
			p.Next = 1
			return stage.Advance{Position: p}, err
		})
	}
	if err := update(owner); err != nil {
		t.Errorf("the owner was refused: %v", err)
	}
	if err := update(zombie); !errors.Is(err, stage.ErrFenced) {
		t.Errorf("the zombie got %v, want ErrFenced", err)
	}
	var n int
	if err := db.Read.QueryRowContext(ctx, `SELECT n FROM counter`).Scan(&n); err != nil || n != 1 {
		t.Errorf("the zombie's write stayed: counter is %d, %v", n, err)
	}
}

// timer asks to be woken and counts how often it is.
type timer struct {
	after time.Duration
	woken chan time.Time
}

func (h timer) Handle(_ context.Context, _ *sql.Tx, b stage.Batch) (stage.Result, error) {
	if len(b.Records) > 0 {
		return stage.Result{Due: b.Now.Add(h.after)}, nil
	}
	return stage.Result{Committed: func() { h.woken <- b.Now }}, nil
}

// waiting lets a fetch wait as it is asked to, and counts.
type waiting struct {
	memoryPartition
	records []stage.Record
}

func (p *waiting) Fetch(ctx context.Context, _ int, wait time.Duration) ([]stage.Record, error) {
	if out := p.records; len(out) > 0 {
		p.records = nil
		return out, nil
	}
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-time.After(wait):
		return nil, nil
	}
}

type waitingLog struct {
	memoryLog
	records []stage.Record
}

func (l *waitingLog) Open(context.Context, string, int, int64) (stage.Partition, error) {
	return &waiting{records: l.records}, nil
}

func TestATimerWakesTheHandlerWithoutRecordsAlsoAfterARestart(t *testing.T) {
	db, store := openStore(t, filepath.Join(t.TempDir(), "s.db"))
	defer func() { _ = db.Close() }()
	h := timer{after: 80 * time.Millisecond, woken: make(chan time.Time, 1)}
	start := func(records ...stage.Record) (wait func() error, stop func()) {
		log := &waitingLog{memoryLog: *newMemoryLog(), records: records}
		r, err := stage.New(stage.Config{Name: "t", Topic: "in"}, store, log, h, telemetry.Nop())
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		committed := make(chan struct{}, 1)
		go func() { done <- r.RunPartition(ctx, 0, func(int64) error { committed <- struct{}{}; return nil }) }()
		if len(records) > 0 {
			<-committed
		}
		return func() error { return <-done }, cancel
	}
	before := time.Now()
	wait, stop := start(stage.Record{Topic: "in", Offset: 0})
	stop() // dies while the timer runs
	if err := wait(); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	wait, stop = start()
	at := <-h.woken
	stop()
	_ = wait()
	if d := at.Sub(before); d < h.after {
		t.Errorf("woken after %s, asked for %s", d, h.after)
	}
}
