package verifier

import (
	"context"
	"errors"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// meters count verdicts. What they count by is made once and used again: this is on every request's path.
type meters struct {
	verdicts metric.Int64Counter
	secrets  metric.Int64Counter
	mu       sync.RWMutex
	by       map[countedBy][]metric.AddOption
}

// countedBy is what a count is kept for. Sources, codes and secrets are few.
type countedBy struct {
	source, code, secretID string
	secret                 int32
}

func newMeters(tel telemetry.Telemetry) (*meters, error) {
	meter := tel.Meter("github.com/hookmesh/hookmesh/services/verifier")
	m := &meters{by: map[countedBy][]metric.AddOption{}}
	var err1, err2 error
	m.verdicts, err1 = meter.Int64Counter("hookmesh.verifier.verdicts", metric.WithDescription("Verdicts, by source, verdict and code."))
	m.secrets, err2 = meter.Int64Counter("hookmesh.verifier.secret_used", metric.WithDescription("Which secret matched, by source: an old one that is no longer used can go."))
	return m, errors.Join(err1, err2)
}

// counted is what an accepted delivery is counted by.
type counted struct{ verdict, secret []metric.AddOption }

// count counts a verdict on a delivery of a source.
func (m *meters) count(ctx context.Context, e *entry, res *verifierv1.VerifyResponse) {
	i := int(res.GetSecretIndex())
	proven := i >= 0 && i < len(e.proofs)
	if proven && res.GetVerdict() == verifierv1.Verdict_VERDICT_ACCEPTED {
		c := e.proofs[i].counted.Load()
		if c == nil {
			c = &counted{m.byVerdict(e, res), m.bySecret(e, i)}
			e.proofs[i].counted.Store(c)
		}
		m.verdicts.Add(ctx, 1, c.verdict...)
		m.secrets.Add(ctx, 1, c.secret...)
		return
	}
	m.verdicts.Add(ctx, 1, m.byVerdict(e, res)...)
	if i >= 0 {
		m.secrets.Add(ctx, 1, m.bySecret(e, i)...)
	}
}

func (m *meters) byVerdict(e *entry, res *verifierv1.VerifyResponse) []metric.AddOption {
	return m.options(countedBy{source: e.name, code: res.GetCode(), secret: -1}, func() []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("source", e.name), attribute.String("verdict", verdictName(res.GetVerdict())), attribute.String("code", res.GetCode())}
	})
}

func (m *meters) bySecret(e *entry, i int) []metric.AddOption {
	id := e.secretID(i)
	return m.options(countedBy{source: e.name, secret: int32(i), secretID: id}, func() []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("source", e.name), attribute.Int("secret", i), attribute.String("secret_id", id)}
	})
}

func (m *meters) options(by countedBy, attributes func() []attribute.KeyValue) []metric.AddOption {
	m.mu.RLock()
	known, ok := m.by[by]
	m.mu.RUnlock()
	if ok {
		return known
	}
	made := []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(attributes()...))}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.by[by] = made
	return made
}
