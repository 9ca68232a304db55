package wiring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/seal"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/sequencer"
	"github.com/hookmesh/hookmesh/services/verifier"
)

// moment is when everything in these tests happened.
var moment = time.Now().Truncate(time.Microsecond)

const (
	oldPartitions, newPartitions = 12, 3
	// odd holds what a text of PostgreSQL cannot hold.
	odd = "a\x00b"
)

// fast gives the indexes room.
var fast = Moving{IndexMemory: 1 << 30}

// stores are the services' stores in one place.
type stores struct {
	testing.TB
	dedupe    dedupe.Store
	sequencer sequencer.Store
	embedder  embedder.Store
	reconcile reconciler.Store
	sources   verifier.SourceStore
}

// openStores opens all stores of a configuration; stop closes them.
func openStores(t testing.TB, cfg config.Config) (s stores, stop func()) {
	t.Helper()
	m := &Mesh{cfg: cfg}
	var errs [5]error
	s.TB = t
	s.dedupe, errs[0] = m.dedupeStore(t.Context())
	s.sequencer, errs[1] = m.sequencerStore(t.Context())
	s.embedder, errs[2] = m.embedderStore(t.Context())
	s.reconcile, errs[3] = m.reconcilerStore(t.Context())
	s.sources, errs[4] = m.sourceStore(t.Context())
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	return s, func() {
		if err := m.close(); err != nil {
			t.Error(err)
		}
	}
}

func (s stores) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// same wants two values to be equal; protobuf messages as such.
func (s stores) same(what string, got, want any) {
	s.Helper()
	a, ok1 := got.(proto.Message)
	b, ok2 := want.(proto.Message)
	if ok1 && ok2 && proto.Equal(a, b) {
		return
	}
	if !reflect.DeepEqual(got, want) {
		s.Errorf("%s: %+v, want %+v", what, got, want)
	}
}

// update runs a transaction in a partition of a stage.
func update[T any](s stores, store stage.Store[T], topic string, partition int, fn func(context.Context, T) error) {
	s.Helper()
	pos, _, err := store.Claim(s.Context(), topic, partition)
	s.must(err)
	s.must(store.Update(s.Context(), func(ctx context.Context, tx T) (stage.Advance, error) {
		err := fn(ctx, tx)
		return stage.Advance{Position: pos}, err
	}))
}

var (
	movedKey    = dedupe.KeyOf("docs", "event-1")
	movedNewest = dedupe.Newest{EventID: "event-1", Hash: []byte{1, 2}, Version: "v7", Deleted: true, Polled: moment.Add(-time.Hour), Expires: moment.Add(time.Hour)}
	movedRecord = &dedupev1.EventRecord{Id: "event-1", Source: "docs", DocumentId: odd, DecidedAt: timestamppb.New(moment)}
	waiting     = sequencer.State{Last: 1, HasLast: true, Revision: 1, Held: []sequencer.Item{{ID: "event-3", Mode: sequencer.Contiguous, Seq: 3, HasSeq: true, Gap: 60_000_000, At: moment.UnixMicro()}}}
	grave       = sequencer.State{Revision: 4, Deleted: true, Gone: moment.UnixMicro(), Forget: moment.Add(time.Hour).UnixMicro()}
	movedHeld   = sequencer.Held{Event: []byte{0, 1}, Headers: []stage.Header{{Key: "traceparent", Value: []byte("t")}}, At: moment}
	movedCounts = sequencer.Numbers{Started: true, Upto: 9, Spans: []sequencer.Span{{From: 12, To: 13, Since: 5}}, Lost: 2, Gap: 7}
	decided     = &sequencerv1.EventRecord{Id: "event-3"}
	searchable  = embedder.Document{Title: "VPN", URL: "https://x/1", Version: "7", TextHash: [32]byte{9}, Model: "m", Pieces: []embedder.Piece{
		{Ordinal: 0, HeadingPath: []string{"Network", "VPN"}, Text: "The tunnel stops.", Hash: [32]byte{1}, Vector: []float32{0.25, -1e-7, 0.1}},
		{Ordinal: 1, Text: "The same text twice.", Hash: [32]byte{2}, Vector: []float32{0.5, 0, 1}},
		{Ordinal: 2, Text: "The same text twice.", Hash: [32]byte{2}, Vector: []float32{0.5, 0, 1}},
	}}
	movedDebt   = &eventv1.Debt{Source: "docs", DocumentId: odd, Reason: "GAP"}
	movedLetter = &eventv1.DeadLetter{Id: "dead-1", Source: "docs", DocumentId: "d", Stage: "embedder", Code: "FETCH", FailedAt: timestamppb.New(moment)}
)

