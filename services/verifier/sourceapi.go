package verifier

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

const (
	// defaultOverlap is how long old secrets stay valid: providers may take days to use the new one everywhere.
	defaultOverlap = 7 * 24 * time.Hour
	// maxSecrets bounds what every delivery has to be tried with.
	maxSecrets = 16
	// tries is how often a change is made anew when another was faster.
	tries = 5
)

// CreateSource implements the API.
func (s *Sources) CreateSource(ctx context.Context, req *sourcev1.CreateSourceRequest) (*sourcev1.CreateSourceResponse, error) {
	name := req.GetName()
	if _, ok := s.declared[name]; ok {
		return nil, status.Errorf(codes.AlreadyExists, "a source named %q stands in the configuration file", name)
	}
	now := s.deps.Now()
	c := content{Definition: req.GetDefinition().AsMap()}
	for _, secret := range req.GetSecrets() {
		c.Secrets = append(c.Secrets, newSecret(secret, now))
	}
	if err := s.put(ctx, Record{Name: name, CreatedAt: now}, c, 0); errors.Is(err, ErrConflict) {
		return nil, status.Errorf(codes.AlreadyExists, "there is a source named %q already", name)
	} else if err != nil {
		return nil, err
	}
	s.deps.Telemetry.Logger.InfoContext(ctx, "a source was made", "source", name, "secrets", len(c.Secrets))
	src, err := s.get(ctx, name)
	return &sourcev1.CreateSourceResponse{Source: src}, err
}

func newSecret(secret *sourcev1.NewSecret, now time.Time) storedSecret {
	id := make([]byte, 4)
	rand.Read(id) // never fails, as its documentation says
	out := storedSecret{ID: hex.EncodeToString(id), Value: secret.GetValue(), AddedAt: now.UTC(), Kind: secret.GetKind(), For: secret.GetFor()}
	if secret.GetNotAfter() != nil {
		out.NotAfter = secret.GetNotAfter().AsTime()
	}
	return out
}

// put checks a source and stores it. Nothing is stored of what cannot be judged by.
func (s *Sources) put(ctx context.Context, r Record, c content, expect int64) error {
	if _, _, err := s.compile(r.Name, c); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	var err error
	if r.Sealed, err = s.seal(r.Name, c); err != nil {
		return err
	}
	r.UpdatedAt = s.deps.Now()
	if _, err := s.deps.Store.Put(ctx, r, expect); err != nil {
		return err
	}
	return s.load(ctx)
}

// change applies a change to a source that was made at run time, anew if another change was faster. revision is the one that the
// change was made from; 0: whatever it is.
func (s *Sources) change(ctx context.Context, name string, revision int64, apply func(*Record, *content) error) (*sourcev1.Source, error) {
	if _, ok := s.declared[name]; ok {
		return nil, status.Errorf(codes.FailedPrecondition, "source %q stands in the configuration file: change it there", name)
	}
	for range tries {
		if err := s.follow(ctx); err != nil {
			return nil, err
		}
		now, _ := s.current()
		m, ok := now.managed[name]
		switch {
		case !ok:
			return nil, status.Errorf(codes.NotFound, "there is no source %q", name)
		case revision != 0 && revision != m.Revision:
			return nil, status.Errorf(codes.Aborted, "source %q was changed meanwhile: it is at revision %d, not %d; read it again", name, m.Revision, revision)
		}
		r, c := m.Record, content{Definition: m.content.Definition, Secrets: slices.Clone(m.content.Secrets)}
		if err := apply(&r, &c); err != nil {
			return nil, err
		}
		switch err := s.put(ctx, r, c, m.Revision); {
		case errors.Is(err, ErrConflict):
			continue
		case err != nil:
			return nil, err
		}
		return s.get(ctx, name)
	}
	return nil, status.Errorf(codes.Aborted, "source %q is being changed by others; try again", name)
}

