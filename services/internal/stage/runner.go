package stage

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Config says what a stage reads and how.
type Config struct {
	// Name is the consumer group and the stage's name in spans and metrics: dedupe, sequencer, …
	Name string
	// Topic is what it reads.
	Topic string
	// BatchSize bounds how many records one transaction decides on; 0: 2,000. What a transaction costs by itself (a synced
	// commit, a synced produce, pages that several records share) is spread over them.
	BatchSize int
	// Gate, if not nil, is waited for before each fetch, so that a stage whose work piles up stops reading.
	Gate func(context.Context) error
	// Rest, if not nil, is called after each batch with the time that it took, so that a stage can give way to requests.
	Rest func(ctx context.Context, took time.Duration)
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Jitter says how long to wait before a step that failed is tried again, of at most the given time; nil: at random.
	Jitter func(longest time.Duration) time.Duration
}

const (
	// idleWait is how long one fetch waits for records; a partition that ends is noticed that late at the most.
	idleWait = 500 * time.Millisecond
	// clearAfter is how long an outbox that was produced stays before an idle partition clears it with a transaction of its own.
	clearAfter = time.Second
	// trust is how long a log is believed to be the one that was read after it last answered. Nobody deletes a topic, makes it anew and fills
	// it as far in less, and stages that keep up ask more often.
	trust = 2 * time.Second
	// firstDelay and longestWait bound the pauses of a stage that cannot go on. The longest one is what it may come late when it could again.
	firstDelay  = 20 * time.Millisecond
	longestWait = time.Second
	// tellEvery is how many tries lie between two lines in the log, once there have been as many.
	tellEvery = 16
)

// Grace is how long a batch that was begun may go on after its partition was told to stop: finished work is not done again by the next owner.
const Grace = 5 * time.Second

// afterwards returns a context that ends for the given time after ctx does, for the same cause.
func afterwards(ctx context.Context, grace time.Duration) (context.Context, func()) {
	longer, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-longer.Done():
		case <-timer.C:
			cancel(context.Cause(ctx))
		}
	})
	return longer, func() { stop(); cancel(nil) }
}

// Runner runs a stage over the partitions that it is given.
type Runner[T any] struct {
	cfg     Config
	store   Store[T]
	log     Log
	handler Handler[T]
	tel     telemetry.Telemetry
	tracer  trace.Tracer
	meters  meters
}

