package topology

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"
)

// Incident is something that was done to the mesh.
type Incident struct {
	// What was done to whom.
	What string
	// At is when, after the beginning.
	At time.Duration
	// Lasted is how long it was kept up; Recovery how long after its end the victim was ready again.
	Lasted, Recovery time.Duration
	// Mended is when it ended.
	Mended time.Time
}

func (i Incident) String() string {
	return fmt.Sprintf("%6.1fs %-36s for %5.1fs, ready after %5.2fs", i.At.Seconds(), i.What, i.Lasted.Seconds(), i.Recovery.Seconds())
}

// During says how many of some times lay within the incident.
func (i Incident) During(times []time.Time) (n int) {
	for _, t := range times {
		if t.After(i.Mended.Add(-i.Lasted)) && t.Before(i.Mended) {
			n++
		}
	}
	return n
}

// After says how long after an incident's end the first of some times lay, which are in their order.
func (i Incident) After(times []time.Time) string {
	for _, t := range times {
		if t.After(i.Mended) {
			return fmt.Sprintf("%.2fs", t.Sub(i.Mended).Seconds())
		}
	}
	return "no more came"
}

// Torment does one thing after the other to the mesh until ctx ends: it kills processes, Kafka nodes and the database, freezes them, and
// cuts the connections to services, to Kafka nodes and to the database. What it did is mended before it returns. Only one thing is broken at a time.
func (m *Mesh) Torment(ctx context.Context, rng *rand.Rand) (incidents []Incident, err error) {
	began := time.Now()
	for {
		for _, t := range m.deck(rng) {
			select {
			case <-ctx.Done():
				return incidents, nil
			case <-time.After(500*time.Millisecond + time.Duration(rng.IntN(2500))*time.Millisecond):
			}
			inc, err := m.play(context.WithoutCancel(ctx), t, 200*time.Millisecond+time.Duration(rng.IntN(3000))*time.Millisecond, began)
			if err != nil {
				return incidents, err
			}
			incidents = append(incidents, inc)
		}
	}
}

// trouble is what can be done to the mesh and taken back.
type trouble struct {
	what       string
	harm, mend func() error
	await      func(context.Context) error
}

func kill(p *Process, await func(context.Context) error) trouble {
	return trouble{"SIGKILL " + p.Name, func() error { p.End(syscall.SIGKILL, 0); return nil }, p.Start, await}
}

func freeze(p *Process, await func(context.Context) error) trouble {
	return trouble{"SIGSTOP " + p.Name, func() error { return p.Signal(syscall.SIGSTOP) }, func() error { return p.Signal(syscall.SIGCONT) }, await}
}

func cut(what string, await func(context.Context) error, links ...*Link) trouble {
	each := func(do func(*Link)) func() error {
		return func() error {
			for _, l := range links {
				do(l)
			}
			return nil
		}
	}
	return trouble{what, each((*Link).Cut), each((*Link).Mend), await}
}

// deck is one round of trouble in a random order: each kind comes at least once, to victims that are drawn.
func (m *Mesh) deck(rng *rand.Rand) []trouble {
	var deck []trouble
	anyone := func() *Instance { return m.Instances[rng.IntN(len(m.Instances))] }
	for range 4 {
		in := anyone()
		deck = append(deck, kill(in.Process, in.Await))
	}
	for range 2 {
		in := anyone()
		deck = append(deck, freeze(in.Process, in.Await))
		in = anyone()
		deck = append(deck, cut("cut off "+in.Name, in.Await, in.Link))
	}
	i := rng.IntN(len(m.Kafka.Nodes))
	node := m.Kafka.Nodes[i]
	listens := func(ctx context.Context) error { return m.Kafka.Await(ctx, i) }
	deck = append(deck, kill(node, listens), freeze(node, listens), cut("cut off "+node.Name, listens, m.Kafka.Links[i]))

	pg, in := m.Postgres, anyone()
	var all []*Link
	for _, in := range m.Instances {
		all = append(all, in.Database)
	}
	deck = append(deck, kill(pg.Process, pg.Await),
		trouble{"SIGKILL postgres' child", func() error { return pg.KillChild(rng) }, func() error { return nil }, pg.Await},
		trouble{"SIGSTOP postgres, all of it", func() error { return pg.SignalAll(syscall.SIGSTOP) }, func() error { return pg.SignalAll(syscall.SIGCONT) }, pg.Await},
		cut("cut off "+in.Name+" from postgres", in.Await, in.Database),
		cut("cut off all from postgres", m.Ready, all...))
	lonely := anyone()
	deck = append(deck, trouble{"restart " + lonely.Name + " without postgres", func() error {
		lonely.Database.Cut()
		lonely.End(syscall.SIGKILL, 0)
		return lonely.Start()
	}, func() error { lonely.Database.Mend(); return nil }, lonely.Await})
	rng.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
	return deck
}

// play does one thing and takes it back. Whatever was done, every service has to be ready again in the end.
func (m *Mesh) play(ctx context.Context, t trouble, lasts time.Duration, began time.Time) (Incident, error) {
	at := time.Since(began)
	if err := t.harm(); err != nil {
		return Incident{}, fmt.Errorf("%s: %w", t.what, err)
	}
	time.Sleep(lasts)
	if err := t.mend(); err != nil {
		return Incident{}, fmt.Errorf("mend %s: %w", t.what, err)
	}
	mended := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := t.await(ctx); err != nil {
		return Incident{}, fmt.Errorf("after %s: %w", t.what, err)
	}
	recovery := time.Since(mended)
	if err := m.Ready(ctx); err != nil {
		return Incident{}, fmt.Errorf("after %s: %w", t.what, err)
	}
	return Incident{What: t.what, At: at, Lasted: lasts, Recovery: recovery, Mended: mended}, nil
}
