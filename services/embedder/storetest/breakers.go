package storetest

import (
	"bytes"
	"errors"
	"sync"
	"testing"

	"github.com/hookmesh/hookmesh/services/embedder"
)

func breakers(t *testing.T, f Fixture) {
	changes := int64(-1)
	want := func(want map[string]string) {
		t.Helper()
		got, now, err := f.Store.Breakers(t.Context(), -1)
		if err != nil || got == nil || len(got) != len(want) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
		for endpoint, state := range want {
			if string(got[endpoint]) != state {
				t.Errorf("%s: %s, want %s", endpoint, got[endpoint], state)
			}
		}
		if unchanged, again, err := f.Store.Breakers(t.Context(), now); err != nil || unchanged != nil || again != now {
			t.Errorf("%d changes later, after %d: %v, %v", again-now, now, unchanged, err)
		}
		changes = now
	}
	set := func(endpoint string, state []byte) {
		t.Helper()
		now, err := f.Store.SetBreaker(t.Context(), endpoint, state, changes)
		if err != nil || now == changes {
			t.Fatalf("%d changes after %d: %v", now, changes, err)
		}
		changes = now
	}
	want(map[string]string{})
	for _, kept := range []struct{ endpoint, state string }{{"wiki", "1"}, {"embedding model", "2"}, {"wiki", "3"}, {"gone", "4"}} {
		set(kept.endpoint, []byte(kept.state))
	}
	for _, endpoint := range []string{"gone", "never there"} {
		set(endpoint, nil)
	}
	seen := changes
	want(map[string]string{"wiki": "3", "embedding model": "2"})
	if changes != seen {
		t.Errorf("%d changes after all, which were %d", changes, seen)
	}
	// Who has not seen the last change changes nothing, whichever endpoint it was about.
	set("chat", []byte("5"))
	for _, state := range [][]byte{[]byte("6"), nil} {
		for _, endpoint := range []string{"chat", "wiki", "new"} {
			if _, err := f.Store.SetBreaker(t.Context(), endpoint, state, seen); !errors.Is(err, embedder.ErrConflict) {
				t.Errorf("a change of %s by who has not seen the last one: %v", endpoint, err)
			}
		}
	}
	kept := map[string]string{"wiki": "3", "embedding model": "2", "chat": "5"}
	want(kept)
	if f.Reopen != nil {
		f = f.Reopen(t)
		want(kept)
	}
}

// Of several who change at once, one does; the others look again. In the end each has made its changes, and none has lost one.
func breakersTogether(t *testing.T, f Fixture) {
	const embedders, each = 4, 5
	var wg sync.WaitGroup
	for i := range embedders {
		wg.Go(func() {
			for n := range each {
				for {
					states, seen, err := f.Store.Breakers(t.Context(), -1)
					if err == nil {
						_, err = f.Store.SetBreaker(t.Context(), "shared", append(states["shared"], byte('a'+i)), seen)
					}
					if err == nil {
						break
					}
					if !errors.Is(err, embedder.ErrConflict) {
						t.Errorf("change %d of %d: %v", n, i, err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	states, _, err := f.Store.Breakers(t.Context(), -1)
	for i := range embedders {
		if n := bytes.Count(states["shared"], []byte{byte('a' + i)}); n != each || err != nil {
			t.Errorf("%d of %d changes by %c, %v", n, each, 'a'+i, err)
		}
	}
}
