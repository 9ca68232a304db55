// Package verifier decides whether a delivery is authentic and what it says. The decision is a pure function of the
// request, the source's configuration and the clock.
package verifier

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

// source is a configured source, ready to judge.
type source struct {
	cfg     config.Source
	preset  *preset.Compiled
	secrets []preset.Secret
}

// compileSource checks a source's configuration. All that is wrong is reported at once, without secrets.
func compileSource(s config.Source, presets map[string]*preset.Preset) (*source, error) {
	p, ok := presets[s.Preset]
	if !ok {
		return nil, fmt.Errorf("source %s: there is no preset %q; there are %s", s.Name, s.Preset, strings.Join(names(presets), ", "))
	}
	var errs []error
	fail := func(err error) { errs = append(errs, fmt.Errorf("source %s: %w", s.Name, err)) }
	with, err := p.With(s.Settings)
	if err != nil {
		fail(err)
		with = p
	}
	c, err := with.Compile(preset.Overrides{
		Inline: s.Content.Inline, Title: inlineOnly(s, s.Content.Title), URL: inlineOnly(s, s.Content.URL), Format: s.Content.Format,
		Ordering: s.Ordering.Mode, Sequence: s.Ordering.Sequence,
	})
	if err != nil {
		fail(err)
		return nil, errors.Join(errs...)
	}
	out := &source{cfg: s, preset: c}
	for i, secret := range s.Secrets {
		if err := c.CheckSecret(secret.Value); err != nil {
			fail(fmt.Errorf("secrets[%d]: %w", i, err))
		}
		out.secrets = append(out.secrets, preset.Secret{Value: secret.Value, NotAfter: secret.NotAfter})
	}
	if len(s.Secrets) == 0 {
		fail(errors.New("it has no secrets, so that nothing could be proven authentic"))
	}
	return out, errors.Join(errs...)
}

// inlineOnly: with fetch, title and url are expressions over what is fetched, not over the payload.
func inlineOnly(s config.Source, expression string) string {
	if s.Content.Fetch != "" && s.Content.Inline == "" {
		return ""
	}
	return expression
}

func names(presets map[string]*preset.Preset) []string {
	var all []string
	for n := range presets {
		all = append(all, n)
	}
	slices.Sort(all)
	return all
}

// request turns a call into what presets judge.
func (s *source) request(req *verifierv1.VerifyRequest) (*preset.Request, *expr.Input) {
	header := http.Header{}
	for _, h := range req.GetHeaders() {
		header.Add(h.GetName(), string(h.GetValue()))
	}
	r := &preset.Request{Method: req.GetMethod(), URL: req.GetUrl(), Header: header, Body: req.GetBody(), Query: map[string]string{}}
	if u, err := url.Parse(req.GetUrl()); err == nil {
		for k, v := range u.Query() {
			r.Query[k] = v[0]
		}
		if s.cfg.PublicURL != "" {
			r.URL = s.cfg.PublicURL
			if u.RawQuery != "" && !strings.Contains(r.URL, "?") {
				r.URL += "?" + u.RawQuery
			}
		}
	}
	in := &expr.Input{Headers: make(map[string]string, len(header)), Query: r.Query, Method: r.Method, URL: r.URL}
	for name := range header {
		in.Headers[strings.ToLower(name)] = strings.ToValidUTF8(header.Get(name), "\uFFFD")
	}
	if in.Headers["content-type"] == "" {
		in.Headers["content-type"] = ""
	}
	return r, in
}

// judge decides on one delivery.
func (s *source) judge(req *verifierv1.VerifyRequest, now time.Time, skipFreshness bool) *verifierv1.VerifyResponse {
	r, in := s.request(req)
	proof, refusal := s.preset.Authenticate(r, in, s.secrets, now, skipFreshness)
	res := &verifierv1.VerifyResponse{SecretIndex: -1, Preset: s.preset.Name}
	if refusal != nil {
		return s.refuse(r, in, res, refusal)
	}
	res.SecretIndex = int32(proof.Secret)
	if trouble := s.preset.Decode(r, in); trouble != nil {
		return quarantine(res, req.GetBody(), *trouble)
	}
	if answer := s.preset.Handshake(in, true); answer != nil {
		return challenge(res, answer)
	}
	meaning := s.preset.Understand(in)
	for _, ev := range meaning.Events {
		res.Events = append(res.Events, s.event(req, r, ev, proof))
	}
	switch {
	case len(meaning.Troubles) > 0:
		return quarantine(res, req.GetBody(), meaning.Troubles...)
	case meaning.Ignored != "":
		res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_IGNORED, "IGNORED", meaning.Ignored
	default:
		res.Verdict, res.Code = verifierv1.Verdict_VERDICT_ACCEPTED, "ACCEPTED"
		res.Reason = fmt.Sprintf("authentic by secret %d; %d event(s)", proof.Secret, len(res.Events))
	}
	return res
}

// refuse answers what is not authentic: with a handshake's answer if the provider's handshake is unsigned, else with a refusal.
func (s *source) refuse(r *preset.Request, in *expr.Input, res *verifierv1.VerifyResponse, refusal *preset.Refusal) *verifierv1.VerifyResponse {
	if trouble := s.preset.Decode(r, in); trouble == nil {
		if answer := s.preset.Handshake(in, false); answer != nil {
			return challenge(res, answer)
		}
	}
	res.Verdict, res.Code, res.Reason, res.Debt = verifierv1.Verdict_VERDICT_REJECTED, refusal.Code, refusal.Reason, refusal.Debt
	return res
}

func challenge(res *verifierv1.VerifyResponse, a *preset.Answer) *verifierv1.VerifyResponse {
	res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_CHALLENGE, "CHALLENGE", "the provider's handshake"
	res.Response = &verifierv1.HttpResponse{Status: int32(a.Status), Body: a.Body,
		Headers: []*eventv1.Header{{Name: "Content-Type", Value: []byte(a.ContentType)}}}
	return res
}

func quarantine(res *verifierv1.VerifyResponse, payload []byte, troubles ...preset.Trouble) *verifierv1.VerifyResponse {
	res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_QUARANTINED, troubles[0].Code, "authentic, but cannot be understood: "+troubles[0].Reason
	for _, t := range troubles {
		res.Quarantined = append(res.Quarantined, &verifierv1.QuarantinedItem{Payload: payload, Code: t.Code, Reason: t.Reason})
	}
	return res
}
