package simulation

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
)

// profile says what kind of source it is and how its changes reach us.
type profile struct {
	order string // arrival, version, time, second, contiguous, source
	// keyed: the provider sends ids of its own. inline: events carry their content. fetch: the content can be fetched.
	keyed, inline, fetch bool
	// skew: the source's machines have clocks that differ. lossy: deliveries get lost, and a poll makes up for it at the end.
	skew, lossy, containers bool
	// subscribed: it tells of changes only while a subscription lives, and is hardly ever polled on schedule.
	subscribed bool
}

// drawProfile draws a kind of source that can converge at all: where content cannot be fetched nothing may be lost.
func drawProfile(d dice) profile {
	p := profile{order: []string{"version", "contiguous", "source", "time", "arrival", "second"}[d.IntN(6, "order")]}
	p.keyed, p.containers = !chance(d, 3, "no keys"), chance(d, 2, "containers")
	p.inline = chance(d, 2, "inline")
	p.fetch = !p.inline || p.order == "arrival" || p.order == "second" || !chance(d, 3, "no fetch")
	if p.fetch {
		p.skew, p.lossy = chance(d, 3, "skew"), chance(d, 2, "lossy")
	}
	return p
}

// needsPoll says whether only a poll can make up for what is lost or cannot be told apart.
func (p profile) needsPoll() bool { return p.lossy || p.skew || p.order == "second" }

// change is one thing that truly happened.
type change struct {
	index     int
	at        time.Time
	document  string
	action    eventv1.Action
	container string
	content   string
	version   int64 // counts as the source counts: deletions have the version of what they delete
	counter   int64 // counts every change of the document
	total     int64 // counts every change of the source
	node      int   // which of the source's machines stamped it
}

// world is a source.
type world struct {
	profile
	start   time.Time
	changes []change
	skews   [2]time.Duration
	// padding makes its deliveries long, and says nothing.
	padding string
	// tells says which change an event is about.
	tells map[string]change
}

// life is a document while the history is made.
type life struct {
	alive            bool
	container        string
	version, counter int64
	content          string
}

// newWorld makes a history: create, edit, rename (no other content), move, delete, create again, delete a container, over
// some minutes.
func newWorld(d dice, p profile, start time.Time, steps int) *world {
	w := &world{profile: p, start: start, tells: map[string]change{}}
	if p.skew {
		w.skews = [2]time.Duration{time.Duration(d.IntN(5000, "skew")) * time.Millisecond, -time.Duration(d.IntN(5000, "skew")) * time.Millisecond}
	}
	documents, pause := 1+d.IntN(4, "documents"), 15_000
	if p.subscribed {
		pause = 120_000 // so that subscriptions end meanwhile
	}
	lives := map[string]*life{}
	at := start
	for range steps {
		at = at.Add(time.Duration(1+d.IntN(pause, "pause")) * time.Millisecond)
		doc := fmt.Sprintf("doc-%d", d.IntN(documents, "document"))
		if p.containers && doc == "doc-0" {
			doc = "space-0/" + doc // its id says where it lies
		}
		if lives[doc] == nil {
			lives[doc] = &life{container: "space-0"}
		}
		l := lives[doc]
		what := d.IntN(8, "what")
		c := change{at: at, document: doc, action: eventv1.Action_ACTION_UPDATED, node: d.IntN(2, "node")}
		switch {
		case what == 7 && p.containers:
			c.document, c.action = fmt.Sprintf("space-%d", d.IntN(2, "container")), eventv1.Action_ACTION_SUBTREE_DELETED
			for id, o := range lives {
				if o.alive && (o.container == c.document || inside(id, c.document)) {
					o.alive = false
				}
			}
			l = lives[c.document]
			if l == nil {
				l = &life{}
				lives[c.document] = l
			}
			l.version++
		case !l.alive:
			c.action, l.alive = eventv1.Action_ACTION_CREATED, true
			l.version++
			l.content = fmt.Sprintf("%s as of %d", doc, len(w.changes))
		case what == 5:
			c.action, l.alive = eventv1.Action_ACTION_DELETED, false
		case what == 6 && p.containers && !inside(doc, "space-0"):
			l.container = fmt.Sprintf("space-%d", d.IntN(2, "to"))
			l.version++
		case what == 4:
			l.version++ // renamed
		default:
			l.version++
			l.content = fmt.Sprintf("%s as of %d", doc, len(w.changes))
		}
		l.counter++
		c.index, c.container, c.content, c.version, c.counter, c.total = len(w.changes), l.container, l.content, l.version, l.counter, int64(len(w.changes)+1)
		w.changes = append(w.changes, c)
	}
	return w
}

func inside(document, container string) bool {
	return len(document) > len(container) && document[:len(container)+1] == container+"/"
}

// standing is what the source holds of a document at a time.
type standing struct {
	change
	gone bool
	// touched is the newest change that made it so: its own, or the deletion of its container.
	touched change
}

