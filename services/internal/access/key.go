package access

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"time"
)

// keyPrefix tells keys from tokens, and lets scanners for leaked secrets find them.
const keyPrefix = "hmk_"

// Key is an API key as it stands in the configuration: never the key itself.
type Key struct {
	// Name is for the audit log.
	Name string
	// Hash is as HashOf writes it.
	Hash string
	// Scopes is what its holder may do.
	Scopes []Scope
	// NotAfter is when it ends; zero: never.
	NotAfter time.Time
}

var hashForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

func (k Key) check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("key %q: "+format, append([]any{k.Name}, args...)...))
	}
	if k.Name == "" {
		bad("it has no name")
	}
	if !hashForm.MatchString(k.Hash) {
		bad("its hash is not sha256: and 64 hexadecimal digits; make one with `hookmesh keys new`")
	}
	if len(k.Scopes) == 0 {
		bad("it has no scopes; there are %v", Scopes())
	}
	for _, s := range k.Scopes {
		if !slices.Contains(Scopes(), s) {
			bad("there is no scope %q; there are %v", s, Scopes())
		}
	}
	return errors.Join(errs...)
}

// NewKey makes a key of 256 random bits.
func NewKey() string {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails
	return keyPrefix + base64.RawURLEncoding.EncodeToString(raw[:])
}

// HashOf is what the configuration holds of a key. SHA-256 is enough, because a key cannot be guessed as a password can.
func HashOf(key string) string {
	sum := sha256.Sum256([]byte(key))
	return "sha256:" + hex.EncodeToString(sum[:])
}

// serviceToken is what services show each other: derived from the secret that they share, so that the secret itself, which may serve
// other purposes as well, never goes over the network.
func serviceToken(secret string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("hookmesh service token 1"))
	return keyPrefix + "service_" + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}
