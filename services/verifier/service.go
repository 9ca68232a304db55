package verifier

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

// Service is the verifier's gRPC API.
type Service struct {
	verifierv1.UnimplementedVerifierServiceServer
	declared map[string]*entry
	managed  atomic.Pointer[map[string]*entry] // those made at run time
	missed   func(context.Context)             // looks for those that were made since; nil: there are none
	presets  *presets.Set
	now      func() time.Time
	meters   *meters
	clocks   clocks
	keep     Keep // nil: secrets that providers hand over cannot be kept here
}

// Option changes what New makes.
type Option func(*options)

type options struct{ folder string }

// PresetsFolder names a folder with presets of the user's own; empty: there is none.
func PresetsFolder(folder string) Option { return func(o *options) { o.folder = folder } }

// New checks the sources' configuration, all at once, and returns a verifier for them.
func New(sources []config.Source, tel telemetry.Telemetry, now func() time.Time, opts ...Option) (*Service, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	all, err := presets.Load(o.folder)
	if err != nil {
		return nil, err
	}
	s := &Service{declared: map[string]*entry{}, presets: all, now: now}
	var errs []error
	for _, cfg := range sources {
		compiled, err := compileSource(cfg, all)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.declared[cfg.Name] = newEntry(compiled, nil)
	}
	s.meters, err = newMeters(tel)
	errs = append(errs, err, s.clocks.measure(s, tel))
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// OrderingOf returns the mode that a source's versions are compared in when they are polled: the source's own setting, else
// that of its preset's first rule that has a proof of order.
func OrderingOf(src config.Source) (string, error) {
	if src.Ordering.Mode != "" {
		return src.Ordering.Mode, nil
	}
	p, err := PresetIn(src.PresetsDir, src.Preset)
	if err != nil {
		return "", err
	}
	with, err := p.With(src.Settings)
	if err != nil {
		return "", err
	}
	for _, r := range with.Events {
		if r.Ordering != "" && r.Ordering != "arrival" {
			return r.Ordering, nil
		}
	}
	return "arrival", nil
}

// Verify implements the API.
func (s *Service) Verify(ctx context.Context, req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
	res := s.one(ctx, req)
	if res.GetVerdict() == verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE {
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetSource())
	}
	return res, nil
}

// VerifyBatch implements the API.
func (s *Service) VerifyBatch(ctx context.Context, req *verifierv1.VerifyBatchRequest) (*verifierv1.VerifyBatchResponse, error) {
	res := &verifierv1.VerifyBatchResponse{Responses: make([]*verifierv1.VerifyResponse, len(req.GetRequests()))}
	for i, r := range req.GetRequests() {
		res.Responses[i] = s.one(ctx, r)
	}
	return res, nil
}

func (s *Service) one(ctx context.Context, req *verifierv1.VerifyRequest) *verifierv1.VerifyResponse {
	src, ok := s.find(req.GetSource())
	if !ok && s.missed != nil {
		s.missed(ctx) // another process may have made it a moment ago
		src, ok = s.find(req.GetSource())
	}
	if !ok {
		return &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE, Code: "UNKNOWN_SOURCE", SecretIndex: -1}
	}
	now := s.now()
	res, captured, sent := src.decide(req, s.clocks.correct(now), false)
	s.observe(ctx, src, sent, now)
	if captured != "" {
		res = s.capture(ctx, src.cfg.Name, captured, res)
	}
	src.uses(int(res.GetSecretIndex()), now)
	s.meters.count(ctx, src, res)
	return res
}

// Understand implements the API.
func (s *Service) Understand(ctx context.Context, req *verifierv1.UnderstandRequest) (*verifierv1.UnderstandResponse, error) {
	src, ok := s.find(req.GetRequest().GetSource())
	if !ok && s.missed != nil {
		s.missed(ctx)
		src, ok = s.find(req.GetRequest().GetSource())
	}
	if !ok {
		return nil, status.Errorf(codes.NotFound, "there is no source %q", req.GetRequest().GetSource())
	}
	return &verifierv1.UnderstandResponse{Meaning: src.reread(req.GetRequest(), req.GetAssurance())}, nil
}

// ListPresets implements the API.
func (s *Service) ListPresets(context.Context, *verifierv1.ListPresetsRequest) (*verifierv1.ListPresetsResponse, error) {
	res := &verifierv1.ListPresetsResponse{}
	for _, name := range s.presets.Names() {
		p, err := s.presets.Get(name)
		if err != nil {
			return nil, err
		}
		res.Presets = append(res.Presets, &verifierv1.PresetSummary{Name: name, Description: p.Description, Confidence: p.Confidence})
	}
	return res, nil
}

// verdictName is a verdict as people write it.
func verdictName(v verifierv1.Verdict) string {
	return strings.ToLower(strings.TrimPrefix(v.String(), "VERDICT_"))
}

// PresetNamed finds a preset that hookmesh knows.
func PresetNamed(name string) (*preset.Preset, error) { return PresetIn("", name) }

// PresetIn finds a preset that hookmesh knows, or one in a folder of the user's own.
func PresetIn(folder, name string) (*preset.Preset, error) {
	all, err := presets.Load(folder)
	if err != nil {
		return nil, err
	}
	return all.Get(name)
}
