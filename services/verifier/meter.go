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

// count counts a verdict on a delivery of a source. secretID names the secret that matched; it may be empty.
func (m *meters) count(ctx context.Context, source string, res *verifierv1.VerifyResponse, secretID string) {
	verdict := res.GetVerdict()
	m.verdicts.Add(ctx, 1, m.options(countedBy{source: source, code: res.GetCode(), secret: -1}, func() []attribute.KeyValue {
		return []attribute.KeyValue{attribute.String("source", source), attribute.String("verdict", verdictName(verdict)), attribute.String("code", res.GetCode())}
	})...)
	if i := res.GetSecretIndex(); i >= 0 {
		m.secrets.Add(ctx, 1, m.options(countedBy{source: source, secret: i, secretID: secretID}, func() []attribute.KeyValue {
			return []attribute.KeyValue{attribute.String("source", source), attribute.Int("secret", int(i)), attribute.String("secret_id", secretID)}
		})...)
	}
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
