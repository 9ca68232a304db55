package gateway

import (
	"context"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// hearInterval is how often the reconciler is told from which sources something authentic came.
const hearInterval = time.Minute

// authentic says whether a delivery came from its source, whatever else was wrong with it.
func authentic(v *verifierv1.VerifyResponse) bool {
	switch v.GetVerdict() {
	case verifierv1.Verdict_VERDICT_ACCEPTED, verifierv1.Verdict_VERDICT_QUARANTINED, verifierv1.Verdict_VERDICT_IGNORED:
		return true
	case verifierv1.Verdict_VERDICT_REJECTED:
		return v.GetDebt()
	default:
		return false
	}
}

// tellHeard tells the reconciler how much each source has sent, so that it learns their rhythm: one small record per source and
// minute, none for those that are silent. What could not be written is told with the next.
func (s *Service) tellHeard(ctx context.Context) {
	for {
		pause(ctx, hearInterval)
		if ctx.Err() != nil {
			return
		}
		var outputs []stage.Output
		counts := map[*source]int64{}
		for _, src := range s.sources.Load().named {
			n := src.heard.Swap(0)
			if n == 0 {
				continue
			}
			counts[src] = n
			value, err := proto.Marshal(&eventv1.Debt{Source: src.name, Reason: "HEARD", IncurredAt: timestamppb.New(s.now()), Heard: n})
			if err != nil {
				continue // strings and numbers can be encoded
			}
			outputs = append(outputs, stage.Output{Topic: kafka.TopicDebts, Key: kafka.DocumentKey(src.name, ""), Value: value})
		}
		if len(outputs) == 0 {
			continue
		}
		bounded, cancel := context.WithTimeout(ctx, 2*s.cfg.WriteTimeout)
		bounded, span := s.startSpan(bounded, "tell what was heard")
		err := s.store(bounded, outputs)
		span.End()
		cancel()
		if err != nil {
			for src, n := range counts {
				src.heard.Add(n)
			}
			s.tel.Logger.Warn("how much the sources have sent could not be told to the reconciler; it is told with the next", "error", err)
		}
	}
}