func changed(document, event string, revision int64) *eventv1.Change {
	return &eventv1.Change{Revision: revision, Event: &eventv1.Event{Id: event, Source: "docs", DocumentId: document}}
}

// fill makes a state with something of every kind.
func (s stores) fill(keys *seal.Ring) {
	ctx := s.Context()
	update(s, s.dedupe, kafka.TopicAccepted, 5, func(ctx context.Context, tx dedupe.Tx) error {
		return errors.Join(tx.Remember(ctx, movedKey, dedupe.First{EventID: "event-1", Partition: 5, Offset: 0, Expires: moment.Add(time.Hour)}),
			tx.SetNewest(ctx, kafka.DocumentKey("docs", odd), movedNewest), tx.Record(ctx, movedRecord))
	})
	update(s, s.sequencer, kafka.TopicUnique, 11, func(ctx context.Context, tx sequencer.Tx) error {
		return errors.Join(tx.SetDocument(ctx, "docs/w", 11, waiting), tx.SetDocument(ctx, "docs/"+odd, 11, grave), tx.Hold(ctx, "event-3", movedHeld),
			tx.SetContainers(ctx, "docs/w", []string{"docs/space"}), tx.SetGrave(ctx, "docs/old", sequencer.Grave{Time: 1, At: moment.UnixMicro()}),
			tx.SetTotals(ctx, 11, sequencer.Totals{Held: 1, Floor: 40}), tx.SetNumbers(ctx, "feed", movedCounts), tx.SetRecord(ctx, decided, moment))
	})
	update(s, s.embedder, kafka.TopicChanged, 0, func(ctx context.Context, tx embedder.Tx) error {
		for _, c := range []*eventv1.Change{changed("1", "event-1", 5), changed("2", "event-2", 6)} {
			if _, _, err := tx.Enqueue(ctx, c, nil, moment); err != nil {
				return err
			}
		}
		return nil
	})
	for range 2 {
		job, err := s.embedder.Take(ctx, moment, time.Hour, nil)
		s.must(err)
		record := &embedderv1.EventRecord{Id: job.Change.GetEvent().GetId()}
		if job.DocumentID == "1" {
			s.must(s.embedder.Replace(ctx, job, searchable, record, moment))
		} else {
			s.must(s.embedder.Remove(ctx, job, false, record, moment))
		}
	}
	update(s, s.embedder, kafka.TopicChanged, 0, func(ctx context.Context, tx embedder.Tx) error {
		_, _, err := tx.Enqueue(ctx, changed(odd, "event-9", 3), []stage.Header{{Key: "traceparent", Value: []byte("t")}}, moment)
		return err
	})
	_, err := s.embedder.SetBreaker(ctx, "https://wiki", []byte{0, 7}, 0)
	s.must(err)
	update(s, s.reconcile, kafka.TopicDebts, 0, func(ctx context.Context, tx reconciler.Tx) error {
		return errors.Join(tx.AddDebt(ctx, movedDebt), tx.AddDebt(ctx, movedDebt), tx.AddDeadLetter(ctx, movedLetter))
	})
	s.must(s.reconcile.SetCursor(ctx, "docs", "cursor", moment))
	s.must(s.reconcile.SetState(ctx, "drift", "docs", []byte{0, 0xff}))
	held, err := s.reconcile.AcquireLease(ctx, "docs", "somebody", moment, moment.Add(time.Hour))
	s.same("the lease", []any{held, err}, []any{true, error(nil)})
	_, err = s.sources.Salt(ctx, []byte("salt"))
	s.must(err)
	_, err = s.sources.Put(ctx, verifier.Record{Name: "made", Disabled: true, Sealed: keys.Seal("hookmesh source record\x00made", []byte("s3cret")), CreatedAt: moment, UpdatedAt: moment}, 0)
	s.must(err)
	s.must(s.sources.NoteUses(ctx, []verifier.Use{{Source: "made", Secret: "id", At: moment}}))
}

