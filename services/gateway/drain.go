package gateway

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/hookmesh/hookmesh/services/internal/spool"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

const (
	drainRecords = 2000
	drainBytes   = 4 << 20
	// drainTimeout bounds one produce request of the drain loop; a batch is larger than what a sender waits for.
	drainTimeout  = 30 * time.Second
	shortestPause = 50 * time.Millisecond
	longestPause  = 10 * time.Second
)

// drain moves the spool into Kafka, in order, until ctx ends. A batch is acknowledged in the spool after Kafka has it: a crash
// in between sends it twice, under the same event ids, which dedupe drops.
func (s *Service) drain(ctx context.Context) {
	for ctx.Err() == nil {
		started := s.now()
		batch, err := s.spool.Read(ctx, spool.Limit{Records: drainRecords, Bytes: drainBytes})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.tel.Logger.Error("the spool could not be read; trying again", "error", err)
			pause(ctx, longestPause)
			continue
		}
		if !s.produceDrained(ctx, outputsOf(batch.Records)) {
			return
		}
		if err := s.spool.Ack(batch.Next); err != nil {
			s.tel.Logger.Error("the spool could not remember what was sent; it will be sent again after a restart", "error", err)
		}
		s.meters.drained(ctx, len(batch.Records))
		took := max(0, s.now().Sub(started)) // a clock that was put back is no reason to wait
		s.deps.Rest(ctx, patience(s.spool.Stats(), took))
		pause(ctx, s.cfg.DrainInterval-took)
	}
}

// patience is for how much work the drain rests: the fuller the spool, the less, because a full one sends deliveries away. From
// a third on it does not give way any more.
func patience(st spool.Stats, took time.Duration) time.Duration {
	return time.Duration(float64(took) * max(0, 1-3*float64(st.Bytes)/float64(st.MaxBytes)))
}

// produceDrained tries until Kafka has the records; false: ctx ended first. The pauses have full jitter, so that many gateways
// do not fall upon a Kafka that comes back.
func (s *Service) produceDrained(ctx context.Context, outputs []stage.Output) bool {
	for delay := shortestPause; ; delay = min(2*delay, longestPause) {
		try, cancel := context.WithTimeout(ctx, drainTimeout)
		err := s.deps.Producer.Produce(try, outputs)
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		st := s.spool.Stats()
		s.tel.Logger.Warn("Kafka does not take the spool's records; trying again", "records", len(outputs), "waiting", st.Records, "bytes", st.Bytes, "of", st.MaxBytes, "error", err)
		s.meters.drainFailed(ctx)
		pause(ctx, time.Millisecond+s.deps.Jitter(delay))
	}
}

// outputsOf restores outputs; their trace comes out of their headers.
func outputsOf(records []spool.Record) []stage.Output {
	outputs := make([]stage.Output, len(records))
	for i, r := range records {
		headers := make([]stage.Header, len(r.Headers))
		for j, h := range r.Headers {
			headers[j] = stage.Header{Key: h.Key, Value: h.Value}
		}
		outputs[i] = stage.Output{Topic: r.Topic, Key: r.Key, Value: r.Value, Headers: headers}
		if ctx := stage.Extract(context.Background(), headers); trace.SpanContextFromContext(ctx).IsValid() {
			outputs[i].Context = ctx
		}
	}
	return outputs
}

// pause waits, or returns when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
