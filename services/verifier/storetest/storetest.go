// Package storetest is what every verifier.SourceStore must do.
package storetest

import (
	"bytes"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/verifier"
)

// Run runs the suite. fresh makes an empty store and returns what opens it; opened several times, it is one store.
func Run(t *testing.T, fresh func(t *testing.T) func() verifier.SourceStore) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, func() verifier.SourceStore){
		"a source is found as it was stored, by every opener": storedAsItWas,
		"of two that change the same revision one loses":      oneLoses,
		"a deleted source is gone and can be made again":      deletedIsGone,
		"sealing anew changes nothing else":                   resealing,
		"the salt is that of whoever came first":              firstSalt,
		"the latest use of a secret counts":                   latestUse,
	} {
		t.Run(name, func(t *testing.T) { test(t, fresh(t)) })
	}
}

var at = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)

func put(t *testing.T, s verifier.SourceStore, r verifier.Record, expect int64) int64 {
	t.Helper()
	rev, err := s.Put(t.Context(), r, expect)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func all(t *testing.T, s verifier.SourceStore) ([]verifier.Record, int64) {
	t.Helper()
	records, rev, err := s.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if alone, err := s.Revision(t.Context()); err != nil || alone != rev {
		t.Fatalf("revision %d alone, %d with the records, %v", alone, rev, err)
	}
	return records, rev
}

func storedAsItWas(t *testing.T, open func() verifier.SourceStore) {
	s, other := open(), open()
	if records, rev := all(t, s); len(records) != 0 || rev != 0 {
		t.Fatalf("an empty store holds %v at revision %d", records, rev)
	}
	b := put(t, s, verifier.Record{Name: "b", Sealed: []byte{0, 255}, CreatedAt: at, UpdatedAt: at}, 0)
	a := put(t, other, verifier.Record{Name: "a", Disabled: true, Sealed: []byte("x"), CreatedAt: at, UpdatedAt: at}, 0)
	b2 := put(t, other, verifier.Record{Name: "b", Disabled: true, Sealed: []byte("y"), CreatedAt: at.Add(time.Hour), UpdatedAt: at.Add(time.Hour)}, b)
	if b >= a || a >= b2 {
		t.Errorf("revisions %d, %d, %d do not grow", b, a, b2)
	}
	records, rev := all(t, s)
	if len(records) != 2 || records[0].Name != "a" || records[1].Name != "b" || rev != b2 {
		t.Fatalf("got %+v at %d", records, rev)
	}
	if r := records[0]; !r.Disabled || string(r.Sealed) != "x" || !r.CreatedAt.Equal(at) || r.Revision != a {
		t.Errorf("got %+v", r)
	}
	if r := records[1]; !r.Disabled || string(r.Sealed) != "y" || !r.CreatedAt.Equal(at) || !r.UpdatedAt.Equal(at.Add(time.Hour)) || r.Revision != b2 {
		t.Errorf("an update keeps when it was made: got %+v", r)
	}
}

func oneLoses(t *testing.T, open func() verifier.SourceStore) {
	stores := []verifier.SourceStore{open(), open()}
	var won, lost atomic.Int64
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			switch _, err := stores[i%2].Put(t.Context(), verifier.Record{Name: "a", Sealed: []byte{byte(i)}, CreatedAt: at, UpdatedAt: at}, 0); {
			case err == nil:
				won.Add(1)
			case errors.Is(err, verifier.ErrConflict):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 7 {
		t.Errorf("%d made the source, %d were refused", won.Load(), lost.Load())
	}
	records, rev := all(t, stores[0])
	if _, err := stores[1].Put(t.Context(), records[0], rev+1); !errors.Is(err, verifier.ErrConflict) {
		t.Errorf("a change from a revision that never was: %v", err)
	}
	if _, now := all(t, stores[0]); now != rev {
		t.Errorf("a refused change moved the revision from %d to %d", rev, now)
	}
}

func deletedIsGone(t *testing.T, open func() verifier.SourceStore) {
	s := open()
	rev := put(t, s, verifier.Record{Name: "a", Sealed: []byte("x"), CreatedAt: at, UpdatedAt: at}, 0)
	if err := s.NoteUses(t.Context(), []verifier.Use{{Source: "a", Secret: "1", At: at}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	records, after := all(t, s)
	uses, err := s.Uses(t.Context())
	if len(records) != 0 || after <= rev || len(uses) != 0 || err != nil {
		t.Errorf("left: %v at %d, %v, %v", records, after, uses, err)
	}
	if err := s.Delete(t.Context(), "a"); !errors.Is(err, verifier.ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	if _, err := s.Put(t.Context(), verifier.Record{Name: "a"}, rev); !errors.Is(err, verifier.ErrConflict) {
		t.Errorf("a change raised the dead: %v", err)
	}
	put(t, s, verifier.Record{Name: "a", Sealed: []byte("z"), CreatedAt: at, UpdatedAt: at}, 0)
}

func resealing(t *testing.T, open func() verifier.SourceStore) {
	s := open()
	rev := put(t, s, verifier.Record{Name: "a", Sealed: []byte("x"), CreatedAt: at, UpdatedAt: at}, 0)
	if err := s.Reseal(t.Context(), "a", rev, []byte("y")); err != nil {
		t.Fatal(err)
	}
	if records, now := all(t, s); now != rev || records[0].Revision != rev || string(records[0].Sealed) != "y" || !records[0].UpdatedAt.Equal(at) {
		t.Errorf("got %+v at %d", records, now)
	}
	if err := s.Reseal(t.Context(), "a", rev+1, []byte("z")); !errors.Is(err, verifier.ErrConflict) {
		t.Errorf("of another revision: %v", err)
	}
}

func firstSalt(t *testing.T, open func() verifier.SourceStore) {
	first, err := open().Salt(t.Context(), []byte("first"))
	if err != nil {
		t.Fatal(err)
	}
	second, err := open().Salt(t.Context(), []byte("second"))
	if err != nil || !bytes.Equal(first, []byte("first")) || !bytes.Equal(second, first) {
		t.Errorf("%q, then %q, %v", first, second, err)
	}
}

func use(source, secret string, at time.Time) verifier.Use {
	return verifier.Use{Source: source, Secret: secret, At: at}
}

func latestUse(t *testing.T, open func() verifier.SourceStore) {
	s := open()
	for _, uses := range [][]verifier.Use{{use("b", "1", at), use("a", "2", at.Add(time.Hour))}, {use("a", "2", at), use("a", "1", at)}, nil} {
		if err := s.NoteUses(t.Context(), uses); err != nil {
			t.Fatal(err)
		}
	}
	uses, err := s.Uses(t.Context())
	if err != nil || len(uses) != 3 {
		t.Fatalf("%v, %v", uses, err)
	}
	if u := uses[1]; u.Source != "a" || u.Secret != "2" || !u.At.Equal(at.Add(time.Hour)) {
		t.Errorf("got %+v", u)
	}
}
