package simulation

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/embedder/embedding"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// newEmbedder is the real embedder over the store in memory. What it asks are the world and a model that counts.
func newEmbedder(k *knowledge, producer embedder.Producer, h hooks, d dice, now func() time.Time) (*embedder.Service, error) {
	deps := embedder.Deps{
		Store: k.store, Model: &model{k, h}, Producer: producer, Telemetry: telemetry.Nop(), Now: now, Fetchers: map[string]connector.Fetcher{},
		Jitter: func(bound time.Duration) time.Duration { return bound / 2 },
	}
	if k.world.fetch {
		deps.Fetchers["s"] = &fetcher{k, h, d}
	}
	// Pauses are short, so that whatever waits is over when everything has come to rest.
	return embedder.New(deps, embedder.Config{Workers: 1, Retry: embedder.Policy{Tries: 2, First: time.Second, Longest: 10 * time.Second}, Breaker: embedder.BreakerConfig{Failures: 3, First: 2 * time.Second, Longest: 30 * time.Second}})
}

// processOf is the process that a step belongs to; nil: the test's own.
func processOf(ctx context.Context) *process {
	p, _ := ctx.Value(processKey{}).(*process)
	return p
}

// fetcher answers as the source does.
type fetcher struct {
	knowledge *knowledge
	hooks     hooks
	dice      dice // nil: it answers at once
}

// Fetch implements connector.Fetcher. Now and then the answer is on its way for longer than a lease.
func (f *fetcher) Fetch(ctx context.Context, ref connector.Ref) (connector.Document, error) {
	if f.hooks != nil {
		if err := f.hooks.step(ctx, "asks the source"); err != nil {
			return connector.Document{}, &connector.Error{Err: err}
		}
	}
	if f.knowledge.away {
		return connector.Document{}, &connector.Error{RetryAfter: 6 * time.Minute, Err: errFault}
	}
	w := f.knowledge.world
	s, known := w.at(f.knowledge.now())[ref.ID]
	if f.dice != nil && chance(f.dice, 10, "a slow answer") {
		time.Sleep(time.Duration(f.dice.IntN(25_000, "slow")) * time.Millisecond)
		if err := f.hooks.step(ctx, "is answered late"); err != nil {
			return connector.Document{}, &connector.Error{Err: err}
		}
	}
	f.knowledge.asked[processOf(ctx)] = answer{ref.ID, s.touched.index}
	if !known || s.gone {
		return connector.Document{}, connector.ErrGone
	}
	doc := connector.Document{Content: []byte(s.content), Format: connector.FormatPlain, URL: mark(s.touched.index)}
	if _, n := w.position(s.change); n != nil {
		doc.Version = fmt.Sprint(*n)
	}
	return doc, nil
}

// mark is a URL that says which change a content is as of.
func mark(index int) string { return "#" + strconv.Itoa(index) }

func marked(url string) int {
	n, err := strconv.Atoi(strings.TrimPrefix(url, "#"))
	if err != nil {
		panic(err) // no document is without its mark
	}
	return n
}

// model makes vectors that tell which call made them.
type model struct {
	knowledge *knowledge
	hooks     hooks
}

// Info implements embedding.Model.
func (*model) Info() embedding.Info {
	return embedding.Info{Name: "counting", Dimensions: 1, Fingerprint: "counting"}
}

// Embed implements embedding.Model.
func (m *model) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	if m.hooks != nil {
		if err := m.hooks.step(ctx, "embeds"); err != nil {
			return nil, &embedding.Error{Err: err}
		}
	}
	m.knowledge.calls++
	vectors := make([][]float32, len(texts))
	for i := range texts {
		vectors[i] = []float32{float32(m.knowledge.calls)}
	}
	return vectors, nil
}
