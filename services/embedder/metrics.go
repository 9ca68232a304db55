package embedder

import (
	"context"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// measure reports what waits, what the knowledge base holds, and whose breakers are open.
func (s *Service) measure(tel telemetry.Telemetry, scope string) error {
	const jobs, documents, chunks, breakers = "hookmesh.embedder.jobs", "hookmesh.embedder.documents", "hookmesh.embedder.stored_chunks", "hookmesh.embedder.breaker.open"
	return tel.Sample(scope, []telemetry.Gauge{
		{Name: jobs, Unit: "{job}", Description: "Documents whose newest change is not in the knowledge base yet, by state: pending, retrying."},
		{Name: documents, Unit: "{document}", Description: "Documents in the knowledge base."},
		{Name: chunks, Unit: "{chunk}", Description: "Chunks in the knowledge base."},
		{Name: breakers, Unit: "{endpoint}", Description: "1 for each source or model that is left alone because it refuses or fails us, by endpoint; its documents wait. The endpoint \"\" counts them."},
	}, func(ctx context.Context) ([]telemetry.Reading, error) {
		pending, retrying, docs, stored, err := s.deps.Store.Status(ctx)
		if err != nil {
			return nil, fmt.Errorf("count jobs and documents: %w", err)
		}
		open := s.breakers.open()
		readings := []telemetry.Reading{
			telemetry.Read(jobs, pending, "state", "pending"), telemetry.Read(jobs, retrying, "state", "retrying"),
			telemetry.Read(documents, docs), telemetry.Read(chunks, stored), telemetry.Read(breakers, int64(len(open)), "endpoint", ""),
		}
		for _, b := range open {
			readings = append(readings, telemetry.Read(breakers, 1, "endpoint", b.GetEndpoint()))
		}
		return readings, nil
	})
}
