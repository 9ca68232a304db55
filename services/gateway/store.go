package gateway

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/internal/spool"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

const (
	// produceLanes is how many writes of deliveries are under way at once. What they cost the brokers and their replicas is spread over
	// those that wait meanwhile, so that a second lane would make each dearer and none quicker.
	produceLanes      = 1
	maxProduceRecords = 2000
	maxProduceBytes   = 4 << 20
)

// store makes records durable: in the place that is configured, else in the other one. What is acknowledged here later never
// overtakes what waits in the spool, so that a document's events keep their order.
func (s *Service) store(ctx context.Context, outputs []stage.Output) error {
	ctx, span := s.startSpan(ctx, "durable write")
	defer span.End()
	place, err := s.storeSomewhere(ctx, outputs)
	if span.IsRecording() {
		span.SetAttributes(attribute.Int("hookmesh.records", len(outputs)), attribute.String("hookmesh.durability", place))
	}
	if err != nil {
		span.RecordError(err)
		span.SetStatus(otelcodes.Error, "neither Kafka nor the spool took it")
	}
	return err
}

func (s *Service) storeSomewhere(ctx context.Context, outputs []stage.Output) (place string, err error) {
	var first error
	if s.cfg.Durability == DurabilityBroker && s.spool.Empty() {
		if first = s.produce(ctx, outputs); first == nil {
			return "broker", nil
		}
		s.tel.Logger.WarnContext(ctx, "Kafka did not take a record; it goes to the spool", "error", first)
	}
	appendErr := s.append(ctx, outputs)
	if appendErr == nil {
		return "spool", nil
	}
	if s.cfg.Durability == DurabilitySpool && s.spool.Empty() && !errors.Is(appendErr, spool.ErrClosed) {
		s.tel.Logger.WarnContext(ctx, "the spool did not take a record; it goes to Kafka", "error", appendErr)
		if first = s.produce(ctx, outputs); first == nil {
			return "broker", nil
		}
	}
	return "nowhere", errors.Join(first, appendErr)
}

// produce writes to Kafka, together with the others that write now.
func (s *Service) produce(ctx context.Context, outputs []stage.Output) error {
	if _, err := s.producing.Do(ctx, outputs); err != nil {
		return fmt.Errorf("write to Kafka: %w", err)
	}
	return nil
}

// errBehindSpool sends records to the spool that waited here while others had to go there: at once, and behind those.
var errBehindSpool = errors.New("the spool is not drained yet")

func (s *Service) produceBatch(ctx context.Context, batches [][]stage.Output) ([]struct{}, error) {
	if !s.spool.Empty() {
		return nil, errBehindSpool
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.WriteTimeout)
	defer cancel()
	var all []stage.Output
	for _, b := range batches {
		all = append(all, b...)
	}
	return make([]struct{}, len(batches)), s.deps.Producer.Produce(ctx, all)
}

func outputsSize(outputs []stage.Output) int {
	n := 0
	for _, o := range outputs {
		n += len(o.Key) + len(o.Value)
	}
	return n
}

// append writes to the spool. The trace goes into the headers, because it has to survive on the disk.
func (s *Service) append(ctx context.Context, outputs []stage.Output) error {
	records := make([]spool.Record, len(outputs))
	for i, o := range outputs {
		headers := make([]spool.Header, len(o.Headers), len(o.Headers)+2)
		for j, h := range o.Headers {
			headers[j] = spool.Header{Key: h.Key, Value: h.Value}
		}
		if o.Context != nil && trace.SpanContextFromContext(o.Context).IsValid() {
			s.propagator.Inject(o.Context, spooled{&headers})
		}
		records[i] = spool.Record{Topic: o.Topic, Key: o.Key, Value: o.Value, Headers: headers}
	}
	if err := s.spool.Append(ctx, records); err != nil {
		return fmt.Errorf("write to the spool: %w", err)
	}
	return nil
}

// spooled writes trace context into the headers of a record for the spool.
type spooled struct{ headers *[]spool.Header }

// Get implements propagation.TextMapCarrier.
func (c spooled) Get(key string) string {
	for _, h := range *c.headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// Set implements propagation.TextMapCarrier.
func (c spooled) Set(key, value string) {
	*c.headers = slices.DeleteFunc(*c.headers, func(h spool.Header) bool { return h.Key == key })
	*c.headers = append(*c.headers, spool.Header{Key: key, Value: []byte(value)})
}

// Keys implements propagation.TextMapCarrier.
func (c spooled) Keys() []string {
	keys := make([]string, len(*c.headers))
	for i, h := range *c.headers {
		keys[i] = h.Key
	}
	return keys
}
