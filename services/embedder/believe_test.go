package embedder_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// What was fetched may be newer than the event that comes next. Then that event is not believed, but the source asked; and no other is.
func TestAnEventThatIsSurelyOlderIsNotBelieved(t *testing.T) {
	const told, fetched, gone = "told", "fetched", ""
	tests := []struct {
		name            string
		action          eventv1.Action
		stored, version string
		refetch, gone   bool
		want            string
		fetches         int64
	}{
		{"newer", up, "6", "7", false, false, told, 0},
		{"newer, and longer", up, "9", "10", false, false, told, 0},
		{"older", up, "6", "5", false, false, fetched, 1},
		{"the same version: the sequencer has decided", up, "6", "6", false, false, told, 0},
		{"newer, but the order is in doubt", up, "6", "7", true, false, fetched, 1},
		{"newer than digits that no float holds", up, "9007199254740992", "9007199254740993", false, false, told, 0},
		{"newer by the fraction", up, "1764331200.000200", "1764331200.000300", false, false, told, 0},
		{"older by the fraction", up, "1764331200.000200", "1764331200.000100", false, false, fetched, 1},
		{"a newer time in another zone", up, "2026-11-28T12:00:00Z", "2026-11-28T13:30:00.5+01:00", false, false, told, 0},
		{"an older time", up, "2026-11-28T12:00:00Z", "2026-11-28T11:59:59Z", false, false, fetched, 1},
		{"versions that have no order: the sequencer has decided", up, "c0ffee", "decade", false, false, told, 0},
		{"a time and a number have no order", up, "6", "2026-11-28T11:59:59Z", false, false, told, 0},
		{"no version", up, "6", "", false, false, told, 0},
		{"nothing that is stored has a version", up, "", "5", false, false, told, 0},
		{"older, and gone by now", up, "6", "5", false, true, gone, 1},
		{"an old deletion of what lives again", del, "6", "5", false, false, fetched, 1},
		{"an old deletion of what is gone", del, "6", "5", false, true, gone, 1},
		{"a deletion with the version of what it deletes", del, "6", "6", false, false, gone, 0},
		{"a deletion without a version", del, "6", "", false, false, gone, 0},
		{"a deletion in doubt", del, "6", "7", true, false, fetched, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var calls atomic.Int64
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				if tt.gone {
					w.WriteHeader(http.StatusNotFound)
					return
				}
				_, _ = fmt.Fprint(w, `{"body":"fetched"}`)
			}))
			defer srv.Close()
			b := newBench(t, t.TempDir(), config.Content{Fetch: srv.URL + "/{document_id}", Body: "body"})
			defer func() { _ = b.store.Close() }()
			defer b.running()()
			first := change("d", 1, up, "stored")
			first.Event.Version = tt.stored
			b.feed(t, first)
			until(t, "the first is stored", func() bool { _, text := b.document("d"); return text == "stored" })
			if n := calls.Load(); n != 0 {
				t.Fatalf("the first event of a document was fetched %d times: there was nothing that could be newer", n)
			}
			next := change("d", 2, tt.action, "")
			if tt.action == up {
				next = change("d", 2, up, told)
			}
			next.Event.Version, next.Refetch = tt.version, tt.refetch
			b.feed(t, next)
			until(t, "the second is carried out", func() bool { d, _ := b.document("d"); return d.GetRevision() == 2 })
			if _, text := b.document("d"); text != tt.want || calls.Load() != tt.fetches {
				t.Errorf("holds %q after %d fetches, want %q after %d", text, calls.Load(), tt.want, tt.fetches)
			}
		})
	}
}

// Where nothing can be fetched there is only what events tell, in the order in which they were let pass.
func TestASourceThatCannotBeAskedIsBelieved(t *testing.T) {
	b := newBench(t, t.TempDir(), config.Content{})
	defer func() { _ = b.store.Close() }()
	defer b.running()()
	older := change("d", 2, up, "later revision, lower version")
	older.Event.Version, older.Refetch = "1", true
	b.feed(t, change("d", 1, up, "first"))
	until(t, "stored", func() bool { d, _ := b.document("d"); return d.GetRevision() == 1 })
	b.feed(t, older)
	until(t, "believed", func() bool { _, text := b.document("d"); return text == "later revision, lower version" })
	late := change("d", 3, del, "")
	late.Event.Version = "0"
	b.feed(t, late)
	until(t, "removed", func() bool {
		res, err := b.service.GetDocument(context.Background(), &embedderv1.GetDocumentRequest{Source: "s", DocumentId: "d"})
		return err == nil && res.GetDocument().GetState() == embedderv1.DocumentState_DOCUMENT_STATE_DELETED
	})
}
