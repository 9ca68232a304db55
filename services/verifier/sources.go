package verifier

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/seal"
	"github.com/hookmesh/hookmesh/services/internal/sources"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

const (
	// followInterval is how often the store is asked whether another process changed a source.
	followInterval = 2 * time.Second
	// useInterval is how exact the time is that a secret was last used.
	useInterval = time.Minute
	// expiredKept is how long an expired secret is kept, so that its use can be told from a forgery.
	expiredKept = 30 * 24 * time.Hour
)

// SourcesDeps are what Sources needs.
type SourcesDeps struct {
	// Verifier judges by the sources that are made here, from then on.
	Verifier *Service
	Store    SourceStore
	// Keys seal what is stored and what is sent to the other services.
	Keys *seal.Ring
	// Declared are the sources of the configuration file.
	Declared []config.Source
	// Check says what the other services could not work with in a source; nil: nothing more than the verifier.
	Check func(config.Source) error
	// Subscribes says whether somebody has to ask a source to call us, and to tell it a secret; nil: nobody has to.
	Subscribes func(config.Source) bool
	Telemetry  telemetry.Telemetry
	Now        func() time.Time
}

// Sources implements SourceService: sources that are made, changed and removed at run time.
type Sources struct {
	sourcev1.UnimplementedSourceServiceServer
	deps     SourcesDeps
	declared map[string]config.Source
	stopped  chan struct{}
	stopOnce sync.Once

	// loading is held while the store is read and what was read is put to use, so that nothing older replaces anything newer.
	loading sync.Mutex
	mu      sync.Mutex
	state   state
	// changed is closed when state is replaced.
	changed chan struct{}
	// noted are the uses of secrets that are in the store.
	noted map[Use]struct{}
}

// String keeps what is inside out of every log: fmt looks into fields that it cannot ask.
func (*Sources) String() string { return "verifier.Sources" }

// GoString is String for %#v.
func (*Sources) GoString() string { return "verifier.Sources" }

// state is what the store held at a revision. It does not change.
type state struct {
	revision int64
	managed  map[string]*managed
}

// managed is a source that was made at run time.
type managed struct {
	Record
	content content
	cfg     config.Source
	entry   *entry
	// sent is what the other services are told.
	sent *sourcev1.ManagedSource
}

// content is what is sealed in a record.
type content struct {
	Definition config.Definition `json:"definition"`
	Secrets    []storedSecret    `json:"secrets,omitempty"`
}

type storedSecret struct {
	ID       string    `json:"id"`
	Value    string    `json:"value"`
	NotAfter time.Time `json:"not_after,omitzero"`
	AddedAt  time.Time `json:"added_at,omitzero"`
	Kind     string    `json:"kind,omitempty"`
	For      string    `json:"for,omitempty"`
}

func (s storedSecret) config() config.Secret {
	return config.Secret{Value: s.Value, NotAfter: s.NotAfter, Kind: s.Kind, For: s.For}
}

// String hides the secret from every log and error.
func (storedSecret) String() string { return config.Redacted }

// GoString hides the secret from %#v.
func (storedSecret) GoString() string { return config.Redacted }

// NewSources reads the store. What was sealed with an older key is sealed anew. It refuses to begin with a source that cannot be
// read or judged by: leaving it out would answer its deliveries with 404, and their senders would drop them.
func NewSources(ctx context.Context, deps SourcesDeps) (*Sources, error) {
	s := &Sources{deps: deps, declared: map[string]config.Source{}, stopped: make(chan struct{}), changed: make(chan struct{}), noted: map[Use]struct{}{}}
	for _, src := range deps.Declared {
		s.declared[src.Name] = src
	}
	salt := make([]byte, 32)
	rand.Read(salt) // never fails, as its documentation says
	salt, err := deps.Store.Salt(ctx, salt)
	if err != nil {
		return nil, err
	}
	for name, e := range deps.Verifier.declared {
		for _, secret := range s.declared[name].Secrets {
			e.ids = append(e.ids, declaredID(salt, name, secret.Value))
		}
	}
	if err := s.load(ctx); err != nil {
		return nil, err
	}
	for name := range s.state.managed {
		if _, ok := s.declared[name]; ok {
			return nil, fmt.Errorf("source %s stands in the configuration file and was also made at run time: rename it in the file, or take it out, start, and delete the other with `hookmesh sources delete %s`", name, name)
		}
	}
	deps.Verifier.missed = func(ctx context.Context) {
		if err := s.follow(ctx); err != nil {
			deps.Telemetry.Logger.ErrorContext(ctx, "looking for a source that is not known failed", "error", err)
		}
	}
	deps.Verifier.KeepSecrets(s.capture)
	return s, s.reseal(ctx)
}

