package simulation

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/events"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
)

// source is the world as its API lists it: what changed since a cursor, in pages that are read while it goes on changing. Now and
// then it asks to be left alone, forgets its cursors, or answers late. It also watches what the reconcilers make of it.
type source struct {
	world     *world
	scheduler *scheduler
	dice      dice
	log       *memoryLog
	page      int
	// feed is how it calls us; nil: nobody has to ask it to.
	feed *feed
	// people are told of incidents; nil: nobody is.
	people *people
	// silent: its list names no deletion, so that only a sweep finds one whose webhook was lost.
	silent bool
	// epoch counts how often it has forgotten its cursors.
	epoch int

	// walks counts the lists that were read to their end, begins those that were begun at the beginning. shown is when each change was
	// listed last.
	walks, begins int
	shown         map[edition]time.Time
	// seen is how far the log of accepted events was read; told are the changes of documents that polls have told, fetched counts the
	// events by which a document was asked for.
	seen    [partitions]int
	told    map[edition]bool
	fetched map[string]int
	// noted is what had been done when a debt of that version was noted, debts which documents were ever owed.
	noted map[int64]int
	debts map[documentID]bool
	// changed is how far the log of changes was read, sent how often each change is in it, buried how often it was when its letter of that
	// number was kept.
	changed [partitions]int
	sent    map[string]int
	buried  map[int64]int
	// pending is what the transaction under way will have done; broken are promises that were not kept.
	pending []func()
	broken  []string
}

// edition is a document as of a change.
type edition struct {
	document string
	index    int
}

func newSource(w *world, s *scheduler, d dice, log *memoryLog) *source {
	out := &source{world: w, scheduler: s, dice: d, log: log, page: 1 + d.IntN(4, "page"), silent: w.fetch && chance(d, 3, "silent"),
		shown: map[edition]time.Time{}, told: map[edition]bool{}, fetched: map[string]int{}, sent: map[string]int{}, buried: map[int64]int{}, noted: map[int64]int{}, debts: map[documentID]bool{}}
	if w.subscribed {
		out.feed = newFeed(out)
	}
	return out
}

// cursor is where a list was left: after a document as of a change.
func (s *source) cursor(at edition) string {
	return fmt.Sprintf("%d/%d/%s", s.epoch, at.index, at.document)
}

func parseCursor(cursor string) (epoch int, at edition) {
	if cursor == "" {
		return 0, edition{"", -1}
	}
	parts := strings.SplitN(cursor, "/", 3)
	epoch, err1 := strconv.Atoi(parts[0])
	index, err2 := strconv.Atoi(parts[1])
	if err1 != nil || err2 != nil {
		panic(cursor) // the reconciler keeps what it was given
	}
	return epoch, edition{parts[2], index}
}

func after(a, b edition) int {
	return cmp.Or(cmp.Compare(a.index, b.index), cmp.Compare(a.document, b.document))
}

// List implements connector.Lister.
func (s *source) List(ctx context.Context, cursor string) (connector.Page, error) {
	if err := s.asked(ctx, "lists from "+strconv.Quote(cursor)); err != nil {
		return connector.Page{}, err
	}
	epoch, from := parseCursor(cursor)
	if cursor != "" && epoch != s.epoch {
		s.scheduler.tally.met(metForgotten)
		return connector.Page{}, connector.BadCursor()
	}
	rest := s.standings(func(at edition, gone bool) bool { return after(at, from) > 0 && (!gone || !s.silent) })
	page := connector.Page{Next: s.cursor(from), More: len(rest) > s.page}
	if cursor == "" {
		s.begins++
	}
	for _, doc := range rest[:min(s.page, len(rest))] {
		s.shown[edition{doc.document, doc.touched.index}] = time.Now()
		page.Changes = append(page.Changes, s.change(doc))
		page.Next = s.cursor(edition{doc.document, doc.touched.index})
	}
	if err := s.answered(ctx); err != nil {
		return connector.Page{}, err
	}
	if !page.More {
		s.walks++
		s.scheduler.tally.met(metWalk)
	}
	return page, nil
}

