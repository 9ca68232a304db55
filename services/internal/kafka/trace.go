package kafka

import (
	"fmt"

	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// startSends starts a span "send <topic>" for every output whose trace is sampled and writes it into the headers, so that
// the consumer's span becomes its child. Outputs of traces that are not sampled still carry their trace id.
func (l *Log) startSends(outputs []stage.Output, partition int) []trace.Span {
	var spans []trace.Span
	for i := range outputs {
		out := &outputs[i]
		if out.Context == nil {
			continue
		}
		ctx := out.Context
		if trace.SpanContextFromContext(ctx).IsSampled() {
			var span trace.Span
			ctx, span = l.tracer.Start(ctx, "send "+out.Topic, trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(
				semconv.MessagingSystemKafka,
				semconv.MessagingOperationTypeSend,
				semconv.MessagingOperationName("send"),
				semconv.MessagingDestinationName(out.Topic),
				semconv.MessagingDestinationPartitionID(fmt.Sprint(partition)),
				semconv.MessagingBatchMessageCount(len(outputs)),
			))
			spans = append(spans, span)
		}
		telemetry.Propagator().Inject(ctx, stage.Carrier{Headers: &out.Headers})
	}
	return spans
}

func endSends(spans []trace.Span, err error) {
	for _, s := range spans {
		if err != nil {
			s.RecordError(err)
			s.SetStatus(codes.Error, "produce failed")
		}
		s.End()
	}
}