// declaredID tells the secrets of a file apart without saying anything about them: without the salt nobody can try values.
func declaredID(salt []byte, source, value string) string {
	mac := hmac.New(sha256.New, salt)
	mac.Write([]byte(source + "\x00" + value))
	return hex.EncodeToString(mac.Sum(nil)[:4])
}

func recordOwner(name string) string { return "hookmesh source record\x00" + name }

// reseal seals with the newest key what an older one sealed.
func (s *Sources) reseal(ctx context.Context) error {
	records, _, err := s.deps.Store.All(ctx)
	if err != nil {
		return err
	}
	for _, r := range records {
		if s.deps.Keys.Newest(r.Sealed) {
			continue
		}
		raw, err := s.deps.Keys.Open(recordOwner(r.Name), r.Sealed)
		if err != nil {
			return fmt.Errorf("encrypt source %s anew: %w", r.Name, err)
		}
		if err := s.deps.Store.Reseal(ctx, r.Name, r.Revision, s.deps.Keys.Seal(recordOwner(r.Name), raw)); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
		s.deps.Telemetry.Logger.InfoContext(ctx, "a source was encrypted anew with the newest key", "source", r.Name)
	}
	return nil
}

func (s *Sources) seal(name string, c content) ([]byte, error) {
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("encode source %s: %w", name, err)
	}
	return s.deps.Keys.Seal(recordOwner(name), raw), nil
}

// load reads the store and puts to use what changed.
func (s *Sources) load(ctx context.Context) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	records, revision, err := s.deps.Store.All(ctx)
	if err != nil {
		return err
	}
	s.mu.Lock()
	old := s.state
	s.mu.Unlock()
	next := state{revision: revision, managed: make(map[string]*managed, len(records))}
	entries := make(map[string]*entry, len(records))
	for _, r := range records {
		if name, ok := strings.CutPrefix(r.Name, capturedPrefix); ok {
			if entries[name], err = s.openCaptured(name, r); err != nil {
				return err
			}
			continue
		}
		m := old.managed[r.Name]
		if m == nil || m.Revision != r.Revision {
			if m, err = s.open(r, m); err != nil {
				return err
			}
		}
		next.managed[r.Name] = m
	}
	for name, m := range next.managed {
		if !m.Disabled {
			entries[name] = m.entry
		}
	}
	maps.DeleteFunc(entries, func(_ string, e *entry) bool { return e == nil })
	s.deps.Verifier.managed.Store(&entries)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = next
	close(s.changed)
	s.changed = make(chan struct{})
	return nil
}

