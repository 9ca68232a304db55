// Package verifier decides whether a delivery is authentic and what it says. The decision is a pure function of the
// request, the source's configuration and the clock.
package verifier

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

// source is a configured source, ready to judge.
type source struct {
	// What each delivery needs comes first and close together: with many sources most are not in the processor's cache.
	name, publicURL string
	preset          *preset.Compiled
	keys            *preset.Keys
	// dedupeTTL is in seconds, gapTimeout in milliseconds.
	dedupeTTL, gapTimeout int64
	unsigned              bool
	// fetches says that a document's content can be fetched from the source.
	fetches bool
	cfg     *config.Source
}

// compileSource checks a source's configuration. All that is wrong is reported at once, without secrets.
func compileSource(s config.Source, all *presets.Set) (*source, error) {
	var errs []error
	fail := func(err error) { errs = append(errs, fmt.Errorf("source %s: %w", s.Name, err)) }
	c, err := all.Compile(s.Preset, s.Settings, preset.Overrides{
		Inline: s.Content.Inline, Title: inlineOnly(s, s.Content.Title), URL: inlineOnly(s, s.Content.URL), Format: s.Content.Format,
		Ordering: s.Ordering.Mode, Sequence: s.Ordering.Sequence,
	})
	if err != nil {
		fail(err)
		return nil, errors.Join(errs...)
	}
	out := &source{
		name: s.Name, publicURL: s.PublicURL, preset: c, dedupeTTL: int64(s.Dedupe.TTL.Seconds()), gapTimeout: s.Ordering.GapTimeout.Milliseconds(),
		unsigned: s.Unsigned, fetches: s.Content.Fetch != "" || s.Connector.Type != "", cfg: &s,
	}
	var secrets []preset.Secret
	for i, secret := range s.Secrets {
		made := preset.Secret{Value: secret.Value, NotAfter: secret.NotAfter, Kind: secret.Kind, For: secret.For}
		if err := c.CheckSecret(made); err != nil {
			fail(fmt.Errorf("secrets[%d]: %w", i, err))
		}
		secrets = append(secrets, made)
	}
	if len(s.Secrets) == 0 && !s.Unsigned && !c.Captures() {
		fail(errors.New("it has no secrets, so that nothing could be proven authentic; say `unsigned: true` if that is meant"))
	}
	out.keys = c.Prepare(secrets)
	return out, errors.Join(errs...)
}

// inlineOnly: with fetch, title and url are expressions over what is fetched, not over the payload.
func inlineOnly(s config.Source, expression string) string {
	if s.Content.Fetch != "" && s.Content.Inline == "" {
		return ""
	}
	return expression
}

// judgement is the memory that one delivery is judged in.
type judgement struct {
	request preset.Request
	meaning preset.Meaning
}

var judgements = sync.Pool{New: func() any { return &judgement{} }}

// signedURL is the URL that signatures cover: the source's public one with the query of the request, else the request's.
func (s *source) signedURL(target string) string {
	public := s.publicURL
	if public == "" {
		return target
	}
	if _, query, ok := strings.Cut(target, "?"); ok && query != "" && !strings.Contains(public, "?") {
		return public + "?" + query
	}
	return public
}

// judge decides on one delivery. skipFreshness leaves the age of its timestamp unchecked.
func (s *source) judge(req *verifierv1.VerifyRequest, now time.Time, skipFreshness bool) *verifierv1.VerifyResponse {
	res, _, _ := s.decide(req, now, skipFreshness)
	return res
}

// decide judges one delivery. captured is a secret that the provider handed over: it has to be kept before the answer goes out.
// sent is when the delivery says that it was sent, if it is authentic and that time is signed.
func (s *source) decide(req *verifierv1.VerifyRequest, now time.Time, skipFreshness bool) (res *verifierv1.VerifyResponse, captured string, sent time.Time) {
	j, _ := judgements.Get().(*judgement)
	defer func() {
		j.request.Free()
		j.meaning.Reset()
		judgements.Put(j)
	}()
	r := &j.request
	r.Reset(s.preset, req.GetMethod(), s.signedURL(req.GetUrl()), req.GetHeaders(), req.GetBody())
	r.Target(req.GetUrl())
	res = &verifierv1.VerifyResponse{SecretIndex: -1, Preset: s.preset.Name, RedactedHeaders: s.preset.RedactedHeaders(), RedactedParameters: s.preset.RedactedParameters()}
	proof, refusal := s.preset.Authenticate(r, s.keys, preset.Options{Now: now, SkipFreshness: skipFreshness, Unsigned: s.unsigned})
	sent = proof.SentAt
	if refusal != nil {
		sent = refusal.SentAt
	}
	if g := s.preset.Handshake(r, s.keys, refusal == nil, now); g != nil {
		if refusal == nil {
			res.SecretIndex = int32(proof.Secret)
		}
		return greet(res, g), g.Captured, sent
	}
	if refusal != nil {
		return s.refuse(j, res, refusal), "", sent
	}
	res.SecretIndex = int32(proof.Secret)
	return s.understand(req, j, res, proof), "", sent
}