// at is the reference model: what the source holds at a time, from its history alone. A document is as its newest change
// says, unless that deletes it, or a container that it lay in was deleted since.
func (w *world) at(t time.Time) map[string]standing {
	all := map[string]standing{}
	for _, c := range w.changes {
		if c.at.After(t) {
			break
		}
		if c.action == eventv1.Action_ACTION_SUBTREE_DELETED {
			for id, s := range all {
				if !s.gone && (s.container == c.document || inside(id, c.document)) {
					s.gone, s.touched = true, c
					all[id] = s
				}
			}
			continue
		}
		all[c.document] = standing{change: c, gone: c.action == eventv1.Action_ACTION_DELETED, touched: c}
	}
	return all
}

// final is what the knowledge base must hold in the end.
func (w *world) final() map[string]string {
	want := map[string]string{}
	for id, s := range w.at(w.end()) {
		if !s.gone {
			want[id] = s.content
		}
	}
	return want
}

func (w *world) end() time.Time { return w.changes[len(w.changes)-1].at }

// position is what the source says about the order of a change.
func (w *world) position(c change) (eventv1.OrderingMode, *int64) {
	n := c.version
	mode := eventv1.OrderingMode_ORDERING_MODE_MONOTONIC
	switch w.order {
	case "arrival":
		return eventv1.OrderingMode_ORDERING_MODE_ARRIVAL, nil
	case "contiguous":
		mode, n = eventv1.OrderingMode_ORDERING_MODE_CONTIGUOUS, c.counter
	case "source":
		mode, n = eventv1.OrderingMode_ORDERING_MODE_SOURCE_CONTIGUOUS, c.total
	case "time":
		n = c.at.UnixMicro()
	case "second":
		n = c.at.Truncate(time.Second).UnixMicro()
	}
	return mode, &n
}

// stamp is when the source says that a change happened.
func (w *world) stamp(c change) time.Time {
	t := c.at.Add(w.skews[c.node])
	if w.order == "second" {
		t = t.Truncate(time.Second)
	}
	return t
}

// webhook is the event of a change, as the verifier would make it.
func (w *world) webhook(c change, id string, received time.Time) *eventv1.Event {
	ev := &eventv1.Event{
		Id: id, Source: "s", DocumentId: c.document, Action: c.action, Origin: eventv1.Origin_ORIGIN_WEBHOOK, Assurance: eventv1.Assurance_ASSURANCE_BODY,
		OccurredAt: timestamppb.New(w.stamp(c)), ReceivedAt: timestamppb.New(received), Content: &eventv1.Content{Url: mark(c.index)}, GapTimeoutMs: 30_000,
	}
	w.tells[id] = c
	ev.Ordering, ev.Sequence = w.position(c)
	if w.order != "arrival" {
		ev.Version = fmt.Sprint(*ev.Sequence)
	}
	if w.keyed {
		ev.IdempotencyKey = fmt.Sprint("key-", c.index)
	}
	sum := sha256.Sum256(fmt.Append(nil, c.action, c.document, c.container, c.content, c.version, w.stamp(c)))
	ev.ContentHash = sum[:]
	if w.containers && c.action != eventv1.Action_ACTION_SUBTREE_DELETED {
		ev.Containers = []string{c.container}
	}
	if w.inline && c.action != subtree { // a container has no content
		ev.Content.Inline, ev.Content.Text = true, c.content
	}
	return ev
}

// poll lists what the source holds at a time, the deleted documents too.
func (w *world) poll(now time.Time, id func() string) []*eventv1.Event {
	standings := w.at(now)
	documents := make([]string, 0, len(standings))
	for d := range standings {
		documents = append(documents, d)
	}
	slices.Sort(documents)
	var events []*eventv1.Event
	for _, doc := range documents {
		s := standings[doc]
		ev := w.fetchEvent(doc, eventv1.Origin_ORIGIN_POLL, id(), now)
		w.tells[ev.GetId()] = s.touched
		ev.OccurredAt = timestamppb.New(w.stamp(s.touched))
		ev.Ordering, ev.Sequence = w.position(s.change)
		if w.order != "arrival" {
			ev.Version = fmt.Sprint(*ev.Sequence)
		}
		if s.gone {
			ev.Action = eventv1.Action_ACTION_DELETED
		} else if w.containers {
			ev.Containers = []string{s.container}
		}
		events = append(events, ev)
	}
	return events
}

// fetchEvent is an event of our own about a document, whose content is to be fetched.
func (w *world) fetchEvent(doc string, origin eventv1.Origin, id string, now time.Time) *eventv1.Event {
	mode, _ := w.position(change{})
	return &eventv1.Event{Id: id, Source: "s", DocumentId: doc, Action: eventv1.Action_ACTION_UPDATED, Origin: origin, Ordering: mode,
		ReceivedAt: timestamppb.New(now), Assurance: eventv1.Assurance_ASSURANCE_BODY, Content: &eventv1.Content{}}
}

// String tells the history.
func (w *world) String() string {
	s := fmt.Sprintf("%+v, skews %v", w.profile, w.skews)
	for _, c := range w.changes {
		s += fmt.Sprintf("\n%d %s: %s of %s in %s, version %d, counter %d, total %d, node %d: %s", c.index, c.at.Sub(w.start), c.action, c.document, c.container, c.version, c.counter, c.total, c.node, c.content)
	}
	return s
}