// holds compares what moved with what fill made.
func (s stores) holds(sealed []verifier.Record, owed []reconciler.Debt) {
	ctx := s.Context()
	firsts, err := s.dedupe.Lookup(ctx, []dedupe.Key{movedKey}, moment)
	s.must(err)
	if len(firsts) != 1 || firsts[0] == nil || firsts[0].EventID != "event-1" || !firsts[0].Expires.Equal(moment.Add(time.Hour)) || firsts[0].Offset >= 0 {
		s.Errorf("the first delivery is %+v: it must be known, and lie nowhere", firsts)
	}
	record, err := s.dedupe.Event(ctx, "event-1")
	s.must(err)
	s.same("dedupe's record", record, movedRecord)
	update(s, s.dedupe, kafka.TopicAccepted, 0, func(ctx context.Context, tx dedupe.Tx) error {
		n, err := tx.Newest(ctx, kafka.DocumentKey("docs", odd), moment)
		if err != nil || n == nil {
			s.Errorf("the newest event is unknown: %v", err)
			return err
		}
		if !n.Polled.Equal(movedNewest.Polled) || !n.Expires.Equal(movedNewest.Expires) {
			s.Errorf("times %v %v", n.Polled, n.Expires)
		}
		n.Polled, n.Expires = movedNewest.Polled, movedNewest.Expires
		s.same("the newest event", *n, movedNewest)
		return nil
	})
	s.holdsOrder()
	s.holdsKnowledge()
	debts, err := s.reconcile.Debts(ctx, "docs", 10)
	s.must(err)
	if len(debts) != 1 || debts[0].Version != owed[0].Version || !proto.Equal(debts[0].Debt, movedDebt) {
		s.Errorf("debts %+v", debts)
	}
	letter, err := s.reconcile.DeadLetter(ctx, "dead-1")
	s.must(err)
	s.same("the dead letter", letter.Letter, movedLetter)
	cursor, polled, err := s.reconcile.Cursor(ctx, "docs")
	s.same("the cursor", []any{cursor, polled.Equal(moment), err}, []any{"cursor", true, error(nil)})
	state, err := s.reconcile.State(ctx, "drift", "docs")
	s.same("the reconciler's state", []any{state, err}, []any{[]byte{0, 0xff}, error(nil)})
	leases, err := s.reconcile.Leases(ctx, moment)
	s.same("leases", []any{len(leases), err}, []any{0, error(nil)})
	salt, err := s.sources.Salt(ctx, []byte("another"))
	s.same("the salt", []any{string(salt), err}, []any{"salt", error(nil)})
	records, _, err := s.sources.All(ctx)
	s.must(err)
	for i := range records { // times of one moment may be of two zones
		records[i].CreatedAt, records[i].UpdatedAt = sealed[i].CreatedAt, sealed[i].UpdatedAt
	}
	s.same("the sources", records, sealed)
	uses, err := s.sources.Uses(ctx)
	if err != nil || len(uses) != 1 || uses[0].Source != "made" || uses[0].Secret != "id" || !uses[0].At.Equal(moment) {
		s.Errorf("uses %+v, %v", uses, err)
	}
}