// understand says what a delivery means of which so much was proven.
func (s *source) understand(req *verifierv1.VerifyRequest, j *judgement, res *verifierv1.VerifyResponse, proof preset.Proof) *verifierv1.VerifyResponse {
	r, m := &j.request, &j.meaning
	res.Assurance = assurances[proof.Assurance]
	if trouble := r.Decode(); trouble != nil {
		return s.quarantine(r, res, *trouble)
	}
	s.preset.Understand(r, proof, m)
	if len(m.Events) > 0 {
		res.Events = make([]*eventv1.Event, len(m.Events))
		for i := range m.Events {
			res.Events[i] = s.event(req, r, &m.Events[i], proof)
		}
	}
	s.owe(req, res, m)
	switch {
	case len(m.Troubles) > 0:
		return s.quarantine(r, res, m.Troubles...)
	case m.Ignored != "":
		res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_IGNORED, "IGNORED", m.Ignored
		res.Response = response(s.preset.Respond(preset.Ignored, r))
	default:
		res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_ACCEPTED, "ACCEPTED", s.reason(proof)
		res.Response = response(s.preset.Respond(preset.Accepted, r))
	}
	return res
}

// reread says what a delivery means that was proven before.
func (s *source) reread(req *verifierv1.VerifyRequest, assurance eventv1.Assurance) *verifierv1.VerifyResponse {
	j, _ := judgements.Get().(*judgement)
	defer func() {
		j.request.Free()
		j.meaning.Reset()
		judgements.Put(j)
	}()
	j.request.Reset(s.preset, req.GetMethod(), s.signedURL(req.GetUrl()), req.GetHeaders(), req.GetBody())
	j.request.Target(req.GetUrl())
	proof := preset.Proof{Secret: -1, Assurance: "none"}
	for name, a := range assurances {
		if a == assurance {
			proof.Assurance = name
		}
	}
	return s.understand(req, j, &verifierv1.VerifyResponse{SecretIndex: -1, Preset: s.preset.Name}, proof)
}

// reason says why a delivery is accepted.
func (s *source) reason(proof preset.Proof) string {
	switch {
	case proof.Secret < 0:
		return "nothing proves it, which the source allows"
	case proof.Secret < len(bySecret):
		return bySecret[proof.Secret]
	}
	return fmt.Sprintf("authentic by secret %d", proof.Secret)
}

// bySecret are the reasons of the usual acceptances.
var bySecret = func() (reasons [16]string) {
	for i := range reasons {
		reasons[i] = fmt.Sprintf("authentic by secret %d", i)
	}
	return reasons
}()

// owe adds what the delivery says is to be fetched.
func (s *source) owe(req *verifierv1.VerifyRequest, res *verifierv1.VerifyResponse, m *preset.Meaning) {
	for _, d := range m.Debts {
		reason := "PULL_CHANGES"
		if d.Resync {
			reason = "RESYNC"
		}
		res.Debts = append(res.Debts, &eventv1.Debt{Source: s.name, DocumentId: d.DocumentID, Reason: reason, IncurredAt: req.GetReceivedAt()})
	}
}

// refuse answers what is not authentic, or no longer fresh. Of what is authentic, the documents are named that it tells of, so that
// they can be fetched; none if that would not make up for all of it.
func (s *source) refuse(j *judgement, res *verifierv1.VerifyResponse, refusal *preset.Refusal) *verifierv1.VerifyResponse {
	r, m := &j.request, &j.meaning
	if refusal.Debt && r.Decode() == nil {
		s.preset.Understand(r, preset.Proof{Secret: -1, Assurance: "none"}, m)
		container := func(ev preset.Event) bool { return ev.Action == "subtree-deleted" }
		if len(m.Troubles)+len(m.Debts) == 0 && !slices.ContainsFunc(m.Events, container) {
			for _, ev := range m.Events {
				res.Events = append(res.Events, &eventv1.Event{Source: s.cfg.Name, DocumentId: ev.DocumentID, Action: actions[ev.Action], Content: &eventv1.Content{Url: ev.URL}})
			}
		}
	}
	res.Verdict, res.Code, res.Reason, res.Debt = verifierv1.Verdict_VERDICT_REJECTED, refusal.Code, refusal.Reason, refusal.Debt
	res.Response = response(s.preset.Respond(preset.Rejected, r))
	return res
}

// greet answers a handshake.
func greet(res *verifierv1.VerifyResponse, g *preset.Greeting) *verifierv1.VerifyResponse {
	if g.Response == nil {
		res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_IGNORED, "IGNORED", g.Ignored
		return res
	}
	res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_CHALLENGE, "CHALLENGE", "the provider's handshake"
	res.Response = response(g.Response)
	return res
}

func response(r *preset.Response) *verifierv1.HttpResponse {
	if r == nil {
		return nil
	}
	out := &verifierv1.HttpResponse{Status: int32(r.Status), Body: r.Body}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, &eventv1.Header{Name: h.Name, Value: []byte(h.Value)})
	}
	return out
}

// quarantine keeps what is authentic but cannot be understood; what could be understood beside it goes its way.
func (s *source) quarantine(r *preset.Request, res *verifierv1.VerifyResponse, troubles ...preset.Trouble) *verifierv1.VerifyResponse {
	res.Verdict, res.Code, res.Reason = verifierv1.Verdict_VERDICT_QUARANTINED, troubles[0].Code, "authentic, but cannot be understood: "+troubles[0].Reason
	for _, t := range troubles {
		item := &verifierv1.QuarantinedItem{Payload: t.Payload, Code: t.Code, Reason: t.Reason, Whole: t.Payload == nil, Delivery: t.Delivery}
		if item.GetWhole() {
			item.Payload = r.Payload()
		}
		res.Quarantined = append(res.Quarantined, item)
	}
	res.Response = response(s.preset.Respond(preset.Quarantined, r))
	return res
}
