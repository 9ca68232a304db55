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

// progress gathers how far the partitions of a generation are.
type progress struct {
	topic  string
	logger *slog.Logger
	commit func(map[string]map[int]int64) error

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

// take removes what Kafka has not been told: of one partition, or of all that are there now.
func (p *progress) take(only func(partition int) bool) map[int]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	taken := map[int]int64{}
	maps.Copy(taken, p.reached)
	maps.DeleteFunc(taken, func(partition int, _ int64) bool { return !only(partition) })
	maps.DeleteFunc(p.reached, func(partition int, _ int64) bool { return only(partition) })
	return taken
}

// tell commits what Kafka has not been told of. The store has it too, so that a failure costs nothing but a lag that looks too long until
// the next time.
func (p *progress) tell(only func(partition int) bool) {
	p.telling.Lock()
	defer p.telling.Unlock()
	offsets := p.take(only)
	if len(offsets) == 0 {
		return
	}
	if err := p.commit(map[string]map[int]int64{p.topic: offsets}); err != nil {
		p.logger.Debug("committing offsets to Kafka failed; the store has them", "offsets", offsets, "error", err)
	}
}

// keepCommitted commits offsets until the generation ends.
func (p *progress) keepCommitted(ctx context.Context) {
	tick := time.NewTicker(commitEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			p.tell(func(int) bool { return true })
		}
	}
}

// leave commits the offset of a partition that stops.
func (p *progress) leave(partition int) {
	p.tell(func(other int) bool { return other == partition })
}
