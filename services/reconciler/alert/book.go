// Package alert tells people about incidents: few messages that say what began, what goes on and what is over, however many
// events are behind them. Book decides what is told and when, from values alone; Sender carries it to where it is wanted.
package alert

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// Condition is something wrong that holds at a moment.
type Condition struct {
	// Kind is a stable word for machines (dead-letters, breaker, drift, …); Source is what it concerns, empty: the whole of hookmesh.
	Kind   string `json:"kind"`
	Source string `json:"source,omitempty"`
	// Text is a sentence for people. It holds no secret.
	Text string `json:"text"`
	// Count is how much of it there is (letters, documents); 0: it has no number.
	Count int64 `json:"count,omitempty"`
}

func (c Condition) key() string { return c.Kind + "/" + c.Source }

// Incident is a condition over time.
type Incident struct {
	Condition
	// Since is when it was first seen.
	Since time.Time `json:"since"`
	// Seen is when it was last seen.
	Seen time.Time `json:"seen"`
	// Told is when people were last told; zero: not yet.
	Told time.Time `json:"told,omitzero"`
	// ToldCount is the number that they were told.
	ToldCount int64 `json:"told_count,omitempty"`
}

// Policy says how often people are told.
type Policy struct {
	// Group is how long a new incident waits for others that begin with it. It is also the least time between two messages.
	Group time.Duration
	// Repeat is after how long an incident that goes on is told again.
	Repeat time.Duration
	// Settle is how long a condition must be gone before its incident is over: one that comes and goes is one incident.
	Settle time.Duration
	// PerHour bounds the messages. What does not fit is told together when there is room again.
	PerHour int
}

// growth is by how much an incident's number has to grow to be told again before Repeat.
const growth = 10

// Message is what is told at once.
type Message struct {
	Opened   []Incident `json:"opened,omitempty"`
	Ongoing  []Incident `json:"ongoing,omitempty"`
	Resolved []Incident `json:"resolved,omitempty"`
}

// Empty says that there is nothing to tell.
func (m Message) Empty() bool { return len(m.Opened)+len(m.Ongoing)+len(m.Resolved) == 0 }

// Book is what is remembered of incidents. It is small, can be kept as JSON, and survives restarts so that nothing is told twice.
type Book struct {
	Incidents map[string]Incident `json:"incidents"`
	// Sent are the times of the messages of the last hour.
	Sent []time.Time `json:"sent,omitempty"`
}

// See takes in what holds now, and tells nothing.
func (b Book) See(holding []Condition, now time.Time) Book {
	next := Book{Incidents: maps.Clone(b.Incidents)}
	if next.Incidents == nil {
		next.Incidents = map[string]Incident{}
	}
	for _, at := range b.Sent {
		if now.Sub(at) < time.Hour {
			next.Sent = append(next.Sent, at)
		}
	}
	for _, c := range holding {
		in, known := next.Incidents[c.key()]
		if !known {
			in.Since = now
		}
		in.Condition, in.Seen = c, now
		next.Incidents[c.key()] = in
	}
	return next
}

// Observe takes in what holds now, and returns the book after it and what is to be told. Whoever cannot deliver the message keeps what
// See returns instead: nothing is lost, because the next observation yields it again, and what comes and goes meanwhile is not over.
func (b Book) Observe(holding []Condition, p Policy, now time.Time) (Book, Message) {
	next := b.See(holding, now)
	m := next.due(p, now)
	blocked := len(next.Sent) >= p.PerHour || len(next.Sent) > 0 && now.Sub(next.Sent[len(next.Sent)-1]) < p.Group
	if m.Empty() || blocked {
		next.forget(p, now)
		return next, Message{}
	}
	for _, in := range append(slices.Clone(m.Opened), m.Ongoing...) {
		in.Told, in.ToldCount = now, in.Count
		next.Incidents[in.key()] = in
	}
	for _, in := range m.Resolved {
		delete(next.Incidents, in.key())
	}
	next.Sent = append(next.Sent, now)
	next.forget(p, now)
	return next, m
}

// due collects what would be told now. When one new incident has waited long enough, the younger ones come along.
func (b Book) due(p Policy, now time.Time) Message {
	var m Message
	ripe := false
	for _, in := range b.sorted() {
		gone := now.Sub(in.Seen) >= p.Settle
		switch {
		case in.Told.IsZero() && in.Seen.Equal(now):
			m.Opened = append(m.Opened, in)
			ripe = ripe || now.Sub(in.Since) >= p.Group
		case in.Told.IsZero(): // it is over, perhaps, before anybody was told
		case gone:
			m.Resolved = append(m.Resolved, in)
			ripe = true
		case now.Sub(in.Told) >= p.Repeat || in.ToldCount > 0 && in.Count >= growth*in.ToldCount:
			m.Ongoing = append(m.Ongoing, in)
			ripe = true
		}
	}
	if !ripe {
		return Message{}
	}
	return m
}

// forget drops incidents that were over before anybody was told.
func (b Book) forget(p Policy, now time.Time) {
	for key, in := range b.Incidents {
		if in.Told.IsZero() && now.Sub(in.Seen) >= p.Settle {
			delete(b.Incidents, key)
		}
	}
}

func (b Book) sorted() []Incident {
	return slices.SortedFunc(maps.Values(b.Incidents), func(x, y Incident) int {
		return cmp.Or(x.Since.Compare(y.Since), cmp.Compare(x.key(), y.key()))
	})
}
