package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// table is a map whose changes become visible together. Its values must not be changed in place.
type table[K comparable, V any] struct {
	rows map[K]V
	// puts are the changes of the transaction under way; nil: deleted.
	puts map[K]*V
}

func newTable[K comparable, V any]() *table[K, V] {
	return &table[K, V]{rows: map[K]V{}, puts: map[K]*V{}}
}

func (t *table[K, V]) get(k K) (V, bool) {
	if p, changed := t.puts[k]; changed {
		if p == nil {
			var none V
			return none, false
		}
		return *p, true
	}
	v, ok := t.rows[k]
	return v, ok
}

func (t *table[K, V]) put(k K, v V) { t.puts[k] = &v }
func (t *table[K, V]) del(k K)      { t.puts[k] = nil }

// all returns what is there, with the changes of the transaction.
func (t *table[K, V]) all() map[K]V {
	all := maps.Clone(t.rows)
	for k, p := range t.puts {
		if p == nil {
			delete(all, k)
		} else {
			all[k] = *p
		}
	}
	return all
}

func (t *table[K, V]) commit() {
	for k, p := range t.puts {
		if p == nil {
			delete(t.rows, k)
		} else {
			t.rows[k] = *p
		}
	}
	clear(t.puts)
}

func (t *table[K, V]) rollback() { clear(t.puts) }

// hide implements hideable.
func (t *table[K, V]) hide() (show func()) {
	puts := t.puts
	t.puts = nil
	return func() { t.puts = puts }
}

type transactional interface {
	commit()
	rollback()
}

// hideable are changes that a reader must not see before they are committed.
type hideable interface{ hide() (show func()) }

// hooks are where a simulation takes hold: it may let time pass, fail the step, or end the process. Nil: nothing happens.
type hooks interface {
	step(ctx context.Context, what string) error
	// shake may let other goroutines go first, where it must make no difference.
	shake()
}

type place struct {
	topic     string
	partition int
}

// memory is stage.Store: one transaction at a time, all or nothing.
type memory[T any] struct {
	tx     T
	tables []transactional
	hooks  hooks
	name   string
	// turn is held by the transaction under way. A channel, because waiting for it must count as waiting in virtual time.
	turn chan struct{}
	// data guards the tables, for as long as nothing is waited for.
	data      sync.Mutex
	positions *table[place, stage.Position]
	outboxes  *table[place, []stage.Pending]
	epochs    int
}

func newMemory[T any](tx T, name string, h hooks, tables ...transactional) *memory[T] {
	m := &memory[T]{tx: tx, name: name, hooks: h, turn: make(chan struct{}, 1), positions: newTable[place, stage.Position](), outboxes: newTable[place, []stage.Pending]()}
	m.tables = slices.Concat(tables, []transactional{m.positions, m.outboxes})
	return m
}

func (m *memory[T]) step(ctx context.Context, what string) error {
	return m.as(ctx, m.name, what)
}

func (m *memory[T]) as(ctx context.Context, name, what string) error {
	if m.hooks == nil {
		return nil
	}
	return m.hooks.step(ctx, name+" "+what)
}

func (m *memory[T]) lock() {
	m.shake()
	m.turn <- struct{}{}
	m.shake()
}

func (m *memory[T]) unlock() {
	m.shake()
	<-m.turn
	m.shake()
}

func (m *memory[T]) shake() {
	if m.hooks != nil {
		m.hooks.shake()
	}
}

// transaction runs fn, and commits unless it fails or the process dies before.
func (m *memory[T]) transaction(ctx context.Context, fn func() error) error {
	return m.act(ctx, m.name, fn)
}

// act is transaction under a name of its own.
func (m *memory[T]) act(ctx context.Context, name string, fn func() error) error {
	if err := m.as(ctx, name, "begins"); err != nil { // before the lock, so that its order is the scheduler's
		return err
	}
	err := m.change(ctx, name, fn)
	if err != nil {
		return err
	}
	return m.as(ctx, name, "has committed") // after the lock: whoever had it next is running now, and must run alone
}

// change is the part of a transaction that no other one may run beside.
func (m *memory[T]) change(ctx context.Context, name string, fn func() error) error {
	m.lock()
	defer m.unlock()
	err := context.Cause(ctx)
	if err == nil {
		m.data.Lock()
		err = fn()
		m.data.Unlock()
	}
	if err == nil {
		err = m.as(ctx, name, "commits")
	}
	if err == nil {
		err = context.Cause(ctx)
	}
	m.data.Lock()
	defer m.data.Unlock()
	for _, t := range m.tables {
		if err != nil {
			t.rollback()
		} else {
			t.commit()
		}
	}
	return err
}

// read runs fn on what is committed. It waits for nobody, as in a database: those that waited for the transaction under way would run
// beside each other, and beside it, when it ends.
func (m *memory[T]) read(fn func()) {
	m.shake()
	m.data.Lock()
	defer m.data.Unlock()
	for _, t := range m.tables {
		if h, ok := t.(hideable); ok {
			defer h.hide()()
		}
	}
	fn()
}

func (m *memory[T]) Claim(ctx context.Context, topic string, partition int) (pos stage.Position, pending []stage.Pending, err error) {
	at := place{topic, partition}
	err = m.transaction(ctx, func() error {
		var ok bool
		if pos, ok = m.positions.get(at); !ok {
			m.epochs++
			pos = stage.Position{Topic: topic, Partition: partition, Next: -1, Epoch: fmt.Sprint(m.name, "-", m.epochs)}
		}
		pos.Fence++
		pos.Links = maps.Clone(pos.Links)
		m.positions.put(at, pos)
		pending, _ = m.outboxes.get(at)
		return nil
	})
	return pos, slices.Clone(pending), err
}

func (m *memory[T]) Update(ctx context.Context, decide func(context.Context, T) (stage.Advance, error)) error {
	return m.transaction(ctx, func() error {
		a, err := decide(ctx, m.tx)
		if err != nil {
			return err
		}
		at := place{a.Position.Topic, a.Position.Partition}
		if now, _ := m.positions.get(at); now.Fence != a.Position.Fence || (a.From != nil && *a.From != *now.At()) {
			return fmt.Errorf("store position of %s/%d: %w", at.topic, at.partition, stage.NotAdvanced(a.Position, now.Fence))
		}
		pos := a.Position
		pos.Links = maps.Clone(pos.Links)
		m.positions.put(at, pos)
		old, _ := m.outboxes.get(at)
		var outbox []stage.Pending
		for _, p := range slices.Concat(old, a.Outbox) {
			if p.Seq > a.Produced {
				p.Output.Context = nil // a context does not survive in a store
				outbox = append(outbox, p)
			}
		}
		m.outboxes.put(at, outbox)
		return nil
	})
}
