package verifier

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
)

// capturedPrefix begins the names of records that hold nothing but the secret that a source of the configuration file was given by
// its provider. No source can be called like that.
const capturedPrefix = ":"

// capture is Keep: it makes a handshake's secret the source's first one.
func (s *Sources) capture(ctx context.Context, name, value string) error {
	secret := newSecret(&sourcev1.NewSecret{Value: value}, s.deps.Now())
	cfg, declared := s.declared[name]
	var err error
	if declared {
		if len(cfg.Secrets) > 0 {
			return ErrNotPending
		}
		err = s.putCaptured(ctx, name, secret)
	} else {
		_, err = s.change(ctx, name, 0, func(_ *Record, c *content) error {
			if len(c.Secrets) > 0 {
				return ErrNotPending
			}
			c.Secrets = append(c.Secrets, secret)
			return nil
		})
	}
	s.told(ctx, "a source was given its secret by its provider", name, err)
	return err
}

func (s *Sources) putCaptured(ctx context.Context, name string, secret storedSecret) error {
	sealed, err := s.seal(capturedPrefix+name, content{Secrets: []storedSecret{secret}})
	if err != nil {
		return err
	}
	now := s.deps.Now()
	if _, err := s.deps.Store.Put(ctx, Record{Name: capturedPrefix + name, Sealed: sealed, CreatedAt: now, UpdatedAt: now}, 0); errors.Is(err, ErrConflict) {
		return ErrNotPending
	} else if err != nil {
		return err
	}
	return s.load(ctx)
}

// openCaptured makes a source of the configuration file ready to judge by the secret that its provider gave it; nil: the file has
// one, or the source no more.
func (s *Sources) openCaptured(name string, r Record) (*entry, error) {
	cfg, ok := s.declared[name]
	if !ok || len(cfg.Secrets) > 0 {
		return nil, nil
	}
	raw, err := s.deps.Keys.Open(recordOwner(r.Name), r.Sealed)
	if err != nil {
		return nil, fmt.Errorf("the secret that source %s was given by its provider cannot be decrypted: %w; put its key back into verifier.keys", name, err)
	}
	var c content
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("the secret that source %s was given by its provider cannot be read", name) // the error could quote it
	}
	var ids []string
	for _, secret := range c.Secrets {
		cfg.Secrets = append(cfg.Secrets, secret.config())
		ids = append(ids, secret.ID)
	}
	compiled, err := compileSource(cfg, s.deps.Verifier.presets)
	if err != nil {
		return nil, err
	}
	return newEntry(compiled, ids), nil
}
