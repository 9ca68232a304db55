package reconciler

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

type meters struct {
	produced   metric.Int64Counter
	documents  metric.Int64Gauge
	rightShare metric.Float64Gauge
	silent     metric.Int64Gauge
}

func newMeters(m metric.Meter) (*meters, error) {
	out := &meters{}
	var errs [4]error
	out.produced, errs[0] = m.Int64Counter("hookmesh.reconciler.produced", metric.WithDescription("Changes that polls, debts, sweeps and backfills put into the mesh, by source and origin."))
	out.documents, errs[1] = m.Int64Gauge("hookmesh.reconciler.drift", metric.WithDescription("Documents at the last sweep, by source and kind: missing, extra, stale, withheld."))
	out.rightShare, errs[2] = m.Float64Gauge("hookmesh.reconciler.right", metric.WithDescription("Share of a source's documents that were right at the last sweep, from 0 to 1."))
	out.silent, errs[3] = m.Int64Gauge("hookmesh.reconciler.silent", metric.WithDescription("1 while a source's webhooks are silent against its own rhythm, 0 else, by source."))
	return out, errors.Join(errs[:]...)
}

// silence shows whether a source's webhooks are silent.
func (m *meters) silence(ctx context.Context, source string, silent bool) {
	value := int64(0)
	if silent {
		value = 1
	}
	m.silent.Record(ctx, value, metric.WithAttributes(attribute.String("source", source)))
}

// drift shows a report.
func (m *meters) drift(ctx context.Context, r *reconcilerv1.DriftReport) {
	if r.GetError() != "" {
		return
	}
	source := attribute.String("source", r.GetSource())
	for kind, n := range map[string]int64{"missing": r.GetMissing(), "extra": r.GetExtra(), "stale": r.GetStale(), "withheld": r.GetWithheld()} {
		m.documents.Record(ctx, n, metric.WithAttributes(source, attribute.String("kind", kind)))
	}
	m.rightShare.Record(ctx, r.GetRight(), metric.WithAttributes(source))
}
