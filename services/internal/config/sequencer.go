package config

import "time"

// Sequencer bounds what waits for its order, and for how long deletions are remembered.
type Sequencer struct {
	// MaxHeld is how many events may wait for one document; 0: 100. One more ends the wait: what is held passes, marked.
	MaxHeld int `yaml:"max_held"`
	// MaxHeldTotal is how many events may wait in one partition, in the same way; 0: 10,000.
	MaxHeldTotal int `yaml:"max_held_total"`
	// TombstoneTTL is how long a deleted document or container is remembered, so that a late update does not bring it back;
	// 0: 30 days. At least 1 h.
	TombstoneTTL time.Duration `yaml:"tombstone_ttl"`
}

func (c *checker) sequencer(s Sequencer) {
	c.atLeast("sequencer.max_held", int64(s.MaxHeld), 0)
	c.atLeast("sequencer.max_held_total", int64(s.MaxHeldTotal), 0)
	if s.TombstoneTTL != 0 && s.TombstoneTTL < time.Hour {
		c.report("sequencer.tombstone_ttl", "%s is less than 1h: a late update would bring back what was deleted", s.TombstoneTTL)
	}
}
