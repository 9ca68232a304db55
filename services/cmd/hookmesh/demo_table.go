package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/wikisim"
)

// tally counts how events ended. It follows each event until its state is final, so that no event is counted twice or left out.
type tally struct {
	open map[string]bool // events whose end is not known yet
	seen map[string]bool

	stale, held, embedded, superseded, dead int
	// freshness is source change to searchable, of every embedded or removed document, ascending.
	freshness []time.Duration
}

func newTally() *tally { return &tally{open: map[string]bool{}, seen: map[string]bool{}} }

// listed is how many of the newest events one look at the list sees; the API gives no more at once. The demo makes fewer between two looks.
const listed = "1000"

// update asks for the events that came since, and for what became of those whose end was not known.
func (t *tally) update(ctx context.Context, api api, source string) error {
	var list gatewayv1.ListEventsResponse
	if err := api.get(ctx, "/v1/events", url.Values{"source": {source}, "limit": {listed}}, &list); err != nil {
		return fmt.Errorf("list the events: %w", err)
	}
	for _, e := range list.GetEvents() {
		if !t.seen[e.GetId()] {
			t.seen[e.GetId()], t.open[e.GetId()] = true, true
		}
	}
	for id := range t.open {
		var story gatewayv1.GetEventResponse
		if err := api.get(ctx, "/v1/events/"+url.PathEscape(id), nil, &story); err != nil {
			return fmt.Errorf("read event %s: %w", id, err)
		}
		if t.end(&story) {
			delete(t.open, id)
		}
	}
	return nil
}

// end counts an event whose state will not change any more.
func (t *tally) end(story *gatewayv1.GetEventResponse) bool {
	switch story.GetState() {
	case "stale":
		t.stale++
	case "embedded", "removed":
		t.embedded++
		d := time.Duration(story.GetEmbedder().GetFreshnessMs()) * time.Millisecond
		at, _ := slices.BinarySearch(t.freshness, d)
		t.freshness = slices.Insert(t.freshness, at, d)
	case "superseded":
		t.superseded++
	case "dead":
		t.dead++
	case "duplicate":
	default:
		return false
	}
	if story.GetSequencer().GetOutcome() == sequencerv1.Outcome_OUTCOME_RELEASED {
		t.held++
	}
	return true
}

// quantile is the value below which a share of all freshness values lies; 0 if there are none.
func (t *tally) quantile(share float64) time.Duration {
	if len(t.freshness) == 0 {
		return 0
	}
	return t.freshness[min(len(t.freshness)-1, int(share*float64(len(t.freshness))))]
}

const tableFormat = "%5s %6s %9s %6s %8s %7s %8s %6s %6s %11s %9s %8s %8s\n"

// header prints the names of the columns.
func (t *tally) header(out io.Writer) {
	_, _ = fmt.Fprintf(out, tableFormat, "time", "sent", "accepted", "twice", "dropped", "forged", "refused", "held", "stale", "superseded", "embedded", "p50", "p99")
}

// row prints one row: what was sent, what became of it so far, and how fresh the knowledge base is.
func (t *tally) row(out io.Writer, at time.Duration, st *wikisim.Stats) {
	_, _ = fmt.Fprintf(out, tableFormat, at.Round(time.Second), fmt.Sprint(st.Sent.Load()), fmt.Sprint(st.Accepted.Load()), fmt.Sprint(st.Duplicates.Load()),
		fmt.Sprint(st.Dropped.Load()), fmt.Sprint(st.Forged.Load()), fmt.Sprint(st.ForgedRefused.Load()), fmt.Sprint(t.held), fmt.Sprint(t.stale),
		fmt.Sprint(t.superseded), fmt.Sprint(t.embedded), rounded(t.quantile(0.5)), rounded(t.quantile(0.99)))
}

func rounded(d time.Duration) string {
	if d >= time.Second {
		return d.Round(10 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}
