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
	// Lasted is how long it was kept up; Recovery how long after its end the process was ready again.
	Lasted, Recovery time.Duration
}

func (i Incident) String() string {
	return fmt.Sprintf("%6.1fs %-28s for %5.1fs, recovered after %5.2fs", i.At.Seconds(), i.What, i.Lasted.Seconds(), i.Recovery.Seconds())
}

// Torment does one thing after the other to the mesh until ctx ends: it kills processes and Kafka nodes, freezes them, and cuts the
// connections to services. What it did is mended before it returns. Kafka nodes are touched only one at a time.
func (m *Mesh) Torment(ctx context.Context, rng *rand.Rand) (incidents []Incident, err error) {
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			return incidents, nil
		case <-time.After(500*time.Millisecond + time.Duration(rng.IntN(2500))*time.Millisecond):
		}
		inc, err := m.incident(context.WithoutCancel(ctx), rng, time.Since(began))
		if err != nil {
			return incidents, err
		}
		incidents = append(incidents, inc)
	}
}

func (m *Mesh) incident(ctx context.Context, rng *rand.Rand, at time.Duration) (Incident, error) {
	lasts := 200*time.Millisecond + time.Duration(rng.IntN(3000))*time.Millisecond
	in := m.Instances[rng.IntN(len(m.Instances))]
	var what string
	var harm, mend func() error
	await := in.Await
	kill := func(p *Process) (func() error, func() error) {
		return func() error { p.End(syscall.SIGKILL, time.Second); return nil }, p.Start
	}
	freeze := func(p *Process) (func() error, func() error) {
		return func() error { return p.Signal(syscall.SIGSTOP) }, func() error { return p.Signal(syscall.SIGCONT) }
	}
	switch n := rng.IntN(10); {
	case n < 4:
		what = "SIGKILL " + in.Name
		harm, mend = kill(in.Process)
	case n < 6:
		what = "SIGSTOP " + in.Name
		harm, mend = freeze(in.Process)
	case n < 8:
		what = "cut off " + in.Name
		harm, mend = func() error { in.Link.Cut(); return nil }, func() error { in.Link.Mend(); return nil }
	default:
		i := rng.IntN(len(m.Kafka.Nodes))
		node := m.Kafka.Nodes[i]
		await = func(ctx context.Context) error { return awaitPort(ctx, node, m.Kafka.Brokers[i]) }
		if what = "SIGKILL " + node.Name; n == 8 {
			harm, mend = kill(node)
		} else {
			what = "SIGSTOP " + node.Name
			harm, mend = freeze(node)
		}
	}
	if err := harm(); err != nil {
		return Incident{}, fmt.Errorf("%s: %w", what, err)
	}
	time.Sleep(lasts)
	if err := mend(); err != nil {
		return Incident{}, fmt.Errorf("mend %s: %w", what, err)
	}
	mended := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := await(ctx); err != nil {
		return Incident{}, fmt.Errorf("after %s: %w", what, err)
	}
	return Incident{What: what, At: at, Lasted: lasts, Recovery: time.Since(mended)}, nil
}
