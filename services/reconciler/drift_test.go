package reconciler

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	"github.com/hookmesh/hookmesh/services/reconciler/listing"
)

var began = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func all[T any](in []T, fail error) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, v := range in {
			if !yield(v, nil) {
				return
			}
		}
		if fail != nil {
			var zero T
			yield(zero, fail)
		}
	}
}

// The merge finds what a comparison of two maps finds.
func TestTheMergeFindsWhatAComparisonOfMapsFinds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		source, known := map[string]listing.Entry{}, map[string]*embedderv1.Document{}
		for range rapid.IntRange(0, 25).Draw(rt, "listed") {
			e := listing.Entry{ID: fmt.Sprint(rapid.IntRange(0, 15).Draw(rt, "id")), Version: fmt.Sprint(rapid.IntRange(1, 3).Draw(rt, "version")), Deleted: rapid.IntRange(0, 5).Draw(rt, "deleted") == 0}
			source[e.ID] = e
		}
		for range rapid.IntRange(0, 25).Draw(rt, "known") {
			d := &embedderv1.Document{DocumentId: fmt.Sprint(rapid.IntRange(0, 15).Draw(rt, "id")), Version: fmt.Sprint(rapid.IntRange(1, 3).Draw(rt, "version")),
				Revision: int64(rapid.IntRange(0, 1).Draw(rt, "revision")), State: embedderv1.DocumentState(rapid.IntRange(1, 4).Draw(rt, "state")),
				UpdatedAt: timestamppb.New(began.Add(time.Duration(rapid.IntRange(-9, 1).Draw(rt, "minutes")) * time.Minute))}
			known[d.DocumentId] = d
		}
		want := map[string]reconcilerv1.DriftKind{}
		for id, e := range source {
			d := known[id]
			there := d.GetRevision() > 0 && d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_DELETED
			switch {
			case e.Deleted:
			case !there:
				want[id] = missing
			case d.GetVersion() < e.Version:
				want[id] = stale
			}
		}
		for id, d := range known {
			if e, ok := source[id]; (!ok || e.Deleted) && d.GetRevision() > 0 && d.GetState() != embedderv1.DocumentState_DOCUMENT_STATE_DELETED {
				want[id] = extra
			}
		}
		for id := range want {
			if d := known[id]; d != nil && (d.GetState() == embedderv1.DocumentState_DOCUMENT_STATE_PENDING || !d.GetUpdatedAt().AsTime().Before(began)) {
				delete(want, id)
			}
		}
		var l []listing.Entry
		for _, e := range source {
			l = append(l, e)
		}
		var k []*embedderv1.Document
		for _, d := range known {
			k = append(k, d)
		}
		slices.SortFunc(l, func(a, b listing.Entry) int { return cmp.Compare(a.ID, b.ID) })
		slices.SortFunc(k, func(a, b *embedderv1.Document) int { return cmp.Compare(a.GetDocumentId(), b.GetDocumentId()) })
		r, got := &reconcilerv1.DriftReport{}, map[string]reconcilerv1.DriftKind{}
		if err := compare(all(l, nil), all(k, nil), began, r, func(f finding) error { got[f.id] = f.kind; return nil }); err != nil {
			rt.Fatal(err)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) || r.GetMissing()+r.GetExtra()+r.GetStale() != int64(len(want)) {
			rt.Fatalf("found %v, want %v; %v", got, want, r)
		}
	})
}

func TestAListThatEndsInAnErrorIsAnError(t *testing.T) {
	broken := errors.New("broken")
	l, k := []listing.Entry{{ID: "a"}}, []*embedderv1.Document{{DocumentId: "a"}}
	none := func(finding) error { return nil }
	if err := compare(all(l, broken), all(k, nil), began, &reconcilerv1.DriftReport{}, none); !errors.Is(err, broken) {
		t.Errorf("the source's: %v", err)
	}
	if err := compare(all(l, nil), all(k, broken), began, &reconcilerv1.DriftReport{}, none); !errors.Is(err, broken) {
		t.Errorf("the known: %v", err)
	}
	k = []*embedderv1.Document{{DocumentId: "b"}, {DocumentId: "a"}}
	if err := compare(all(l, nil), all(k, nil), began, &reconcilerv1.DriftReport{}, none); err == nil {
		t.Error("known documents out of order were taken")
	}
}

func TestManyDeletionsAtOnceAreNotBelievedAtOnce(t *testing.T) {
	report := func(listed, known, extra, withheld int64) *reconcilerv1.DriftReport {
		return &reconcilerv1.DriftReport{Listed: listed, Known: known, Extra: extra, Withheld: withheld}
	}
	for name, tt := range map[string]struct {
		now, before *reconcilerv1.DriftReport
		confirmed   bool
		want        bool
	}{
		"nothing":                              {report(100, 100, 0, 0), nil, false, true},
		"a few of many":                        {report(900, 1000, 100, 0), nil, false, true},
		"a few of a few":                       {report(1, 11, 10, 0), nil, false, true},
		"a third":                              {report(700, 1000, 300, 0), nil, false, false},
		"an empty list":                        {report(0, 3, 3, 0), nil, false, false},
		"a third, found by two sweeps":         {report(700, 1000, 300, 0), report(700, 1000, 300, 300), false, true},
		"a third, but another one":             {report(100, 1000, 900, 0), report(700, 1000, 300, 300), false, false},
		"a third, confirmed":                   {report(700, 1000, 300, 0), nil, true, true},
		"after a sweep that was not completed": {report(700, 1000, 300, 0), &reconcilerv1.DriftReport{Withheld: 300, Error: "broken"}, false, false},
		"an empty list, found by two sweeps":   {report(0, 3, 3, 0), report(0, 3, 3, 3), false, true},
	} {
		if got := daring(tt.now, tt.before, tt.confirmed); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
