package kafka

import (
	"sync"
	"time"
)

// membership counts, per consumer group, the partitions that this process runs now.
type membership struct {
	mu     sync.Mutex
	groups map[string]*member
}

type member struct {
	partitions int64
	// joined says that the group has given this process its share, which may be empty.
	joined bool
	// left is since when it is not, after it was; zero: it never was, or is.
	left time.Time
}

func (m *membership) change(group string, fn func(*member)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups == nil {
		m.groups = map[string]*member{}
	}
	if m.groups[group] == nil {
		m.groups[group] = &member{}
	}
	fn(m.groups[group])
}

func (m *membership) of(group string) (n int64) {
	m.change(group, func(g *member) { n = g.partitions })
	return n
}

// rejoinPatience is how long a rebalance may take before it counts as an absence.
const rejoinPatience = time.Minute

// Joined says whether this process does its share of a consumer group's work, or stands by in it. A rebalance does not count as an absence
// unless it lasts for a minute.
func (l *Log) Joined(group string) (yes bool) {
	l.assigned.change(group, func(m *member) {
		yes = m.joined || !m.left.IsZero() && time.Since(m.left) < rejoinPatience
	})
	return yes
}
