package verifier

import (
	"context"
	"errors"

	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
)

// Keep makes a secret that a provider handed over (Notion, Asana) the source's first one, durably, before it returns. If the
// source has a secret by then it returns ErrNotPending and changes nothing: an active secret is never overwritten.
type Keep func(ctx context.Context, source, secret string) error

// ErrNotPending: the source has a secret already.
var ErrNotPending = errors.New("the source has a secret already")

// CodeSecretNotKept: a provider handed over its secret, and it could not be kept.
const CodeSecretNotKept = "SECRET_NOT_KEPT"

// KeepSecrets says where secrets that providers hand over are kept. It has to be called before the first delivery.
func (s *Service) KeepSecrets(keep Keep) { s.keep = keep }

// capture keeps a secret and lets the answer go out, or refuses: a provider that hears yes never tells its secret again.
func (s *Service) capture(ctx context.Context, source, secret string, answer *verifierv1.VerifyResponse) *verifierv1.VerifyResponse {
	refused := &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_REJECTED, Code: CodeSecretNotKept, SecretIndex: -1, Preset: answer.GetPreset()}
	if s.keep == nil {
		refused.Reason = "the provider handed over its secret, but a source of the configuration file cannot keep one: make the source with `hookmesh sources create`"
		return refused
	}
	switch err := s.keep(ctx, source, secret); {
	case errors.Is(err, ErrNotPending):
		refused.Reason = "somebody handed over a secret, but the source has one: an active secret is never replaced this way"
		return refused
	case err != nil:
		refused.Reason = "the provider handed over its secret, and it could not be kept: " + err.Error()
		return refused
	}
	return answer
}
