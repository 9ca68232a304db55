package gateway

import (
	"bytes"
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/spool"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// stillOnItsWay is how long an event that went to Kafka is believed to be on its way to dedupe.
const stillOnItsWay = 15 * time.Minute

// accepted is what this gateway's spool knows of an event.
type accepted struct {
	// waits: Kafka does not have it yet.
	waits   bool
	traceID string
}

// findSpooled looks for an event in this gateway's spool, where it is before dedupe hears of it; nil: it is not there. Nothing
// about it is kept in memory: deliveries come by the thousand, and few are asked for so soon.
func (s *Service) findSpooled(ctx context.Context, id string) *accepted {
	var ev eventv1.Event
	found, err := s.spool.Find(ctx, func(r spool.Record) bool {
		if r.Topic != kafka.TopicAccepted || !bytes.Contains(r.Value, []byte(id)) {
			return false
		}
		return proto.Unmarshal(r.Value, &ev) == nil && ev.GetId() == id
	})
	if err != nil {
		s.tel.Logger.WarnContext(ctx, "the spool could not be searched for an event", "event", id, "error", err)
		return nil
	}
	if found == nil || (found.Acknowledged && s.now().Sub(ev.GetReceivedAt().AsTime()) > stillOnItsWay) {
		return nil
	}
	a := &accepted{waits: !found.Acknowledged}
	headers := make([]stage.Header, len(found.Record.Headers))
	for i, h := range found.Record.Headers {
		headers[i] = stage.Header{Key: h.Key, Value: h.Value}
	}
	if sc := trace.SpanContextFromContext(stage.Extract(ctx, headers)); sc.HasTraceID() {
		a.traceID = sc.TraceID().String()
	}
	return a
}