// New returns a runner. Its partitions are run by RunPartition.
func New[T any](cfg Config, store Store[T], log Log, handler Handler[T], tel telemetry.Telemetry) (*Runner[T], error) {
	if cfg.BatchSize == 0 {
		cfg.BatchSize = 2000
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Jitter == nil {
		cfg.Jitter = rand.N[time.Duration]
	}
	m, err := newMeters(tel)
	if err != nil {
		return nil, fmt.Errorf("meters of stage %s: %w", cfg.Name, err)
	}
	m.begin(cfg.Name)
	return &Runner[T]{
		cfg: cfg, store: store, log: log, handler: handler, tel: tel.Named(cfg.Name),
		tracer: tel.Tracer("github.com/hookmesh/hookmesh/services/internal/stage"), meters: m,
	}, nil
}

// Name is the stage's name: the consumer group.
func (r *Runner[T]) Name() string { return r.cfg.Name }

// Topic is what the stage reads.
func (r *Runner[T]) Topic() string { return r.cfg.Topic }

// RunPartition claims a partition and moves its records until ctx ends or another instance claims it (ErrFenced).
// committed, if not nil, is told the next offset after each batch, for whoever shows lag to operators.
func (r *Runner[T]) RunPartition(ctx context.Context, partition int, committed func(next int64) error) error {
	p := &worker[T]{Runner: r, partition: partition, committed: committed}
	if err := p.open(ctx); err != nil {
		return err
	}
	defer func() {
		if err := p.input.Close(); err != nil {
			r.tel.Logger.Warn("closing a partition failed", "topic", r.cfg.Topic, "partition", partition, "error", err)
		}
	}()
	for {
		err := p.turn(ctx)
		if isUnsure(err) && ctx.Err() == nil {
			err = p.claimAgain(ctx, err)
		}
		if err != nil {
			return err
		}
	}
}

// unsureError says that a transaction failed after the handler had decided: it may have been committed all the same.
type unsureError struct{ error }

func (e *unsureError) Unwrap() error { return e.error }

func isUnsure(err error) bool {
	var unsure *unsureError
	return errors.As(err, &unsure)
}

// claimAgain finds out what the store holds after a commit of unknown fate. To decide once more on what may be decided
// already, from a position that may be passed already, would lose outputs.
func (w *worker[T]) claimAgain(ctx context.Context, cause error) error {
	w.tel.Logger.Warn("a commit failed and may have happened; claiming the partition again", "topic", w.cfg.Topic, "partition", w.partition, "error", cause)
	w.meters.retries.Add(ctx, 1, withStage(w.cfg.Name, attribute.String("step", "commit")))
	if err := w.input.Close(); err != nil {
		return fmt.Errorf("close the partition: %w", err)
	}
	w.idleSince, w.cleared = time.Time{}, 0
	return w.open(ctx)
}

// worker is one partition's loop.
type worker[T any] struct {
	*Runner[T]
	partition int
	committed func(next int64) error
	input     Partition
	pos       Position
	produced  int64     // newest Seq known to be in Kafka
	cleared   int64     // newest Seq whose outbox row is deleted
	idleSince time.Time // since when there was nothing to do
	believed  time.Time // when the input last was the log that was read; zero: it failed since
}

// open claims the partition, produces what its last owner left in the outbox, and opens the input. What it numbers from here
// on belongs to a new epoch, which reaches the store with the first update, together with the end of the old outbox.
func (w *worker[T]) open(ctx context.Context) error {
	var pending []Pending
	err := w.retry(ctx, "claim", func() (err error) {
		w.pos, pending, err = w.store.Claim(ctx, w.cfg.Topic, w.partition)
		return err
	})
	if err != nil {
		return err
	}
	if len(pending) > 0 {
		w.tel.Logger.Info("producing what the last owner of the partition left", "topic", w.cfg.Topic, "partition", w.partition, "records", len(pending))
		if err := w.produce(ctx, w.linked(pending)); err != nil {
			return err
		}
	}
	w.produced = w.pos.Seq
	w.pos.Epoch = nextEpoch(w.pos.Epoch, w.pos.Fence)
	return w.openInput(ctx)
}

// openInput reads from the position on. If the log does not hold it, or holds it by accident, the position moves to where the log
// begins, at once and in the store: what it says of offsets that are no more must not make new records look old.
func (w *worker[T]) openInput(ctx context.Context) error {
	return w.retry(ctx, "open", func() error {
		input, err := w.log.Open(ctx, w.cfg.Topic, w.partition, w.pos.Next)
		if err == nil {
			if err = w.compare(ctx); err != nil {
				err = errors.Join(err, input.Close())
			}
		}
		var gone *OffsetError
		if errors.As(err, &gone) {
			if err := w.reposition(ctx, gone); err != nil {
				return err
			}
			input, err = w.log.Open(ctx, w.cfg.Topic, w.partition, w.pos.Next)
		}
		if err != nil {
			return err
		}
		w.input, w.believed = input, w.cfg.Now()
		return nil
	})
}

// reposition reports what was lost and moves the position to the oldest record.
func (w *worker[T]) reposition(ctx context.Context, gone *OffsetError) error {
	pos := w.pos
	pos.Next, pos.Mark = gone.First, ""
	err := w.store.Update(ctx, func(context.Context, T) (Advance, error) {
		return Advance{From: w.pos.At(), Position: pos, Produced: w.produced}, nil
	})
	if err != nil {
		return fmt.Errorf("move the position to offset %d: %w", gone.First, err)
	}
	w.pos, w.cleared = pos, w.produced
	w.tel.Logger.Error("records were lost before this stage read them; the reconciler's next sweep finds what changed", "topic", w.cfg.Topic, "partition", w.partition, "error", gone)
	w.meters.lost(ctx, w.cfg.Name, gone)
	return nil
}

// reopen opens the input again where the log holds something.
func (w *worker[T]) reopen(ctx context.Context) error {
	if err := w.input.Close(); err != nil {
		return fmt.Errorf("close the partition: %w", err)
	}
	return w.openInput(ctx)
}

// turn is one round: wait, fetch, decide, produce.
func (w *worker[T]) turn(ctx context.Context) error {
	if w.cfg.Gate != nil {
		if err := w.cfg.Gate(ctx); err != nil {
			return err
		}
	}
	var records []Record
	err := w.retry(ctx, "fetch", func() (err error) {
		records, err = w.fetch(ctx)
		return err
	})
	if err != nil {
		return err
	}
	now := w.cfg.Now()
	due := !w.pos.Due.IsZero() && !w.pos.Due.After(now)
	if len(records) == 0 && !due {
		return w.idle(ctx, now)
	}
	w.idleSince = time.Time{}
	began := time.Now()
	graceful, done := afterwards(ctx, Grace)
	defer done()
	if err := w.step(graceful, records, now); err != nil {
		return err
	}
	if w.cfg.Rest != nil {
		w.cfg.Rest(ctx, time.Since(began))
	}
	return nil
}

// fetch asks for the next records. While it was not asked, or could not answer, a topic may have been deleted, made anew and filled again: a log that
// holds the position shows that only when it is opened, which compares.
func (w *worker[T]) fetch(ctx context.Context) ([]Record, error) {
	if w.cfg.Now().Sub(w.believed) > trust {
		if err := w.reopen(ctx); err != nil {
			return nil, err
		}
	}
	records, err := w.input.Fetch(ctx, w.cfg.BatchSize, w.wait())
	var gone *OffsetError
	switch {
	case errors.As(err, &gone):
		return nil, w.reopen(ctx)
	case err != nil:
		w.believed = time.Time{}
		return nil, err
	}
	w.believed = w.cfg.Now()
	return records, nil
}

// wait is how long the next fetch may wait: until the next timer at the most.
func (w *worker[T]) wait() time.Duration {
	if w.pos.Due.IsZero() {
		return idleWait
	}
	return min(idleWait, max(0, w.pos.Due.Sub(w.cfg.Now())))
}

// idle clears the outbox of a partition that has been quiet for a while, so that a restart has nothing to repeat.
func (w *worker[T]) idle(ctx context.Context, now time.Time) error {
	if w.cleared == w.produced {
		return nil
	}
	if w.idleSince.IsZero() {
		w.idleSince = now
		return nil
	}
	if now.Sub(w.idleSince) < clearAfter {
		return nil
	}
	err := w.retry(ctx, "clear the outbox", func() error {
		return w.store.Update(ctx, func(context.Context, T) (Advance, error) {
			return Advance{From: w.pos.At(), Position: w.pos, Produced: w.produced}, nil
		})
	})
	if err == nil {
		w.cleared = w.produced
	}
	return err
}

// step decides on a batch in one transaction, then produces its outputs. Only when they are in Kafka does the next batch begin.
func (w *worker[T]) step(ctx context.Context, fetched []Record, now time.Time) error {
	records, passed := w.fresh(fetched)
	spans := w.startSpans(records)
	defer endSpans(spans)
	batch := Batch{Topic: w.cfg.Topic, Partition: w.partition, Records: records, Now: now}

	var result Result
	var advance Advance
	err := w.retry(ctx, "decide", func() error {
		decided := false
		err := w.store.Update(ctx, func(ctx context.Context, tx T) (_ Advance, err error) {
			if result, err = w.handler.Handle(ctx, tx, batch); err != nil {
				return Advance{}, err
			}
			advance, decided = w.advance(result, passed), true
			return advance, nil
		})
		if err != nil && decided && (!errors.Is(err, ErrFenced) || errors.Is(err, ErrWentBack)) {
			return &unsureError{err}
		}
		return err
	})
	if err != nil {
		return err
	}
	w.pos, w.cleared = advance.Position, w.produced
	if result.Committed != nil {
		result.Committed()
	}
	w.meters.batch(ctx, w.cfg.Name, len(records), len(advance.Outbox))
	if err := w.produce(ctx, w.linked(advance.Outbox)); err != nil {
		return err
	}
	w.produced = w.pos.Seq
	if len(records) > 0 {
		w.meters.took(records[0].Context, w.cfg.Name, records, now, w.cfg.Now())
	}
	if w.committed != nil && len(fetched) > 0 {
		if err := w.committed(w.pos.Next); err != nil {
			w.tel.Logger.Debug("committing the offset to Kafka failed; the store has it", "topic", w.cfg.Topic, "partition", w.partition, "error", err)
		}
	}
	return nil
}

// passed is what a batch has passed.
type passed struct {
	next  int64
	mark  string
	links map[string]int64
}

// fresh drops records that the store has already passed, by offset or by link, and returns what is passed after the batch.
func (w *worker[T]) fresh(fetched []Record) ([]Record, passed) {
	next, links, mark := w.pos.Next, w.pos.Links, w.pos.Mark
	copied := false
	records := make([]Record, 0, len(fetched))
	for _, rec := range fetched {
		if rec.Offset < next {
			continue
		}
		next = rec.Offset + 1
		if epoch, seq, ok := link(rec.Headers); ok {
			if seq <= links[epoch] {
				continue
			}
			if !copied {
				if links = maps.Clone(links); links == nil {
					links = map[string]int64{}
				}
				copied = true
			}
			passLink(links, epoch, seq)
		}
		records = append(records, rec)
	}
	if n := len(fetched); n > 0 && fetched[n-1].Offset == next-1 {
		mark = markOf(fetched[n-1])
	}
	return records, passed{next, mark, links}
}

// advance numbers the outputs and says what the transaction moves forward.
func (w *worker[T]) advance(result Result, p passed) Advance {
	pos := w.pos
	pos.Next, pos.Mark, pos.Links, pos.Due = p.next, p.mark, p.links, result.Due
	outbox := make([]Pending, len(result.Outputs))
	for i, out := range result.Outputs {
		pos.Seq++
		out.Headers = withTrace(out.Headers, out.Context)
		outbox[i] = Pending{Seq: pos.Seq, Output: out}
	}
	return Advance{From: w.pos.At(), Position: pos, Outbox: outbox, Produced: w.produced}
}

// linked returns the outputs with their links.
func (w *worker[T]) linked(pending []Pending) []Output {
	outputs := make([]Output, len(pending))
	for i, p := range pending {
		outputs[i] = p.Output
		link := Header{Key: LinkHeader, Value: formatLink(w.pos.Epoch, p.Seq)}
		outputs[i].Headers = slices.Concat(p.Output.Headers, []Header{link})
	}
	return outputs
}

func (w *worker[T]) produce(ctx context.Context, outputs []Output) error {
	if len(outputs) == 0 {
		return nil
	}
	return w.retry(ctx, "produce", func() error { return w.log.Produce(ctx, outputs) })
}

// retry repeats what failed, with exponential backoff and full jitter, until it succeeds, ctx ends or the partition is lost.
func (w *worker[T]) retry(ctx context.Context, what string, fn func() error) error {
	delay := firstDelay
	for tries := 1; ; tries++ {
		err := fn()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrFenced), errors.Is(err, ErrUncertain):
			return fmt.Errorf("%s %s/%d: %w", what, w.cfg.Topic, w.partition, err)
		case isUnsure(err):
			return err
		}
		if tries < tellEvery || tries%tellEvery == 0 {
			w.tel.Logger.Warn("a stage could not go on; trying again", "step", what, "topic", w.cfg.Topic, "partition", w.partition, "tries", tries, "delay", delay, "error", err)
		}
		w.meters.retries.Add(ctx, 1, withStage(w.cfg.Name, attribute.String("step", what)))
		timer := time.NewTimer(w.cfg.Jitter(delay) + time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		delay = min(2*delay, longestWait)
	}
}
