// Package batch lets callers that ask at the same time share one request. Nobody waits for company: the first caller goes at once; those that
// come while a request is under way go together as soon as a lane is free, or one more is opened. It has no goroutines that stay: one of the
// waiting callers does the work for the others.
package batch

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
)

// Config bounds the batches.
type Config[Q any] struct {
	// Lanes is how many requests are under way at once; 0: 2.
	Lanes int
	// MaxItems bounds a batch; 0: 64.
	MaxItems int
	// MaxWeight bounds the sum of Weight over a batch; a heavier question goes alone. 0: not bounded.
	MaxWeight int
	// Weight says how heavy a question is; nil: 1.
	Weight func(Q) int
	// Patience is how long those that wait believe that the requests under way are about to end: they take another lane only if no request has
	// begun for so long, or those before them filled one. It makes fewer and larger batches, and bounds what a slow request costs the others.
	// 0: they take another lane at once.
	Patience time.Duration
}

// Do answers questions in their order. The context is that of one of the callers, without its cancellation: set a timeout.
type Do[Q, A any] func(ctx context.Context, questions []Q) ([]A, error)

// Batcher coalesces calls. Use New.
type Batcher[Q, A any] struct {
	do  Do[Q, A]
	cfg Config[Q]

	mu    sync.Mutex
	queue []*call[Q, A]
	busy  int
	// begun is when the last request began, and armed says that a timer will look whether that is too long ago. Both are for Patience only.
	begun time.Time
	armed bool
	// idle keeps calls that have ended, with their channels.
	idle sync.Pool
}

// call is one caller's question.
type call[Q, A any] struct {
	question Q
	// signal tells a caller in the queue, once, what to do: read the answer, or lead the next batch. A leader is out of the
	// queue and owns a lane.
	signal chan signal
	answer A
	err    error
}

type signal int

const (
	answered signal = iota
	lead
)

// New returns a batcher that answers with do.
func New[Q, A any](cfg Config[Q], do Do[Q, A]) *Batcher[Q, A] {
	if cfg.Lanes == 0 {
		cfg.Lanes = 2
	}
	if cfg.MaxItems == 0 {
		cfg.MaxItems = 64
	}
	if cfg.Weight == nil {
		cfg.Weight = func(Q) int { return 1 }
	}
	b := &Batcher[Q, A]{do: do, cfg: cfg}
	b.idle.New = func() any { return &call[Q, A]{signal: make(chan signal, 1)} }
	return b
}

// Do asks. If ctx ends first it returns ctx's error, though the question may still be answered.
func (b *Batcher[Q, A]) Do(ctx context.Context, question Q) (A, error) {
	c := b.idle.Get().(*call[Q, A]) //nolint:forcetypeassert // the pool holds nothing else
	c.question = question
	if leads := b.enter(c); !leads {
		select {
		case what := <-c.signal:
			leads = what == lead
		case <-ctx.Done():
			b.leave(c)
			var none A
			return none, ctx.Err()
		}
		if !leads {
			return b.release(c)
		}
	}
	if err := ctx.Err(); err != nil { // the lane and the end came at once; the others would have to wait for what nobody does
		b.pass()
		b.release(c) //nolint:errcheck // it was not answered
		var none A
		return none, err
	}
	runtime.Gosched() // those that are about to ask come along, which on an idle machine takes no time
	b.run(ctx, c)
	return b.release(c)
}

// enter takes a free lane for the caller, or queues it.
func (b *Batcher[Q, A]) enter(c *call[Q, A]) (leads bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy == 0 || b.busy < b.cfg.Lanes && b.left() <= 0 {
		b.busy++
		b.begin()
		return true
	}
	b.queue = append(b.queue, c)
	b.watch()
	return false
}

// begin notes that a request begins.
func (b *Batcher[Q, A]) begin() {
	if b.cfg.Patience > 0 {
		b.begun = time.Now()
	}
}

// left is how much of the patience is left.
func (b *Batcher[Q, A]) left() time.Duration {
	if b.cfg.Patience <= 0 {
		return 0
	}
	return b.cfg.Patience - time.Since(b.begun)
}

// watch sees to it that those that wait get another lane when their patience ends.
func (b *Batcher[Q, A]) watch() {
	if b.armed || len(b.queue) == 0 || b.busy >= b.cfg.Lanes {
		return
	}
	b.armed = true
	time.AfterFunc(max(b.left(), 0), func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.armed = false
		if b.left() <= 0 {
			b.open()
		}
		b.watch()
	})
}

// open gives another lane to the caller that has waited longest, if there are both.
func (b *Batcher[Q, A]) open() {
	if len(b.queue) > 0 && b.busy < b.cfg.Lanes {
		b.busy++
		b.give()
	}
}

// give gives a lane to the caller that has waited longest.
func (b *Batcher[Q, A]) give() {
	leader := b.queue[0]
	b.drop(1)
	b.begin()
	leader.signal <- lead // it has room: a call in the queue is told once
}

// release returns a call's answer and keeps the call for another caller.
func (b *Batcher[Q, A]) release(c *call[Q, A]) (A, error) {
	answer, err := c.answer, c.err
	*c = call[Q, A]{signal: c.signal}
	b.idle.Put(c)
	return answer, err
}

// run answers the leader's question together with those that wait, and gives the lane on.
func (b *Batcher[Q, A]) run(ctx context.Context, leader *call[Q, A]) {
	defer b.pass()
	calls := b.take(leader)
	questions := make([]Q, len(calls))
	for i, c := range calls {
		questions[i] = c.question
	}
	answers, err := b.ask(ctx, questions)
	for i, c := range calls {
		if c.err = err; err == nil {
			c.answer = answers[i]
		}
		if c != leader {
			c.signal <- answered
		}
	}
}

// ask calls do, and does not let a panic leave the others waiting for ever.
func (b *Batcher[Q, A]) ask(ctx context.Context, questions []Q) (answers []A, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a batch of %d panicked: %v", len(questions), p)
		}
	}()
	answers, err = b.do(context.WithoutCancel(ctx), questions)
	if err == nil && len(answers) != len(questions) {
		err = fmt.Errorf("%d answers to %d questions", len(answers), len(questions))
	}
	return answers, err
}

// take removes the next batch from the queue.
func (b *Batcher[Q, A]) take(leader *call[Q, A]) []*call[Q, A] {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, weight := 0, b.cfg.Weight(leader.question)
	for n < len(b.queue) && n+1 < b.cfg.MaxItems {
		weight += b.cfg.Weight(b.queue[n].question)
		if b.cfg.MaxWeight > 0 && weight > b.cfg.MaxWeight {
			break
		}
		n++
	}
	calls := make([]*call[Q, A], 1, n+1)
	calls[0] = leader
	calls = append(calls, b.queue[:n]...)
	b.drop(n)
	b.open() // for those that found no room
	return calls
}

// drop removes the first n of the queue.
func (b *Batcher[Q, A]) drop(n int) {
	b.queue = slices.Delete(b.queue, 0, n)
}

// pass gives the lane to the caller that has waited longest, or frees it.
func (b *Batcher[Q, A]) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.busy--
		return
	}
	b.give()
}

// leave takes a caller out of the queue that gives up. If it was just given a lane, the lane goes on. Its call is not used
// again, because it may still be answered.
func (b *Batcher[Q, A]) leave(c *call[Q, A]) {
	b.mu.Lock()
	if i := slices.Index(b.queue, c); i >= 0 {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	b.mu.Unlock()
	select {
	case what := <-c.signal:
		if what == lead {
			b.pass()
		}
	default:
	}
}