// sweeper lists what exists, by offsets: a document may be missing because one before it went while the list was read.
type sweeper struct{ *source }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	if err := s.asked(ctx, "sweeps from "+strconv.Quote(cursor)); err != nil {
		return connector.Page{}, err
	}
	from, err := strconv.Atoi(cmp.Or(cursor, "0"))
	if err != nil {
		panic(err) // the reconciler keeps what it was given
	}
	all := s.standings(func(_ edition, gone bool) bool { return !gone })
	slices.SortFunc(all, func(a, b standing) int { return cmp.Compare(a.document, b.document) })
	from = min(from, len(all))
	end := min(from+s.page, len(all))
	page := connector.Page{Next: strconv.Itoa(end), More: end < len(all)}
	for _, doc := range all[from:end] {
		page.Changes = append(page.Changes, s.change(doc))
	}
	return page, s.answered(ctx)
}

// asked is the way to the source.
func (s *source) asked(ctx context.Context, what string) error {
	if err := s.scheduler.step(ctx, what); err != nil {
		return &connector.Error{Err: err}
	}
	if s.scheduler.isCalm() {
		return nil
	}
	switch s.dice.IntN(12, "list") {
	case 0:
		s.scheduler.tally.met(metBusy)
		return &connector.Error{RetryAfter: time.Duration(1+s.dice.IntN(40, "retry after")) * time.Second, Err: errFault}
	case 1:
		s.epoch++
	}
	return nil
}

// answered is the way back. It may take longer than a lease, and not all that asked are still there then.
func (s *source) answered(ctx context.Context) error {
	if !chance(s.dice, 5, "a slow answer") {
		return nil
	}
	s.scheduler.tally.met(metSlowSource)
	late := time.NewTimer(time.Duration(s.dice.IntN(25_000, "slow")) * time.Millisecond)
	defer late.Stop()
	gone := ctx.Done()
	if chance(s.dice, 2, "a zombie") {
		gone = nil
		defer func() {
			if ctx.Err() != nil {
				s.scheduler.tally.met(metZombie)
			}
		}()
	}
	select {
	case <-gone:
		return context.Cause(ctx)
	case <-late.C:
	}
	if err := s.scheduler.step(ctx, "is answered late"); err != nil {
		return &connector.Error{Err: err}
	}
	return nil
}

// standings are the documents as they are now, in the order of their changes.
func (s *source) standings(which func(at edition, gone bool) bool) (all []standing) {
	for doc, st := range s.world.at(time.Now()) {
		if which(edition{doc, st.touched.index}, st.gone) {
			all = append(all, st)
		}
	}
	slices.SortFunc(all, func(a, b standing) int {
		return after(edition{a.document, a.touched.index}, edition{b.document, b.touched.index})
	})
	return all
}

// change is an entry of a list. Its URL says which change it is as of.
func (s *source) change(st standing) connector.Change {
	w := s.world
	c := connector.Change{DocumentID: st.document, URL: mark(st.touched.index), Deleted: st.gone, UpdatedAt: w.stamp(st.touched)}
	if _, n := w.position(st.change); n != nil {
		c.Sequence, c.Version = n, fmt.Sprint(*n)
	}
	if w.containers && !st.gone {
		c.Containers = []string{st.container}
	}
	return c
}

// look reads what was accepted since it was looked last.
func (s *source) look() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	for p := range partitions {
		records := s.log.topics[place{kafka.TopicAccepted, p}]
		for _, rec := range records[s.seen[p]:] {
			ev, err := events.Decode(rec.Value)
			switch {
			case err != nil || ev.GetSource() != "s":
			case ev.GetOrigin() == eventv1.Origin_ORIGIN_POLL:
				s.told[edition{ev.GetDocumentId(), marked(ev.GetContent().GetUrl())}] = true
			case ev.GetOrigin() == eventv1.Origin_ORIGIN_DEBT:
				s.fetched[ev.GetDocumentId()]++
			}
		}
		s.seen[p] = len(records)
		records = s.log.topics[place{kafka.TopicChanged, p}]
		for _, rec := range records[s.changed[p]:] {
			if c, err := events.DecodeChange(rec.Value); err == nil {
				s.sent[name(c)]++
			}
		}
		s.changed[p] = len(records)
	}
}

// name tells a change from all others.
func name(c *eventv1.Change) string { return fmt.Sprint(c.GetEvent().GetId(), " at ", c.GetRevision()) }