// UpdateSource implements the API.
func (s *Sources) UpdateSource(ctx context.Context, req *sourcev1.UpdateSourceRequest) (*sourcev1.UpdateSourceResponse, error) {
	src, err := s.change(ctx, req.GetName(), req.GetRevision(), func(_ *Record, c *content) error {
		c.Definition = config.Definition(req.GetDefinition().AsMap()).Keep(c.Definition)
		return nil
	})
	s.told(ctx, "a source was changed", req.GetName(), err)
	return &sourcev1.UpdateSourceResponse{Source: src}, err
}

// DisableSource implements the API.
func (s *Sources) DisableSource(ctx context.Context, req *sourcev1.DisableSourceRequest) (*sourcev1.DisableSourceResponse, error) {
	src, err := s.change(ctx, req.GetName(), 0, func(r *Record, _ *content) error { r.Disabled = true; return nil })
	s.told(ctx, "a source was disabled", req.GetName(), err)
	return &sourcev1.DisableSourceResponse{Source: src}, err
}

// EnableSource implements the API.
func (s *Sources) EnableSource(ctx context.Context, req *sourcev1.EnableSourceRequest) (*sourcev1.EnableSourceResponse, error) {
	src, err := s.change(ctx, req.GetName(), 0, func(r *Record, _ *content) error { r.Disabled = false; return nil })
	s.told(ctx, "a source was enabled", req.GetName(), err)
	return &sourcev1.EnableSourceResponse{Source: src}, err
}

// RotateSecret implements the API.
func (s *Sources) RotateSecret(ctx context.Context, req *sourcev1.RotateSecretRequest) (*sourcev1.RotateSecretResponse, error) {
	overlap := defaultOverlap
	if req.GetOverlap() != nil {
		overlap = req.GetOverlap().AsDuration()
	}
	src, err := s.change(ctx, req.GetName(), 0, func(_ *Record, c *content) error {
		secrets, err := rotate(c.Secrets, newSecret(req.GetSecret(), s.deps.Now()), s.deps.Now(), overlap)
		c.Secrets = secrets
		return err
	})
	s.told(ctx, "a secret was added to a source", req.GetName(), err)
	return &sourcev1.RotateSecretResponse{Source: src}, err
}

// rotate adds a secret behind the others, so that these keep their numbers, and ends the others after the overlap.
func rotate(old []storedSecret, added storedSecret, now time.Time, overlap time.Duration) ([]storedSecret, error) {
	end := now.Add(overlap).UTC()
	var out []storedSecret
	for _, secret := range old {
		if subtle.ConstantTimeCompare([]byte(secret.Value), []byte(added.Value)) == 1 && secret.Kind == added.Kind && secret.For == added.For {
			return nil, status.Error(codes.AlreadyExists, "the source has this secret already")
		}
		if !secret.NotAfter.IsZero() && now.Sub(secret.NotAfter) > expiredKept {
			continue
		}
		same := secret.Kind == added.Kind && secret.For == added.For
		if same && (secret.NotAfter.IsZero() || secret.NotAfter.After(end)) {
			secret.NotAfter = end
		}
		out = append(out, secret)
	}
	if len(out) >= maxSecrets {
		return nil, status.Errorf(codes.FailedPrecondition, "the source has %d secrets already; the oldest go %s after they end", len(out), expiredKept)
	}
	return append(out, added), nil
}

// DeleteSource implements the API.
func (s *Sources) DeleteSource(ctx context.Context, req *sourcev1.DeleteSourceRequest) (*sourcev1.DeleteSourceResponse, error) {
	name := req.GetName()
	if _, ok := s.declared[name]; ok {
		return nil, status.Errorf(codes.FailedPrecondition, "source %q stands in the configuration file: take it out there", name)
	}
	if err := s.deps.Store.Delete(ctx, name); errors.Is(err, ErrNotFound) {
		return nil, status.Errorf(codes.NotFound, "there is no source %q", name)
	} else if err != nil {
		return nil, err
	}
	s.told(ctx, "a source was deleted", name, nil)
	return &sourcev1.DeleteSourceResponse{}, s.load(ctx)
}

func (s *Sources) told(ctx context.Context, what, name string, err error) {
	if err == nil {
		s.deps.Telemetry.Logger.InfoContext(ctx, what, "source", name)
	}
}

