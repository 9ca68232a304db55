package verifier

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/verifier/skew"
)

const (
	// judgeInterval is the least time between two judgements on whose clock is wrong.
	judgeInterval = time.Second
	// warnInterval is how often the log repeats that our clock is wrong.
	warnInterval = 5 * time.Minute
)

// clocks watches the sources' clocks and ours. Only authentic deliveries with a signed time tell it anything.
type clocks struct {
	// most bounds the correction of our clock; 0: it is not corrected.
	most time.Duration
	tel  telemetry.Telemetry
	// correction is what is added to our time, in nanoseconds; judged is when it was last decided, in Unix nanoseconds.
	correction, judged atomic.Int64

	mu      sync.Mutex
	verdict skew.Verdict
	warned  time.Time
}

// clock is the estimate of one source.
type clock struct {
	mu sync.Mutex
	skew.Source
}

func (c *clock) estimate(now time.Time) (time.Duration, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.Estimate(now)
}

// CorrectClock says how far our clock may be corrected when freshness is judged; 0: it is not. It has to be called before the first delivery.
func (s *Service) CorrectClock(most time.Duration) { s.clocks.most = most }

// correct is our time as most sources have it.
func (c *clocks) correct(now time.Time) time.Time { return now.Add(time.Duration(c.correction.Load())) }

// observe tells of an authentic delivery, sent by its source's clock, that came now by ours.
func (s *Service) observe(ctx context.Context, src *entry, sent, now time.Time) {
	if sent.IsZero() {
		return
	}
	src.clock.mu.Lock()
	news := src.clock.Observe(sent, now)
	src.clock.mu.Unlock()
	last := s.clocks.judged.Load()
	if news && time.Duration(now.UnixNano()-last).Abs() >= judgeInterval && s.clocks.judged.CompareAndSwap(last, now.UnixNano()) {
		s.judgeClocks(ctx, now)
	}
}

// judgeClocks decides whose clock is wrong, and says so loudly if it is ours.
func (s *Service) judgeClocks(ctx context.Context, now time.Time) {
	var votes []skew.Vote
	s.each(func(_ string, e *entry) {
		if offset, known := e.clock.estimate(now); known {
			votes = append(votes, skew.Vote{Group: e.preset.Name, Offset: offset})
		}
	})
	c := &s.clocks
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.verdict
	c.verdict = skew.Judge(votes)
	c.correction.Store(int64(c.verdict.Correction(c.most)))
	switch {
	case c.verdict.Ours && (!before.Ours || now.Sub(c.warned).Abs() >= warnInterval):
		c.warned = now
		c.tel.Logger.ErrorContext(ctx, "the clock of this machine is wrong, most sources agree: set it, and have it kept right (NTP); deliveries are judged by a corrected time within bounds",
			"finding", c.verdict.Describe(), "offset", c.verdict.Offset, "correction", c.verdict.Correction(c.most), "providers", c.verdict.Groups, "agreeing", c.verdict.Agreeing)
	case before.Ours && !c.verdict.Ours:
		c.tel.Logger.InfoContext(ctx, "the clock of this machine agrees with the sources again")
	}
}

// Warnings says what is wrong without keeping the service from its work.
func (s *Service) Warnings() []string {
	s.clocks.mu.Lock()
	defer s.clocks.mu.Unlock()
	if finding := s.clocks.verdict.Describe(); finding != "" {
		return []string{finding + ", most sources agree: set it"}
	}
	return nil
}

// measure registers the gauges.
func (c *clocks) measure(s *Service, tel telemetry.Telemetry) error {
	c.tel = tel
	meter := tel.Meter("github.com/hookmesh/hookmesh/services/verifier")
	offsets, err := meter.Float64ObservableGauge("hookmesh.verifier.clock.offset", metric.WithUnit("s"), metric.WithDescription("How far a source's clock is before ours, by authentic deliveries."))
	if err != nil {
		return err
	}
	ours, err := meter.Float64ObservableGauge("hookmesh.verifier.clock.ours", metric.WithUnit("s"), metric.WithDescription("How far most sources' clocks are before ours, if they agree that ours is wrong; else 0."))
	if err != nil {
		return err
	}
	_, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		now := s.now()
		s.each(func(name string, e *entry) {
			if offset, known := e.clock.estimate(now); known {
				o.ObserveFloat64(offsets, offset.Seconds(), metric.WithAttributes(attribute.String("source", name)))
			}
		})
		c.mu.Lock()
		defer c.mu.Unlock()
		o.ObserveFloat64(ours, c.verdict.Offset.Seconds())
		return nil
	}, offsets, ours)
	return err
}

// GetClocks implements the API.
func (s *Sources) GetClocks(context.Context, *sourcev1.GetClocksRequest) (*sourcev1.GetClocksResponse, error) {
	v := s.deps.Verifier
	now := v.now()
	v.clocks.mu.Lock()
	verdict := v.clocks.verdict
	v.clocks.mu.Unlock()
	res := &sourcev1.GetClocksResponse{
		Ours: verdict.Ours, Offset: durationpb.New(verdict.Offset), Correction: durationpb.New(time.Duration(v.clocks.correction.Load())),
		Voices: int32(verdict.Groups), Agreeing: int32(verdict.Agreeing), Now: timestamppb.New(now),
	}
	v.each(func(name string, e *entry) {
		if offset, known := e.clock.estimate(now); known {
			res.Sources = append(res.Sources, &sourcev1.SourceClock{Source: name, Preset: e.preset.Name, Offset: durationpb.New(offset)})
		}
	})
	slices.SortFunc(res.Sources, func(a, b *sourcev1.SourceClock) int { return strings.Compare(a.GetSource(), b.GetSource()) })
	return res, nil
}
