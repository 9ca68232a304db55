package reconciler

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/reconciler/rhythm"
)

const (
	rhythmState = "rhythm"
	// listenInterval is how often it is judged whether a source's silence is unusual.
	listenInterval = time.Minute
)

// rhythm is what is known of the source's webhooks.
func (p *poller) rhythm(ctx context.Context) (rhythm.Rhythm, error) {
	var r rhythm.Rhythm
	raw, err := p.deps.Store.State(ctx, rhythmState, p.src.Name)
	if err != nil || raw == nil {
		return r, err
	}
	if err := json.Unmarshal(raw, &r); err != nil {
		return r, fmt.Errorf("read the rhythm of %s: %w", p.src.Name, err)
	}
	return r, nil
}

// hear takes in what gateways have heard. All records of a source come to one instance. A minute that is lost in a crash changes
// no average that matters.
func (s *Service) hear(ctx context.Context, heard []*eventv1.Debt) {
	for _, d := range heard {
		p := s.source(d.GetSource())
		if p == nil {
			continue
		}
		r, err := p.rhythm(ctx)
		if err == nil {
			var raw []byte
			if raw, err = json.Marshal(r.Hear(d.GetHeard(), d.GetIncurredAt().AsTime())); err == nil {
				err = s.deps.Store.SetState(ctx, rhythmState, p.src.Name, raw)
			}
		}
		if err != nil {
			s.deps.Telemetry.Logger.Warn("a source's rhythm could not be kept", "source", p.src.Name, "error", err)
		}
	}
}

// listen judges the source's silence, once a minute. When it becomes unusual the source is polled now, and more often as long as
// it lasts.
func (p *poller) listen(ctx context.Context) {
	now := p.deps.Now()
	if now.Sub(p.listened) < listenInterval {
		return
	}
	p.listened = now
	r, err := p.rhythm(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.deps.Telemetry.Logger.Warn("a source's silence cannot be judged", "source", p.src.Name, "error", err)
		}
		return
	}
	verdict, expected := r.Judge(now)
	p.meters.silence(ctx, p.src.Name, verdict == rhythm.Silent)
	before := p.judged
	p.judged = verdict
	switch {
	case before == rhythm.Normal && verdict != rhythm.Normal:
		p.deps.Telemetry.Logger.WarnContext(ctx, "a source's webhooks are silent against its own rhythm; it is polled now, and more often meanwhile",
			"source", p.src.Name, "since", r.Last, "expected", expected)
		p.schedule(0)
	case before != rhythm.Normal && verdict == rhythm.Normal:
		p.deps.Telemetry.Logger.InfoContext(ctx, "a source's webhooks are heard again", "source", p.src.Name)
	}
}
