package main

import (
	"testing"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
)

func TestTheDemosTableCountsEachEventByItsEnd(t *testing.T) {
	story := func(state string, ms int64, outcome sequencerv1.Outcome) *gatewayv1.GetEventResponse {
		return &gatewayv1.GetEventResponse{State: state, Embedder: &embedderv1.EventRecord{FreshnessMs: ms}, Sequencer: &sequencerv1.EventRecord{Outcome: outcome}}
	}
	const emitted, released = sequencerv1.Outcome_OUTCOME_EMITTED, sequencerv1.Outcome_OUTCOME_RELEASED
	tl := newTally()
	tests := []struct {
		story *gatewayv1.GetEventResponse
		final bool
	}{
		{story("accepted", 0, emitted), false},
		{story("held", 0, sequencerv1.Outcome_OUTCOME_HELD), false},
		{story("pending", 0, released), false},
		{story("embedded", 30, emitted), true},
		{story("embedded", 2000, released), true},
		{story("removed", 10, emitted), true},
		{story("stale", 0, sequencerv1.Outcome_OUTCOME_STALE), true},
		{story("superseded", 0, released), true},
		{story("duplicate", 0, 0), true},
		{story("dead", 0, emitted), true},
	}
	for _, tt := range tests {
		if got := tl.end(tt.story); got != tt.final {
			t.Errorf("%s: final is %v, want %v", tt.story.GetState(), got, tt.final)
		}
	}
	if tl.embedded != 3 || tl.held != 2 || tl.stale != 1 || tl.superseded != 1 || tl.dead != 1 {
		t.Errorf("%+v", tl)
	}
	if tl.quantile(0.5) != 30*time.Millisecond || tl.quantile(0.99) != 2*time.Second || newTally().quantile(0.5) != 0 {
		t.Errorf("p50 %s, p99 %s", tl.quantile(0.5), tl.quantile(0.99))
	}
}
