package kafka

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"
)

// commitEvery is how often offsets are committed to Kafka. They only show operators how far a group is: where a stage goes on stands in
// its store. One commit of all partitions per second costs the brokers, whose replicas write it too, far less than one per batch.
const commitEvery = time.Second

// progress gathers how far the partitions of a member are.
type progress struct {
	topic  string
	logger *slog.Logger
	commit func(map[int]int64) error

	// telling keeps commits in their order.
	telling sync.Mutex
	mu      sync.Mutex
	// reached holds offsets that Kafka has not been told.
	reached map[int]int64
}

// reach notes the next offset of a partition.
func (p *progress) reach(partition int, next int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reached == nil {
		p.reached = map[int]int64{}
	}
	p.reached[partition] = next
}

// take removes what Kafka has not been told.
func (p *progress) take() map[int]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := p.reached
	p.reached = nil
	return taken
}

// forget removes what Kafka has not been told of a partition that is another's now.
func (p *progress) forget(partition int) (next int64, was bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next, was = p.reached[partition]
	delete(p.reached, partition)
	return next, was
}

// tell commits what Kafka has not been told of. The store has it too, so that a failure costs nothing but a lag that looks too long until
// the next time.
func (p *progress) tell() {
	p.telling.Lock()
	defer p.telling.Unlock()
	offsets := p.take()
	if len(offsets) == 0 {
		return
	}
	err := p.commit(offsets)
	if err == nil {
		return
	}
	p.logger.Debug("committing offsets to Kafka failed; the store has them", "offsets", offsets, "error", err)
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.Copy(offsets, p.reached) // what was reached meanwhile is newer
	p.reached = offsets
}

// keepCommitted commits offsets until ctx ends.
func (p *progress) keepCommitted(ctx context.Context) {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.tell()
		}
	}
}

// leave commits the offset of a partition that another member goes on with, unless that one has committed a later offset already. Whoever
// goes on says nothing until there is something to do, so this may be the last word for a long time.
func (p *progress) leave(partition int, committed func() (int64, error)) {
	p.telling.Lock()
	defer p.telling.Unlock()
	next, was := p.forget(partition)
	if !was {
		return
	}
	already, err := committed()
	if err == nil && already < next {
		err = p.commit(map[int]int64{partition: next})
	}
	if err != nil {
		p.logger.Debug("committing the offset of a partition that was given up failed; the store has it", "partition", partition, "offset", next, "error", err)
	}
}
