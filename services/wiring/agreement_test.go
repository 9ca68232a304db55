package wiring

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/sequencer"
)

// looked notes whether all documents were compared.
type looked struct {
	knowsRevisions
	all bool
}

func (l *looked) Revisions(ctx context.Context, each func(source, document string, revision int64) error) error {
	l.all = true
	return l.knowsRevisions.Revisions(ctx, each)
}

// pair are the sequencer's database and the knowledge base in a folder of their own.
type pair struct {
	stores
	dir  string
	stop func()
}

var members = []string{"a", "b"}

func openPair(t *testing.T, dir string) *pair {
	t.Helper()
	cfg := config.Default()
	cfg.DataDir = dir
	m := &Mesh{cfg: cfg}
	p := &pair{dir: dir, stores: stores{TB: t}}
	var err1, err2 error
	p.sequencer, err1 = m.sequencerStore(t.Context())
	p.embedder, err2 = m.embedderStore(t.Context())
	p.must(errors.Join(err1, err2))
	p.stop = func() { p.must(m.close()) }
	return p
}

// compare is what a start does; it says whether all documents were looked at.
func (p *pair) compare() bool {
	p.Helper()
	m := &Mesh{tel: telemetry.Nop()}
	m.cfg.Kafka.Partitions = oldPartitions
	l := &looked{knowsRevisions: p.embedder.(knowsRevisions)}
	p.must(m.compareRevisions(p.Context(), l, p.sequencer))
	return l.all
}

// change lets the sequencer give a document its next revision, as an owner that has just claimed the partition, and the knowledge base take it
// if it is newer than its own. It fails if it should be and is not.
func (p *pair) change(document string, taken bool) {
	p.Helper()
	ctx, key := p.Context(), kafka.DocumentKey("docs", document)
	n := kafka.PartitionOf(key, oldPartitions)
	pos, _, err := p.sequencer.Claim(ctx, kafka.TopicUnique, n)
	p.must(err)
	line, _, _ := strings.Cut(pos.Epoch, "/")
	pos.Epoch, pos.Seq = fmt.Sprintf("%s/%d/%s", line, pos.Fence, rand.Text()), pos.Seq+1
	var revision int64
	p.must(p.sequencer.Update(ctx, func(ctx context.Context, tx sequencer.Tx) (stage.Advance, error) {
		totals, err := tx.Totals(ctx, n)
		if err != nil {
			return stage.Advance{}, err
		}
		st, err := tx.Document(ctx, string(key))
		if err != nil {
			return stage.Advance{}, err
		}
		if st.Revision == 0 && st.Base == 0 {
			st.Base = totals.Floor
		}
		st.Revision++
		revision = st.Base + st.Revision
		return stage.Advance{Position: pos}, tx.SetDocument(ctx, string(key), n, st)
	}))
	if !taken {
		return
	}
	below, _, err := p.embedder.Claim(ctx, kafka.TopicChanged, n)
	p.must(err)
	if below.Links == nil {
		below.Links = map[string]int64{}
	}
	below.Links[pos.Epoch] = pos.Seq
	p.must(p.embedder.Update(ctx, func(ctx context.Context, tx embedder.Tx) (stage.Advance, error) {
		_, old, err := tx.Enqueue(ctx, changed(document, rand.Text(), revision), nil, moment)
		if old {
			p.Errorf("revision %d of %s is taken for an old one", revision, document)
		}
		return stage.Advance{Position: below}, err
	}))
	job, err := p.embedder.Take(ctx, moment, time.Hour, nil)
	p.must(err)
	p.must(p.embedder.Remove(ctx, job, false, &embedderv1.EventRecord{Id: rand.Text()}, moment))
}

func (p *pair) changeAll() {
	p.Helper()
	for _, d := range members {
		p.change(d, true)
	}
}

// keep copies both databases, as a backup does while they are in use.
func (p *pair) keep(dir string) {
	p.Helper()
	p.must(os.MkdirAll(dir, 0o700))
	for _, file := range []string{"sequencer.db", "knowledge.db"} {
		p.must(sqlite.Backup(p.Context(), filepath.Join(p.dir, file), filepath.Join(dir, file)))
	}
}

// restored are databases of which each comes from a copy.
func restored(t *testing.T, knowledge, order string) *pair {
	t.Helper()
	dir := t.TempDir()
	for file, from := range map[string]string{"sequencer.db": order, "knowledge.db": knowledge} {
		raw, err := os.ReadFile(filepath.Join(from, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), raw, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return openPair(t, dir)
}

// Copies of several moments of one history are put together in every way.
func TestAllDocumentsAreComparedOnlyIfARestoreMayHaveHappened(t *testing.T) {
	moments := []string{"first", "quiet", "middle", "end"}
	root := t.TempDir()
	at := func(moment string) string { return filepath.Join(root, moment) }
	p := openPair(t, t.TempDir())
	if !p.compare() {
		t.Error("databases that never met fit")
	}
	p.changeAll()
	p.keep(at("first"))
	p.change("a", false) // the knowledge base is behind, and that is well
	p.keep(at("quiet"))
	p.stop()
	p = openPair(t, p.dir)
	if p.compare() {
		t.Error("a restart looks at all documents")
	}
	for range 10 { // more epochs than are remembered
		p.change("a", true)
	}
	p.change("b", true)
	p.keep(at("middle"))
	p.changeAll()
	p.keep(at("end"))
	p.stop()

	for k, knowledge := range moments {
		for o, order := range moments {
			t.Run(fmt.Sprintf("knowledge base of %s, sequencer of %s", knowledge, order), func(t *testing.T) {
				p := restored(t, at(knowledge), at(order))
				defer func() { p.stop() }()
				// Nothing of a was taken between first and quiet.
				older := k > o && (knowledge != "quiet" || order != "first")
				if p.compare() != older {
					t.Errorf("all documents are looked at: %v", !older)
				}
				p.changeAll()
				p.stop()
				p = openPair(t, p.dir)
				if p.compare() {
					t.Error("the next start looks at all documents again")
				}
				p.changeAll()
				p.keep(filepath.Join(p.dir, "later"))
				p.stop()
				if older { // what was raised is another history: a file of the first one does not fit
					p = restored(t, filepath.Join(p.dir, "later"), at("end"))
					if !p.compare() {
						t.Error("a sequencer of another history fits")
					}
					p.changeAll()
				} else {
					p = restored(t, filepath.Join(p.dir, "later"), at("first"))
					if !p.compare() {
						t.Error("a sequencer from before fits")
					}
					p.changeAll()
				}
			})
		}
	}
}

// A restored sequencer that ran without the knowledge base has claimed its partitions often enough to look as if it had sent everything.
func TestASequencerThatRanAloneIsCompared(t *testing.T) {
	root := t.TempDir()
	p := openPair(t, t.TempDir())
	p.compare()
	p.changeAll()
	p.keep(filepath.Join(root, "before"))
	p.changeAll()
	p.keep(filepath.Join(root, "after"))
	p.stop()
	p = restored(t, filepath.Join(root, "after"), filepath.Join(root, "before"))
	defer func() { p.stop() }()
	p.must(runAlone(t.Context(), p.sequencer))
	for range 5 {
		p.change("a", false)
		p.change("b", false)
	}
	if !p.compare() {
		t.Error("it fits")
	}
	p.changeAll()
}