// open makes a record ready to judge by. before is what the source was; nil: it is new here.
func (s *Sources) open(r Record, before *managed) (*managed, error) {
	raw, err := s.deps.Keys.Open(recordOwner(r.Name), r.Sealed)
	if err != nil {
		return nil, fmt.Errorf("source %s, which was made at run time, cannot be decrypted: %w; put its key back into verifier.keys", r.Name, err)
	}
	m := &managed{Record: r}
	if err := json.Unmarshal(raw, &m.content); err != nil {
		return nil, fmt.Errorf("source %s, which was made at run time, cannot be read", r.Name) // the error could quote a secret
	}
	if m.cfg, m.entry, err = s.compile(r.Name, m.content); err != nil {
		return nil, fmt.Errorf("source %s, which was made at run time, does not fit this version: %w", r.Name, err)
	}
	if before != nil {
		m.entry.inherit(before.entry)
	}
	m.sent = &sourcev1.ManagedSource{Name: r.Name, State: m.stateName(), Revision: r.Revision}
	if m.sent.Definition, m.sent.Sealed, err = sources.Seal(s.deps.Keys, r.Name, m.content.Definition); err != nil {
		return nil, err
	}
	if s.deps.Subscribes != nil && s.deps.Subscribes(m.cfg) {
		if m.sent.SealedSecrets, err = sources.SealSecrets(s.deps.Keys, r.Name, m.cfg.Secrets); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// compile checks a source: its definition, its preset with its secrets, and what the other services make of it.
func (s *Sources) compile(name string, c content) (config.Source, *entry, error) {
	cfg, err := config.ParseDefinition(name, c.Definition)
	if err != nil {
		return cfg, nil, err
	}
	ids := make([]string, len(c.Secrets))
	for i, secret := range c.Secrets {
		cfg.Secrets = append(cfg.Secrets, secret.config())
		ids[i] = secret.ID
	}
	compiled, err := compileSource(cfg, s.deps.Verifier.presets)
	if s.deps.Check != nil {
		err = errors.Join(err, s.deps.Check(cfg))
	}
	if err != nil {
		return cfg, nil, err
	}
	return cfg, newEntry(compiled, ids), nil
}

func (m *managed) stateName() sourcev1.State {
	switch {
	case m.Disabled:
		return sourcev1.State_STATE_DISABLED
	case len(m.content.Secrets) == 0 && !m.cfg.Unsigned:
		return sourcev1.State_STATE_PENDING
	}
	return sourcev1.State_STATE_ENABLED
}

// current is the newest state that was read.
func (s *Sources) current() (state, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.changed
}

// Run follows what other processes change and remembers when secrets are used, until ctx ends.
func (s *Sources) Run(ctx context.Context) error {
	defer s.stopOnce.Do(func() { close(s.stopped) })
	follow, note := time.NewTicker(followInterval), time.NewTicker(useInterval)
	defer follow.Stop()
	defer note.Stop()
	for {
		var err error
		select {
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if err := s.noteUses(last); err != nil {
				s.deps.Telemetry.Logger.Warn("when secrets were last used could not be stored", "error", err)
			}
			return nil
		case <-follow.C:
			err = s.follow(ctx)
		case <-note.C:
			err = s.noteUses(ctx)
		}
		if err != nil && ctx.Err() == nil {
			s.deps.Telemetry.Logger.Error("following the sources that are made at run time failed; what was known before stays in use", "error", err)
		}
	}
}

// follow loads the store if another process changed it.
func (s *Sources) follow(ctx context.Context) error {
	revision, err := s.deps.Store.Revision(ctx)
	if err != nil {
		return err
	}
	if now, _ := s.current(); now.revision == revision {
		return nil
	}
	return s.load(ctx)
}

// noteUses stores when secrets were last used, if that is news.
func (s *Sources) noteUses(ctx context.Context) error {
	var uses []Use
	s.deps.Verifier.each(func(name string, e *entry) {
		for i, id := range e.ids {
			if at := e.proofs[i].used.Load(); at != 0 {
				uses = append(uses, Use{Source: name, Secret: id, At: time.Unix(at, 0)})
			}
		}
	})
	s.mu.Lock()
	uses = slices.DeleteFunc(uses, func(u Use) bool { _, known := s.noted[u]; return known })
	s.mu.Unlock()
	if len(uses) == 0 {
		return nil
	}
	if err := s.deps.Store.NoteUses(ctx, uses); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range uses {
		s.noted[u] = struct{}{}
	}
	return nil
}

// WatchSources implements the API.
func (s *Sources) WatchSources(_ *sourcev1.WatchSourcesRequest, stream sourcev1.SourceService_WatchSourcesServer) error {
	for {
		now, changed := s.current()
		res := &sourcev1.WatchSourcesResponse{Revision: now.revision}
		for _, m := range now.managed {
			res.Sources = append(res.Sources, m.sent)
		}
		slices.SortFunc(res.Sources, func(a, b *sourcev1.ManagedSource) int { return strings.Compare(a.GetName(), b.GetName()) })
		if err := stream.Send(res); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-s.stopped:
			return nil
		case <-changed:
		}
	}
}