func (s stores) holdsOrder() {
	ctx := s.Context()
	for key, want := range map[string]sequencer.State{"docs/w": waiting, "docs/" + odd: grave} {
		got, err := s.sequencer.Document(ctx, key)
		s.must(err)
		s.same(key, got, want)
	}
	_, keys, err := s.sequencer.Waiting(ctx, "", 10)
	s.same("what waits", []any{keys, err}, []any{[]string{"docs/w"}, error(nil)})
	numbers, err := s.sequencer.Numbers(ctx, "feed")
	s.same("the numbers", []any{numbers["feed"], err}, []any{movedCounts, error(nil)})
	record, err := s.sequencer.Event(ctx, "event-3")
	s.must(err)
	s.same("the sequencer's record", record, decided)
	for p := range newPartitions {
		update(s, s.sequencer, kafka.TopicUnique, p, func(ctx context.Context, tx sequencer.Tx) error {
			var held int64
			if p == kafka.PartitionOf([]byte("docs/w"), newPartitions) {
				held = 1
				due, err := tx.Due(ctx, p, moment.Add(time.Minute), 10)
				s.same("what is due", []any{due, err}, []any{[]string{"docs/w"}, error(nil)})
				members, err := tx.Members(ctx, "docs/space", "", 10)
				s.same("members", []any{members, err}, []any{[]string{"docs/w"}, error(nil)})
				h, err := tx.Release(ctx, "event-3")
				s.same("the held event", []any{h.Event, h.Headers, h.At.Equal(moment), err}, []any{movedHeld.Event, movedHeld.Headers, true, error(nil)})
				g, err := tx.Grave(ctx, "docs/old")
				s.same("the grave", []any{g, err}, []any{sequencer.Grave{Time: 1, At: moment.UnixMicro()}, error(nil)})
			}
			totals, err := tx.Totals(ctx, p)
			s.same("totals", []any{totals, err}, []any{sequencer.Totals{Held: held, Floor: 40}, error(nil)})
			return nil
		})
	}
}

func (s stores) holdsKnowledge() {
	ctx := s.Context()
	doc, chunks, err := s.embedder.GetDocument(ctx, "docs", "1", true)
	s.must(err)
	if doc.GetTitle() != "VPN" || doc.GetVersion() != "7" || doc.GetRevision() != 5 || len(chunks) != 3 || strings.Join(chunks[0].GetHeadingPath(), "/") != "Network/VPN" {
		s.Errorf("document %v with %v", doc, chunks)
	}
	vectors, err := s.embedder.Vectors(ctx, "docs", "1", "m")
	s.same("vectors", []any{vectors, err}, []any{map[[32]byte][]float32{{1}: {0.25, -1e-7, 0.1}, {2}: {0.5, 0, 1}}, error(nil)})
	for _, text := range []string{"tunnel", "network"} { // of the text, and of a heading
		found, err := s.embedder.Search(ctx, embedder.Query{Text: text, Vector: []float32{0.25, 0, 0.1}, Limit: 1})
		if err != nil || len(found) != 1 {
			s.Errorf("search for %s: %v, %v", text, found, err)
		}
	}
	for _, id := range []string{"event-1", "event-2"} {
		if _, err := s.embedder.Event(ctx, id); err != nil {
			s.Errorf("record of %s: %v", id, err)
		}
	}
	breakers, _, err := s.embedder.Breakers(ctx, -1)
	s.same("breakers", []any{breakers, err}, []any{map[string][]byte{"https://wiki": {0, 7}}, error(nil)})
	update(s, s.embedder, kafka.TopicChanged, 0, func(ctx context.Context, tx embedder.Tx) error {
		for document, revision := range map[string]int64{"1": 5, "2": 6, odd: 3} {
			if _, stale, err := tx.Enqueue(ctx, changed(document, "late", revision), nil, moment); err != nil || !stale {
				s.Errorf("an old change of %q counts as new: %v", document, err)
			}
		}
		return nil
	})
	job, err := s.embedder.Take(ctx, moment, time.Hour, nil)
	s.must(err)
	if job == nil || job.DocumentID != odd || !proto.Equal(job.Change, changed(odd, "event-9", 3)) || len(job.Headers) != 1 {
		s.Errorf("job %+v", job)
	}
}

// exportedMesh is a data_dir with something of everything, and its archive.
func exportedMesh(t *testing.T) (cfg config.Config, path string, sealed []verifier.Record, owed []reconciler.Debt) {
	t.Helper()
	cfg = config.Default()
	cfg.DataDir, cfg.Kafka.Partitions = t.TempDir(), oldPartitions
	cfg.Verifier.Keys = []config.Key{{Value: strings.Repeat("07", 32)}}
	s, stop := openStores(t, cfg)
	s.fill(ring(t, 7))
	records, _, err := s.sources.All(t.Context())
	s.must(err)
	owed, err = s.reconcile.Debts(t.Context(), "docs", 10)
	s.must(err)
	stop()
	path = filepath.Join(t.TempDir(), "state.gz")
	rows, err := Export(t.Context(), moveOptions(cfg), path, "test", 0)
	if err != nil || rows["dedupe/keys"] != 1 || rows["sequencer/documents"] != 2 || rows["embedder/chunks"] != 3 {
		t.Fatalf("%v, %v", rows, err)
	}
	return cfg, path, records, owed
}