// GetSource implements the API.
func (s *Sources) GetSource(ctx context.Context, req *sourcev1.GetSourceRequest) (*sourcev1.GetSourceResponse, error) {
	src, err := s.get(ctx, req.GetName())
	return &sourcev1.GetSourceResponse{Source: src}, err
}

func (s *Sources) get(ctx context.Context, name string) (*sourcev1.Source, error) {
	all, err := s.list(ctx, name)
	if err == nil && len(all) == 0 {
		err = status.Errorf(codes.NotFound, "there is no source %q", name)
	}
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// ListSources implements the API.
func (s *Sources) ListSources(ctx context.Context, _ *sourcev1.ListSourcesRequest) (*sourcev1.ListSourcesResponse, error) {
	all, err := s.list(ctx, "")
	return &sourcev1.ListSourcesResponse{Sources: all}, err
}

// list shows the source of a name, or all.
func (s *Sources) list(ctx context.Context, only string) ([]*sourcev1.Source, error) {
	if err := errors.Join(s.follow(ctx), s.noteUses(ctx)); err != nil {
		return nil, err
	}
	uses, err := s.deps.Store.Uses(ctx)
	if err != nil {
		return nil, err
	}
	used := map[secretKey]time.Time{}
	for _, u := range uses {
		used[secretKey{u.Source, u.Secret}] = u.At
	}
	var out []*sourcev1.Source
	for name, cfg := range s.declared {
		if only == "" || only == name {
			src, err := s.showDeclared(name, cfg, used)
			if err != nil {
				return nil, err
			}
			out = append(out, src)
		}
	}
	now, _ := s.current()
	for name, m := range now.managed {
		if only == "" || only == name {
			src, err := m.show(used)
			if err != nil {
				return nil, err
			}
			out = append(out, src)
		}
	}
	slices.SortFunc(out, func(a, b *sourcev1.Source) int { return strings.Compare(a.GetName(), b.GetName()) })
	return out, nil
}

type secretKey struct{ source, secret string }

// showDeclared shows a source of the configuration file.
func (s *Sources) showDeclared(name string, cfg config.Source, used map[secretKey]time.Time) (*sourcev1.Source, error) {
	d, err := config.Define(cfg)
	if err != nil {
		return nil, err
	}
	src := &sourcev1.Source{Name: name, Origin: sourcev1.Origin_ORIGIN_DECLARED, State: sourcev1.State_STATE_ENABLED}
	e, _ := s.deps.Verifier.find(name)
	if len(e.secrets()) == 0 && !cfg.Unsigned {
		src.State = sourcev1.State_STATE_PENDING
	}
	for i, secret := range e.secrets() {
		id := e.secretID(i)
		src.Secrets = append(src.Secrets, &sourcev1.Secret{Id: id, NotAfter: stamp(secret.NotAfter), LastUsedAt: stamp(used[secretKey{name, id}]), Kind: secret.Kind, For: secret.For})
	}
	src.Definition, err = shown(name, d)
	return src, err
}

// show shows a source that was made at run time.
func (m *managed) show(used map[secretKey]time.Time) (*sourcev1.Source, error) {
	src := &sourcev1.Source{Name: m.Name, Origin: sourcev1.Origin_ORIGIN_MANAGED, State: m.stateName(), Revision: m.Revision, CreatedAt: stamp(m.CreatedAt), UpdatedAt: stamp(m.UpdatedAt)}
	for _, secret := range m.content.Secrets {
		src.Secrets = append(src.Secrets, &sourcev1.Secret{Id: secret.ID, AddedAt: stamp(secret.AddedAt), NotAfter: stamp(secret.NotAfter), LastUsedAt: stamp(used[secretKey{m.Name, secret.ID}]), Kind: secret.Kind, For: secret.For})
	}
	var err error
	src.Definition, err = shown(m.Name, m.content.Definition)
	return src, err
}

// shown is a definition as everybody may see it.
func shown(name string, d config.Definition) (*structpb.Struct, error) {
	out, err := structpb.NewStruct(d.Redact())
	if err != nil {
		return nil, fmt.Errorf("show source %s: %w", name, err)
	}
	return out, nil
}

// stamp keeps the zero time absent.
func stamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
