package sources

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/seal"
)

// script is a verifier that plays one stream after the other. A stream ends when its messages are used up.
type script struct {
	streams [][]*sourcev1.WatchSourcesResponse
}

type played struct {
	grpc.ServerStreamingClient[sourcev1.WatchSourcesResponse]
	ctx      context.Context
	messages []*sourcev1.WatchSourcesResponse
	last     bool
}

func (s *script) WatchSources(ctx context.Context, _ *sourcev1.WatchSourcesRequest, _ ...grpc.CallOption) (grpc.ServerStreamingClient[sourcev1.WatchSourcesResponse], error) {
	if len(s.streams) == 0 {
		return nil, errors.New("unavailable")
	}
	p := &played{ctx: ctx, messages: s.streams[0], last: len(s.streams) == 1}
	s.streams = s.streams[1:]
	return p, nil
}

func (p *played) Recv() (*sourcev1.WatchSourcesResponse, error) {
	if len(p.messages) > 0 {
		m := p.messages[0]
		p.messages = p.messages[1:]
		return m, nil
	}
	if !p.last {
		return nil, io.EOF
	}
	<-p.ctx.Done()
	return nil, p.ctx.Err()
}

func message(t *testing.T, keys *seal.Ring, names map[string]int64) *sourcev1.WatchSourcesResponse {
	t.Helper()
	res := &sourcev1.WatchSourcesResponse{}
	for name, revision := range names {
		m := &sourcev1.ManagedSource{Name: name, Revision: revision, State: sourcev1.State_STATE_ENABLED}
		if revision < 0 {
			m.State = sourcev1.State_STATE_DISABLED
		}
		var err error
		if m.Definition, m.Sealed, err = Seal(keys, name, config.Definition{"preset": "github"}); err != nil {
			t.Fatal(err)
		}
		res.Sources = append(res.Sources, m)
	}
	return res
}

func ring(t *testing.T, fill byte) *seal.Ring {
	r, err := seal.New(bytes.Repeat([]byte{fill}, seal.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func names(all []Source) (out []string) {
	for _, s := range all {
		name := s.Name
		if s.Disabled {
			name += " (disabled)"
		}
		out = append(out, name)
	}
	return out
}

func TestARegistryFollowsChangesAndOutlivesTheVerifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		keys, other := ring(t, 1), ring(t, 2)
		broken := message(t, other, map[string]int64{"a": 3})
		broken.Sources = append(broken.Sources, message(t, keys, map[string]int64{"file": 2}).GetSources()...)
		watcher := &script{streams: [][]*sourcev1.WatchSourcesResponse{
			{message(t, keys, nil), message(t, keys, map[string]int64{"a": 1, "file": 2}), message(t, keys, map[string]int64{"a": 1, "file": 2})},
			{}, // the verifier is gone for a moment
			{broken, message(t, keys, map[string]int64{"b": -4})},
		}}
		r := New([]config.Source{{Name: "file", Preset: "slack"}}, watcher, keys, slog.New(slog.DiscardHandler))
		var seen [][]string
		r.Follow(func(all []Source) { seen = append(seen, names(all)) })
		if got := names(r.All()); !slices.Equal(got, []string{"file"}) {
			t.Errorf("before it was told: %v", got)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		if err := r.Wait(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		want := [][]string{{"file"}, {"a", "file"}, {"b (disabled)", "file"}}
		if !slices.EqualFunc(seen, want, slices.Equal[[]string]) {
			t.Errorf("told %v, want %v", seen, want)
		}
		if src := r.All()[1]; src.Preset != "slack" {
			t.Error("a source of the file was replaced by one of the same name")
		}
	})
}

func TestNothingIsKnownToBeAllUntilTheVerifierTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := New(nil, &script{}, nil, slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		if err := r.Wait(ctx); err == nil {
			t.Error("did not wait")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestSecretsTravelSealedToWhoSubscribes(t *testing.T) {
	keys := ring(t, 1)
	end := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	secrets := []config.Secret{{Value: "canary-1", NotAfter: end}, {Value: "canary-2", Kind: "k", For: "f"}}
	m := message(t, keys, map[string]int64{"a": 1}).GetSources()[0]
	var err error
	if m.SealedSecrets, err = SealSecrets(keys, "a", secrets); err != nil || bytes.Contains(m.SealedSecrets, []byte("canary")) {
		t.Fatalf("%q, %v", m.SealedSecrets, err)
	}
	src, err := New(nil, nil, keys, slog.New(slog.DiscardHandler)).read(m)
	if err != nil || !slices.Equal(src.Secrets, secrets) {
		t.Errorf("%d secrets, %v", len(src.Secrets), err)
	}
	if src, err = New(nil, nil, nil, slog.New(slog.DiscardHandler)).read(m); err != nil || len(src.Secrets) != 0 {
		t.Errorf("without keys: %d secrets, %v", len(src.Secrets), err)
	}
	m.Name = "b" // another source's are not taken for its own
	if _, err = New(nil, nil, keys, slog.New(slog.DiscardHandler)).read(m); err == nil {
		t.Error("a source took over what was sealed for another")
	}
}
