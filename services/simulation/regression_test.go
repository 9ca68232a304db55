package simulation

import (
	"strings"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

const (
	created = eventv1.Action_ACTION_CREATED
	updated = eventv1.Action_ACTION_UPDATED
	deleted = eventv1.Action_ACTION_DELETED
	subtree = eventv1.Action_ACTION_SUBTREE_DELETED
)

// script makes a world of changes, a second apart unless they say when.
func script(p profile, changes ...change) *world {
	w := &world{profile: p, start: noon, tells: map[string]change{}}
	for i, c := range changes {
		c.index, c.total = i, int64(i+1)
		if c.at.IsZero() {
			c.at = noon.Add(time.Duration(i+1) * time.Second)
		}
		w.changes = append(w.changes, c)
	}
	return w
}

// Histories that rapid found and shrank, each of which once ended wrong.
func TestWhatOnceWentWrong(t *testing.T) {
	containers := profile{order: "version", keyed: true, fetch: true, containers: true}
	both := profile{order: "version", keyed: true, inline: true, fetch: true, skew: true, containers: true}
	inline := profile{order: "contiguous", keyed: true, inline: true, containers: true}
	seconds := profile{order: "second", keyed: true, fetch: true, containers: true}
	ms := func(n int) time.Time { return noon.Add(time.Duration(n) * time.Millisecond) }
	tests := []struct {
		name  string
		world *world
		play  func(l *line)
	}{
		{"a poll brings back what a clock that is behind had buried", script(both,
			change{document: "d", action: created, container: "space", content: "old", version: 1},
			change{document: "space", action: subtree, version: 1},
			change{document: "d", action: created, container: "space", content: "new", version: 2, node: 1}),
			func(l *line) { l.world.skews[1] = -5 * time.Second; l.webhooks(0, 1, 2); l.pollIn(time.Minute) }},
		{"an update of a document that lives again is no late one, even if its clock is behind", script(both,
			change{document: "d", action: created, container: "space", content: "1", version: 1},
			change{document: "space", action: subtree, version: 1},
			change{document: "d", action: created, container: "space", content: "2", version: 2},
			change{document: "d", action: updated, container: "space", content: "3", version: 3, node: 1}),
			func(l *line) { l.world.skews[1] = -5 * time.Second; l.webhooks(0, 1, 2, 3); l.pollIn(time.Minute) }},
		{"what waits in another container is not deleted with the one it came from", script(inline,
			change{document: "d", action: created, container: "space", content: "1", counter: 1},
			change{document: "d", action: updated, container: "space", content: "2", counter: 2},
			change{document: "d", action: updated, container: "other", content: "2", counter: 3},
			change{document: "space", action: subtree, counter: 1}),
			func(l *line) { l.webhooks(0, 2, 3) }},
		{"what was moved into a container before that was deleted is deleted, although it was no member", script(inline,
			change{document: "d", action: created, container: "space", content: "1", counter: 1},
			change{document: "d", action: updated, container: "other", content: "1", counter: 2},
			change{document: "d", action: updated, container: "space", content: "1", counter: 3},
			change{document: "space", action: subtree, counter: 1}),
			func(l *line) { l.webhooks(0, 1, 3, 2) }},
		{"a deletion that was in doubt is none: the next one of its container counts", script(seconds,
			change{at: ms(100), document: "d", action: created, container: "space", content: "1"},
			change{at: ms(200), document: "space", action: subtree},
			change{at: ms(300), document: "d", action: created, container: "space", content: "2"},
			change{at: ms(1500), document: "space", action: subtree}),
			func(l *line) { l.webhooks(0, 2, 1, 3) }},
		{"what was fetched may be newer than the deletion of its container", script(containers,
			change{document: "d", action: created, container: "space", content: "1", version: 1},
			change{document: "space", action: subtree, version: 1},
			change{document: "d", action: created, container: "space", content: "2", version: 2}),
			func(l *line) { l.until(noon.Add(10 * time.Second)); l.webhooks(0, 1, 2) }},
		{"what was moved away lives when its container is deleted later", script(containers,
			change{document: "d", action: created, container: "space", content: "1", version: 1},
			change{document: "d", action: updated, container: "other", content: "1", version: 2},
			change{document: "space", action: subtree, version: 1}),
			func(l *line) { l.webhooks(0, 1, 2) }},
		{"what was fetched after an outage is newer than an event that was under way", script(profile{order: "version", keyed: true, inline: true, fetch: true},
			change{document: "d", action: created, content: "1", version: 1},
			change{at: noon.Add(340 * time.Second), document: "d", action: updated, content: "2", version: 2},
			change{at: noon.Add(360 * time.Second), document: "d", action: updated, content: "3", version: 3}),
			func(l *line) {
				l.knowledge.away = true
				l.pollIn(10 * time.Second)
				l.knowledge.away = false
				l.webhookAt(1, noon.Add(400*time.Second))
				l.webhookAt(2, noon.Add(401*time.Second))
			}},
		{"a late event does not say where the document lies by now", script(profile{order: "arrival", keyed: true, fetch: true, containers: true},
			change{document: "d", action: created, container: "space", content: "1"},
			change{document: "d", action: updated, container: "other", content: "1"},
			change{document: "other", action: subtree}),
			func(l *line) { l.webhooks(1, 0, 2) }},
		{"a late deletion at the version at which the document was restored", script(profile{order: "version", keyed: true, fetch: true},
			change{document: "d", action: created, content: "1", version: 1},
			change{document: "d", action: deleted, content: "1", version: 1},
			change{document: "d", action: created, content: "1", version: 1}),
			func(l *line) { l.webhooks(0, 2, 1) }},
		{"a poll finds what was restored at the same version, and no webhook told of it", script(profile{order: "version", keyed: true, fetch: true},
			change{document: "d", action: created, content: "1", version: 1},
			change{document: "d", action: deleted, content: "1", version: 1},
			change{document: "d", action: created, content: "1", version: 1}),
			func(l *line) { l.webhooks(0, 1); l.pollIn(time.Minute) }},
		{"what was taken back and published again within a second is there", script(profile{order: "second", keyed: true, fetch: true},
			change{at: ms(100), document: "d", action: created, content: "1"},
			change{at: ms(1100), document: "d", action: deleted, content: "1"},
			change{at: ms(1700), document: "d", action: created, content: "2"}),
			func(l *line) { l.webhooks(0, 1, 2) }},
		{"a poll after the second of a position is over finds the change whose webhook was lost", script(profile{order: "second", keyed: true, fetch: true},
			change{at: ms(100), document: "d", action: created, content: "1"},
			change{at: ms(700), document: "d", action: updated, content: "2"}),
			func(l *line) { l.webhookAt(0, ms(150)); l.pollIn(time.Minute) }},
		{"what a poll was told before a container was deleted does not keep its members alive, however long the answer took", script(containers,
			change{document: "d", action: created, container: "space", content: "1", version: 1},
			change{document: "space", action: subtree, version: 1}),
			func(l *line) {
				l.webhooks(0)
				found := l.world.poll(l.now, l.id) // the answer comes a while later, and is as old as the question
				l.until(noon.Add(3 * time.Second))
				gone := l.world.webhook(l.world.changes[1], l.id(), l.now) // waits in the log
				l.until(noon.Add(4 * time.Second))
				l.deliver(found[0])
				l.deliver(gone)
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := newLine(t, tt.world, sequencer.Config{})
			tt.play(l)
			l.until(l.now.Add(10 * time.Minute))
			l.pay()
			if trouble := append(append(l.knowledge.differs(), l.knowledge.broken...), l.unaccounted()...); len(trouble) > 0 {
				t.Errorf("%s\n%s", strings.Join(trouble, "\n"), strings.Join(l.log, "\n"))
			}
		})
	}
}

// webhooks delivers changes in the given order, each when it can come at the earliest.
func (l *line) webhooks(indexes ...int) {
	for _, i := range indexes {
		l.webhookAt(i, l.world.changes[i].at.Add(time.Millisecond))
	}
}

func (l *line) webhookAt(i int, at time.Time) {
	l.until(at)
	l.deliver(l.world.webhook(l.world.changes[i], l.id(), l.now))
}

func (l *line) pollIn(d time.Duration) {
	l.until(l.now.Add(d))
	for _, ev := range l.world.poll(l.now, l.id) {
		l.deliver(ev)
	}
}