func ring(t *testing.T, b byte) *seal.Ring {
	t.Helper()
	keys, err := seal.New(bytes.Repeat([]byte{b}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

func moveOptions(cfg config.Config) Options {
	return Options{Config: cfg, Telemetry: &telemetry.Running{Telemetry: telemetry.Nop()}}
}

func TestTheStateOfOneMachineMovesToPostgreSQLAsItIs(t *testing.T) {
	dsn := database(t)
	old, path, sealed, owed := exportedMesh(t)
	if err := Migrate(t.Context(), dsn, func(string, int, int) {}); err != nil {
		t.Fatal(err)
	}
	cfg := old
	cfg.Store.DSN, cfg.Kafka.Partitions, cfg.DataDir = dsn, newPartitions, t.TempDir()

	wrong := cfg
	wrong.Verifier.Keys = []config.Key{{Value: strings.Repeat("08", 32)}}
	if _, err := Import(t.Context(), moveOptions(wrong), path, fast); err == nil || !strings.Contains(err.Error(), "verifier.keys") {
		t.Errorf("with another key: %v", err)
	}
	refuseDamaged(t, cfg, path)
	// An import that ends in the middle leaves nothing.
	breakOff(t, cfg, path)

	rows, err := Import(t.Context(), moveOptions(cfg), path, fast)
	if err != nil || rows["embedder/documents"] != 3 {
		t.Fatalf("%v, %v", rows, err)
	}
	s, stop := openStores(t, cfg)
	defer stop()
	s.holds(sealed, owed)
	if _, err := Import(t.Context(), moveOptions(cfg), path, fast); !errors.Is(err, postgres.ErrNotEmpty) {
		t.Errorf("into a database that holds something: %v", err)
	}
}

// refuseDamaged imports an archive that was cut off.
func refuseDamaged(t *testing.T, cfg config.Config, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(t.TempDir(), "cut.gz")
	if err := os.WriteFile(cut, raw[:len(raw)-20], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), moveOptions(cfg), cut, fast); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("an archive that was cut off: %v", err)
	}
}

// breakOff imports an archive whose last row no table takes.
func breakOff(t *testing.T, cfg config.Config, path string) {
	t.Helper()
	in, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	bad := filepath.Join(t.TempDir(), "bad.gz")
	out, err := os.Create(bad)
	if err != nil {
		t.Fatal(err)
	}
	w, err := archive.NewWriter(out, "test", moment)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := archive.Read(in, w.Add); err != nil {
		t.Fatal(err)
	}
	if err := w.Add("reconciler/states", archive.Row{"kind": "x", "source": nil, "state": json.RawMessage(`null`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), moveOptions(cfg), bad, fast); err == nil || !strings.Contains(err.Error(), "nothing was kept") {
		t.Errorf("an import that fails in the middle: %v", err)
	}
}

func TestNothingIsExportedWhileTheLogHoldsMoreThanTheDatabases(t *testing.T) {
	cfg, _, _, _ := exportedMesh(t)
	opts := moveOptions(cfg)
	opts.Services = config.ServiceNames()
	m := &Mesh{opts: opts, cfg: cfg, tel: opts.Telemetry.Telemetry}
	if err := m.lockData(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.gz")
	if _, err := Export(t.Context(), moveOptions(cfg), path, "test", 0); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("while the data_dir is in use: %v", err)
	}
	if err := m.startLog(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.log.Produce(t.Context(), []stage.Output{{Topic: kafka.TopicAccepted, Key: []byte("docs/1"), Value: []byte("x")}}); err != nil {
		t.Fatal(err)
	}
	if err := m.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Export(t.Context(), moveOptions(cfg), path, "test", 0); !errors.Is(err, ErrNotDrained) {
		t.Errorf("with a record that nobody read: %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file was written: %v", err)
	}
}
