package sequencer

import (
	"context"
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// waitingLimit bounds how many waiting documents are looked at for the metrics; with more, the gauges say at least so many.
const waitingLimit = 10_000

// measure reports what waits, by source.
func (s *Service) measure(tel telemetry.Telemetry, scope string) error {
	const waiting, held = "hookmesh.sequencer.waiting", "hookmesh.sequencer.held"
	return tel.Sample(scope, []telemetry.Gauge{
		{Name: waiting, Unit: "{document}", Description: "Documents for which events wait for a missing predecessor, by source: open gaps."},
		{Name: held, Unit: "{event}", Description: "Events that wait for a missing predecessor, by source."},
	}, func(ctx context.Context) ([]telemetry.Reading, error) {
		states, keys, err := s.store.Waiting(ctx, "", waitingLimit)
		if err != nil {
			return nil, fmt.Errorf("read what waits: %w", err)
		}
		documents, events := map[string]int64{"": 0}, map[string]int64{"": 0}
		for _, key := range keys {
			source, _ := splitKey(key)
			documents[source]++
			events[source] += int64(len(states[key].Held))
		}
		var readings []telemetry.Reading
		for source := range documents {
			readings = append(readings, telemetry.Read(waiting, documents[source], "source", source), telemetry.Read(held, events[source], "source", source))
		}
		return readings, nil
	})
}