// buries takes in that a dead letter is kept.
func (s *source) buries(d *eventv1.DeadLetter, number int64) {
	if s == nil || d.GetChange() == nil {
		return
	}
	s.pending = append(s.pending, func() {
		s.look()
		s.buried[number] = s.sent[name(d.GetChange())]
	})
}

// replayed sees to it that a letter is closed only after its change was sent again.
func (s *source) replayed(d *eventv1.DeadLetter, number int64) {
	if s == nil || d.GetChange() == nil {
		return
	}
	s.pending = append(s.pending, func() {
		s.scheduler.tally.met(metReplayed)
		if s.look(); s.sent[name(d.GetChange())] <= s.buried[number] {
			s.broken = append(s.broken, fmt.Sprintf("%s: the letter of %s was closed, and its change was not sent again", time.Now().Format("15:04:05"), name(d.GetChange())))
		}
	})
}

func (s *source) commit() {
	for _, do := range s.pending {
		do()
	}
	s.pending = nil
}

func (s *source) rollback() { s.pending = nil }

// moved sees to it that a cursor leaves nothing behind that was not produced.
func (s *source) moved(name, cursor string) {
	if s == nil || name != "s" {
		return
	}
	s.pending = append(s.pending, func() {
		s.look()
		_, to := parseCursor(cursor)
		for _, st := range s.standings(func(at edition, gone bool) bool { return after(at, to) <= 0 && (!gone || !s.silent) }) {
			if at := (edition{st.document, st.touched.index}); !s.told[at] {
				s.broken = append(s.broken, fmt.Sprintf("%s: the cursor %s was stored, and nobody was told of change %d of %s", time.Now().Format("15:04:05"), cursor, at.index, at.document))
			}
		}
	})
}

// done is how often what a debt asks for was done.
func (s *source) done(d *eventv1.Debt) int {
	switch {
	case d.GetDocumentId() != "":
		return s.fetched[d.GetDocumentId()]
	case d.GetReason() == "RESYNC":
		return s.begins
	}
	return s.walks
}

// owes takes in that a debt was noted.
func (s *source) owes(d *eventv1.Debt, version int64) {
	if s == nil {
		return
	}
	at := documentID{d.GetSource(), d.GetDocumentId()}
	s.pending = append(s.pending, func() {
		s.look()
		s.noted[version], s.debts[at] = s.done(d), true
	})
}

// pays sees to it that a debt is paid only after what it asks for was done.
func (s *source) pays(d *eventv1.Debt, version int64) {
	if s == nil || d.GetSource() != "s" {
		return
	}
	s.pending = append(s.pending, func() {
		s.scheduler.tally.met(metPaid)
		if s.look(); s.done(d) <= s.noted[version] {
			s.broken = append(s.broken, fmt.Sprintf("%s: the debt of %q was paid, and nothing was done for it", time.Now().Format("15:04:05"), d.GetDocumentId()))
		}
	})
}

// looked takes in that something was read of what is kept of a source.
func (s *source) looked(ctx context.Context, kind, name string) {
	switch {
	case s == nil:
	case kind == "subscriptions" && name == "s":
		s.feed.looked(ctx)
	case kind == "alerts":
		s.people.looked(ctx, name)
	}
}

// keeps takes in what is to be kept of a source.
func (s *source) keeps(ctx context.Context, kind, name string, state []byte) {
	switch {
	case s == nil:
	case kind == "subscriptions" && name == "s":
		s.feed.keeps(ctx, state)
	case kind == "alerts":
		s.pending = append(s.pending, func() { s.people.keeps(processOf(ctx), name, state) })
	}
}

// notKept takes in that it was not kept, or that nobody heard so.
func (s *source) notKept(ctx context.Context, kind, name string) {
	switch {
	case s == nil:
	case kind == "subscriptions" && name == "s":
		s.feed.notKept(ctx)
	case kind == "alerts":
		s.people.notKept(ctx)
	}
}

// nothing is a source that is empty. It is there to be shared.
type nothing struct{ scheduler *scheduler }

// List implements connector.Lister.
func (n nothing) List(ctx context.Context, cursor string) (connector.Page, error) {
	if err := n.scheduler.step(ctx, "lists nothing"); err != nil {
		return connector.Page{}, &connector.Error{Err: err}
	}
	return connector.Page{Next: cmp.Or(cursor, "end")}, nil
}
