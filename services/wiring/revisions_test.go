package wiring

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// A sequencer that came back older than the knowledge base goes on above its revisions; one that did not is left as it is.
func TestRevisionsGoOnAboveThoseOfTheKnowledgeBase(t *testing.T) {
	cfg := config.Default()
	cfg.DataDir, cfg.Kafka.Partitions = t.TempDir(), oldPartitions
	s, stop := openStores(t, cfg)
	defer stop()
	for document, revision := range map[string]int64{"ahead": 9, "equal": 5, "behind": 3, "unknown": 40, "forgotten": 2} {
		update(s, s.embedder, kafka.TopicChanged, 0, func(ctx context.Context, tx embedder.Tx) error {
			_, _, err := tx.Enqueue(ctx, changed(document, "event-"+document, revision), nil, moment)
			return err
		})
		job, err := s.embedder.Take(t.Context(), moment, time.Hour, nil)
		s.must(err)
		s.must(s.embedder.Remove(t.Context(), job, false, &embedderv1.EventRecord{Id: "event-" + document}, moment))
	}
	held := sequencer.State{Base: 1, Revision: 4, HasLast: true, Held: []sequencer.Item{{ID: "h", Gap: 60_000_000, At: moment.UnixMicro()}}}
	states := map[string]sequencer.State{"ahead": held, "equal": {Revision: 5}, "behind": {Base: 2, Revision: 2}}
	for document, st := range states {
		key := kafka.DocumentKey("docs", document)
		p := kafka.PartitionOf(key, oldPartitions)
		update(s, s.sequencer, kafka.TopicUnique, p, func(ctx context.Context, tx sequencer.Tx) error { return tx.SetDocument(ctx, string(key), p, st) })
	}
	p := kafka.PartitionOf(kafka.DocumentKey("docs", "unknown"), oldPartitions)
	update(s, s.sequencer, kafka.TopicUnique, p, func(ctx context.Context, tx sequencer.Tx) error {
		return tx.SetTotals(ctx, p, sequencer.Totals{Held: 1, Floor: 2})
	})

	var log bytes.Buffer
	tel := telemetry.Nop()
	tel.Logger = slog.New(slog.NewTextHandler(&log, nil))
	m := &Mesh{cfg: cfg, tel: tel}
	for round := range 2 {
		log.Reset()
		s.must(m.compareRevisions(t.Context(), s.embedder, s.sequencer))
		if told := strings.Contains(log.String(), "sequencer.db is older"); told != (round == 0) {
			t.Errorf("round %d: %s", round, log.String())
		}
		held.Base = 5
		for document, want := range map[string]sequencer.State{"ahead": held, "equal": states["equal"], "behind": states["behind"]} {
			got, err := s.sequencer.Document(t.Context(), "docs/"+document)
			s.must(err)
			s.same(document, got, want)
		}
		for p2 := range oldPartitions {
			update(s, s.sequencer, kafka.TopicUnique, p2, func(ctx context.Context, tx sequencer.Tx) error {
				totals, err := tx.Totals(ctx, p2)
				want := sequencer.Totals{Floor: 40}
				if p2 == p {
					want.Held = 1
				}
				s.same(fmt.Sprint("totals of partition ", p2), totals, want)
				return err
			})
		}
		_, keys, err := s.sequencer.Waiting(t.Context(), "", 10)
		s.same("what waits", []any{keys, err}, []any{[]string{"docs/ahead"}, error(nil)})
	}
}

// half is what a stage's database remembers.
type half struct {
	fits
	positions []stage.Position
	token     string
	links     map[string]int64
}

func (d half) Progress(context.Context) ([]stage.Position, [][]stage.Pending, error) {
	return d.positions, nil, nil
}

func (d half) Agreed(context.Context) (string, map[string]int64, error) {
	return d.token, d.links, nil
}

// Only two databases that are the ones which were compared, or went on from there, need not be compared again.
func TestOnlyDatabasesThatWereComparedWithEachOtherNeedNoComparison(t *testing.T) {
	passed := []stage.Position{{Links: map[string]int64{"line/1/a": 7}}}
	sent := func(seq int64) []stage.Position { return []stage.Position{{Epoch: "line/1/a", Seq: seq}} }
	for name, tt := range map[string]struct {
		knowledge, order half
		fit              bool
	}{
		"as they were":                                {half{positions: passed, token: "x"}, half{positions: sent(7), token: "x"}, true},
		"the sequencer went on":                       {half{positions: passed, token: "x"}, half{positions: sent(9), token: "x"}, true},
		"the sequencer went back":                     {half{positions: passed, token: "x"}, half{positions: sent(6), token: "x"}, false},
		"it was so when they were compared":           {half{positions: passed, token: "x", links: map[string]int64{"line/1/a": 7}}, half{positions: sent(6), token: "x"}, true},
		"the sequencer's dates from before":           {half{positions: passed, token: "x"}, half{positions: sent(7), token: "w"}, false},
		"the knowledge base dates from before":        {half{positions: passed, token: "w"}, half{positions: sent(7), token: "x"}, false},
		"the sequencer worked without the comparison": {half{positions: passed, token: "x"}, half{positions: sent(7)}, false},
		"they were never compared":                    {half{positions: passed}, half{positions: sent(7)}, false},
	} {
		if _, fit, err := accounted(t.Context(), tt.knowledge, tt.order); err != nil || fit != tt.fit {
			t.Errorf("%s: need no comparison: %v, want %v (%v)", name, fit, tt.fit, err)
		}
	}
}
