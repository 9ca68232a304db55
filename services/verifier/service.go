package verifier

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
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
	sources  map[string]*source
	presets  map[string]*preset.Preset
	now      func() time.Time
	verdicts metric.Int64Counter
	secrets  metric.Int64Counter
}

// New checks the sources' configuration, all at once, and returns a verifier for them.
func New(sources []config.Source, tel telemetry.Telemetry, now func() time.Time) (*Service, error) {
	all, err := presets.Load()
	if err != nil {
		return nil, err
	}
	s := &Service{sources: map[string]*source{}, presets: all, now: now}
	var errs []error
	for _, cfg := range sources {
		compiled, err := compileSource(cfg, all)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		s.sources[cfg.Name] = compiled
	}
	meter := tel.Meter("github.com/hookmesh/hookmesh/services/verifier")
	s.verdicts, err = meter.Int64Counter("hookmesh.verifier.verdicts", metric.WithDescription("Verdicts, by source, verdict and code."))
	errs = append(errs, err)
	s.secrets, err = meter.Int64Counter("hookmesh.verifier.secret_used", metric.WithDescription("Which secret matched, by source: an old one that is no longer used can go."))
	errs = append(errs, err)
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
	p, err := PresetNamed(src.Preset)
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
	src, ok := s.sources[req.GetSource()]
	if !ok {
		return &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE, Code: "UNKNOWN_SOURCE", SecretIndex: -1}
	}
	res := src.judge(req, s.now(), false)
	s.verdicts.Add(ctx, 1, metric.WithAttributes(attribute.String("source", src.cfg.Name),
		attribute.String("verdict", verdictName(res.GetVerdict())), attribute.String("code", res.GetCode())))
	if res.GetSecretIndex() >= 0 {
		s.secrets.Add(ctx, 1, metric.WithAttributes(attribute.String("source", src.cfg.Name), attribute.Int("secret", int(res.GetSecretIndex()))))
	}
	return res
}

// ListPresets implements the API.
func (s *Service) ListPresets(context.Context, *verifierv1.ListPresetsRequest) (*verifierv1.ListPresetsResponse, error) {
	res := &verifierv1.ListPresetsResponse{}
	for _, name := range presets.Names(s.presets) {
		p := s.presets[name]
		res.Presets = append(res.Presets, &verifierv1.PresetSummary{Name: name, Description: p.Description, Confidence: p.Confidence})
	}
	return res, nil
}

// verdictName is a verdict as people write it.
func verdictName(v verifierv1.Verdict) string {
	return strings.ToLower(strings.TrimPrefix(v.String(), "VERDICT_"))
}

// PresetNamed finds a preset that hookmesh knows.
func PresetNamed(name string) (*preset.Preset, error) {
	all, err := presets.Load()
	if err != nil {
		return nil, err
	}
	p, ok := all[name]
	if !ok {
		return nil, fmt.Errorf("there is no preset %q; there are %s", name, strings.Join(names(all), ", "))
	}
	return p, nil
}
