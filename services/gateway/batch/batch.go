// Package batch lets callers that ask at the same time share one request. Nobody waits for company: the first caller goes at
// once; those that come while all lanes are busy go together as soon as one is free. It has no goroutines of its own: one of
// the waiting callers does the work for the others.
package batch

import (
	"context"
	"fmt"
	"sync"
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
}

// call is one caller's question.
type call[Q, A any] struct {
	question Q
	answered chan struct{} // closed after answer and err are set
	lead     chan struct{} // closed when the caller has to do the next batch; it owns a lane then and is out of the queue
	answer   A
	err      error
}

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
	return &Batcher[Q, A]{do: do, cfg: cfg}
}

// Do asks. If ctx ends first it returns ctx's error, though the question may still be answered.
func (b *Batcher[Q, A]) Do(ctx context.Context, question Q) (A, error) {
	c := &call[Q, A]{question: question, answered: make(chan struct{}), lead: make(chan struct{})}
	b.mu.Lock()
	if b.busy < b.cfg.Lanes { // then nobody waits
		b.busy++
		b.mu.Unlock()
		b.run(ctx, c)
		return c.answer, c.err
	}
	b.queue = append(b.queue, c)
	b.mu.Unlock()
	select {
	case <-c.answered:
	case <-c.lead:
		b.run(ctx, c)
	case <-ctx.Done():
		var none A
		b.leave(c)
		return none, ctx.Err()
	}
	return c.answer, c.err
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
		close(c.answered)
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
	calls := append([]*call[Q, A]{leader}, b.queue[:n]...)
	b.drop(n)
	return calls
}

// drop removes the first n of the queue.
func (b *Batcher[Q, A]) drop(n int) {
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
}

// pass gives the lane to the caller that has waited longest, or frees it.
func (b *Batcher[Q, A]) pass() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		b.busy--
		return
	}
	leader := b.queue[0]
	b.drop(1)
	close(leader.lead)
}

// leave takes a caller out of the queue that gives up. If it was just given a lane, the lane goes on.
func (b *Batcher[Q, A]) leave(c *call[Q, A]) {
	b.mu.Lock()
	for i, other := range b.queue {
		if other == c {
			b.queue = append(b.queue[:i:i], b.queue[i+1:]...)
			break
		}
	}
	b.mu.Unlock()
	select {
	case <-c.lead:
		b.pass()
	default:
	}
}
