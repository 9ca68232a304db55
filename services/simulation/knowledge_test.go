package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
)

// knowledge watches the knowledge base while the embedder keeps it, and compares it with the world.
type knowledge struct {
	world *world
	store *embedderStore
	// now is the true time.
	now func() time.Time
	// index is the newest change that is known to be in each document.
	index map[string]int
	// embedded counts, per document and content, how often it was embedded and kept; removed how often a document was taken out.
	embedded, removed map[string]int
	// calls counts what the model was asked for, whether it was kept or not.
	calls int
	// asked is what the job that a process works on has heard from the source.
	asked map[*process]answer
	// away: the source answers that it is to be left alone for some minutes.
	away bool
	// broken are promises that were not kept.
	broken []string
	// pending is what the transaction under way will have done.
	pending []func()
}

// answer is what the source said of a document, and which change that was as of.
type answer struct {
	document string
	index    int
}

func newKnowledge(w *world, h hooks, now func() time.Time) *knowledge {
	k := &knowledge{world: w, now: now, index: map[string]int{}, embedded: map[string]int{}, removed: map[string]int{}, asked: map[*process]answer{}}
	k.store = newEmbedderStore(h, k)
	k.store.witness = k
	return k
}

func (k *knowledge) commit() {
	for _, do := range k.pending {
		do()
	}
	k.pending = nil
}

func (k *knowledge) rollback() { k.pending = nil }

// taken implements witness.
func (k *knowledge) taken(ctx context.Context) { delete(k.asked, processOf(ctx)) }

// content is what is searchable of a document.
func (k *knowledge) content(h holding) string {
	var texts []string
	for _, p := range h.pieces {
		texts = append(texts, p.Text)
	}
	return strings.Join(texts, "\n\n")
}

// replaced implements witness.
func (k *knowledge) replaced(_ context.Context, job *embedder.Job, doc embedder.Document) {
	ev := job.Change.GetEvent()
	before, _ := k.store.t.documents.get(documentID{job.Source, job.DocumentID})
	made := slices.ContainsFunc(doc.Pieces, func(p embedder.Piece) bool {
		return !slices.ContainsFunc(before.pieces, func(old embedder.Piece) bool { return slices.Equal(old.Vector, p.Vector) })
	})
	k.pending = append(k.pending, func() {
		k.forward(ev, marked(doc.URL))
		key := ev.GetDocumentId() + "\x00" + k.content(holding{pieces: doc.Pieces})
		if !made {
			return
		}
		if k.embedded[key]++; k.embedded[key] > 1+k.removed[ev.GetDocumentId()] && (!k.world.skew || !k.world.inline || k.world.order != "arrival") {
			k.break_("event %s: %q was embedded %d times", ev.GetId(), key, k.embedded[key])
		}
	})
}

// removedAs is the change that a removal is about: what the source answered, or what the event tells.
func (k *knowledge) removedAs(ctx context.Context, job *embedder.Job) (index int) {
	ev := job.Change.GetEvent()
	known := k.last(ev.GetDocumentId())
	if a, ok := k.asked[processOf(ctx)]; ok && a.document == job.DocumentID {
		return max(a.index, known)
	}
	index = k.indexOf(ev.GetId())
	if ev.GetOrigin() == eventv1.Origin_ORIGIN_CASCADE && k.world.at(k.world.changes[index].at)[ev.GetDocumentId()].touched.index != index {
		return known // the document had been moved out of the container, and only that is not known yet
	}
	return index
}

// removal implements witness.
func (k *knowledge) removal(ctx context.Context, job *embedder.Job, subtree bool) {
	ev := job.Change.GetEvent()
	if subtree {
		k.break_("event %s: the deletion of a subtree came unordered", ev.GetId())
	}
	before, _ := k.store.t.documents.get(documentID{job.Source, job.DocumentID})
	index := k.removedAs(ctx, job)
	k.pending = append(k.pending, func() {
		if len(before.pieces) > 0 { // what is gone already does not go back
			k.forward(ev, index)
			k.removed[ev.GetDocumentId()]++
		}
	})
}

// indexOf is the change that an event is about; the deletion of a member is about that of its container.
func (k *knowledge) indexOf(id string) int {
	id, _, _ = strings.Cut(id, ".")
	return k.world.tells[id].index
}

func (k *knowledge) last(document string) int {
	if i, ok := k.index[document]; ok {
		return i
	}
	return -1
}

// forward sees to it that no document goes back in time, where the source gives any proof of what came first: not if its
// clocks, which are the only proof, differ or tell seconds alone.
func (k *knowledge) forward(ev *eventv1.Event, index int) {
	w, doc := k.world, ev.GetDocumentId()
	clocks := w.skew && (w.containers || w.order == "arrival" || w.order == "time")
	if index < k.last(doc) && !clocks && w.order != "second" {
		k.break_("event %s: %s went back from change %d to %d", ev.GetId(), doc, k.last(doc), index)
	}
	k.index[doc] = max(k.last(doc), index)
}

func (k *knowledge) break_(format string, args ...any) {
	k.broken = append(k.broken, fmt.Sprintf(format, args...))
}

// kept counts the embeddings that were stored.
func (k *knowledge) kept() (n int) {
	for _, times := range k.embedded {
		n += times
	}
	return n
}

// differs compares with the model.
func (k *knowledge) differs() []string {
	want := k.world.final()
	var diff []string
	for at, h := range k.store.t.documents.all() {
		if content := k.content(h); len(h.pieces) > 0 && want[at.id] != content {
			diff = append(diff, fmt.Sprintf("%s holds %q, want %q", at.id, content, want[at.id]))
		}
	}
	for id, content := range want {
		if h, _ := k.store.t.documents.get(documentID{"s", id}); len(h.pieces) == 0 {
			diff = append(diff, fmt.Sprintf("%s is missing, want %q", id, content))
		}
	}
	slices.Sort(diff)
	return diff
}

// unaccounted says what is not known of an event that reached the embedder; empty: nothing.
func (k *knowledge) unaccounted(id string) string {
	r, err := k.store.Event(context.Background(), id)
	switch {
	case err != nil:
		return "the embedder has not seen it"
	case r.GetOutcome() == embedderv1.Outcome_OUTCOME_PENDING:
		return "the embedder has not done it"
	case r.GetReason() == "" && (r.GetOutcome() == embedderv1.Outcome_OUTCOME_SUPERSEDED || r.GetOutcome() == embedderv1.Outcome_OUTCOME_DEAD):
		return "the embedder gives no reason"
	}
	return ""
}
