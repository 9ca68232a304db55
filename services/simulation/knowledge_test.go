package simulation

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// knowledge is what the embedder decides: newest revision wins, content comes from the event or from the source, and only
// content that is new is embedded.
type knowledge struct {
	world     *world
	documents map[string]*entry
	// outcomes is what became of the changes that came here.
	outcomes map[string]string
	// embedded counts, per document and content, how often it was embedded; removed how often a document was taken out.
	embedded, removed map[string]int
	// broken are promises that were not kept.
	broken []string
	// pending is what the transaction under way will have done.
	pending []func()
}

func (k *knowledge) commit() {
	for _, do := range k.pending {
		do()
	}
	k.pending = nil
}

func (k *knowledge) rollback() { k.pending = nil }

type entry struct {
	revision int64
	alive    bool
	content  string
	version  string
	// index is of the newest change that is known to be in it.
	index int
}

func newKnowledge(w *world) *knowledge {
	return &knowledge{w, map[string]*entry{}, map[string]string{}, map[string]int{}, map[string]int{}, nil, nil}
}

// apply carries out a change at a time.
func (k *knowledge) apply(c *eventv1.Change, now time.Time) {
	ev := c.GetEvent()
	e := k.documents[ev.GetDocumentId()]
	if e == nil {
		e = &entry{index: -1}
		k.documents[ev.GetDocumentId()] = e
	}
	if c.GetRevision() <= e.revision {
		k.outcomes[ev.GetId()] = "superseded: a newer revision was there"
		return
	}
	e.revision = c.GetRevision()
	// What the source was found to hold may be newer than the event: then it is asked again instead of going back.
	trusted := !k.world.fetch || (!c.GetRefetch() && !older(ev.GetVersion(), e.version))
	switch {
	case ev.GetAction() == eventv1.Action_ACTION_SUBTREE_DELETED:
		k.break_("event %s: the deletion of a subtree came unordered", ev.GetId())
	case ev.GetAction() == eventv1.Action_ACTION_DELETED && trusted:
		index := k.indexOf(ev.GetId())
		if ev.GetOrigin() == eventv1.Origin_ORIGIN_CASCADE && k.world.at(k.world.changes[index].at)[ev.GetDocumentId()].touched.index != index {
			index = e.index // the document had been moved out of the container, and only that is not known yet
		}
		k.remove(e, ev, index)
	case ev.GetContent().GetInline() && trusted:
		k.replace(e, ev, ev.GetContent().GetText(), ev.GetVersion(), k.indexOf(ev.GetId()))
	default:
		s, ok := k.world.at(now)[ev.GetDocumentId()]
		if !ok || s.gone {
			k.remove(e, ev, max(s.touched.index, e.index))
			return
		}
		version := ""
		if _, n := k.world.position(s.change); n != nil {
			version = fmt.Sprint(*n)
		}
		k.replace(e, ev, s.content, version, s.touched.index)
	}
}

// older says whether a version is less than another, if both are numbers.
func older(a, b string) bool {
	x, err1 := strconv.ParseInt(a, 10, 64)
	y, err2 := strconv.ParseInt(b, 10, 64)
	return err1 == nil && err2 == nil && x < y
}

// indexOf is the change that an event is about; the deletion of a member is about that of its container.
func (k *knowledge) indexOf(id string) int {
	id, _, _ = strings.Cut(id, ".")
	return k.world.tells[id].index
}

func (k *knowledge) replace(e *entry, ev *eventv1.Event, content, version string, index int) {
	k.forward(e, ev, index)
	k.outcomes[ev.GetId()] = "embedded"
	if !e.alive || e.content != content {
		key := ev.GetDocumentId() + "\x00" + content
		if k.embedded[key]++; k.embedded[key] > 1+k.removed[ev.GetDocumentId()] && (k.world.order != "arrival" || !k.world.inline) {
			k.break_("event %s: %q was embedded %d times", ev.GetId(), content, k.embedded[key])
		}
	}
	e.alive, e.content, e.version = true, content, version
}

func (k *knowledge) remove(e *entry, ev *eventv1.Event, index int) {
	k.outcomes[ev.GetId()] = "removed"
	if e.alive { // what is gone already does not go back
		k.forward(e, ev, index)
		k.removed[ev.GetDocumentId()]++
	}
	e.alive, e.content = false, ""
}

// forward sees to it that no document goes back in time, where the source gives any proof of what came first: not if its
// clocks, which are the only proof, differ or tell seconds alone, nor if payloads without any position are to be trusted.
func (k *knowledge) forward(e *entry, ev *eventv1.Event, index int) {
	w := k.world
	clocks := w.skew && (w.containers || w.order == "arrival" || w.order == "time")
	if index < e.index && !clocks && w.order != "second" && (w.order != "arrival" || !w.inline) {
		k.break_("event %s: %s went back from change %d to %d", ev.GetId(), ev.GetDocumentId(), e.index, index)
	}
	e.index = max(e.index, index)
}

func (k *knowledge) break_(format string, args ...any) {
	k.broken = append(k.broken, fmt.Sprintf(format, args...))
}

// differs compares with the model.
func (k *knowledge) differs() []string {
	want := k.world.final()
	var diff []string
	for id, e := range k.documents {
		if e.alive && want[id] != e.content {
			diff = append(diff, fmt.Sprintf("%s holds %q, want %q", id, e.content, want[id]))
		}
	}
	for id, content := range want {
		if e := k.documents[id]; e == nil || !e.alive {
			diff = append(diff, fmt.Sprintf("%s is missing, want %q", id, content))
		}
	}
	return diff
}
