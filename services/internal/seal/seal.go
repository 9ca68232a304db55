// Package seal encrypts what must not be read off a disk: AES-256-GCM under one of several keys, bound to what it belongs to.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// KeySize is the size of a key in bytes.
const KeySize = 32

const (
	version = 1
	idSize  = 8
	header  = 1 + idSize
)

var (
	// ErrNoKey says that something was sealed with a key that the ring does not hold.
	ErrNoKey = errors.New("sealed with a key that is not known here")
	// ErrBroken says that what was sealed was altered, or belongs to something else.
	ErrBroken = errors.New("what was sealed cannot be opened: it was altered, or belongs to something else")
)

// Ring is a set of keys. The first seals; all of them open.
type Ring struct {
	keys []key
}

type key struct {
	id   [idSize]byte
	aead cipher.AEAD
}

// New returns a ring of keys, the newest first.
func New(keys ...[]byte) (*Ring, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key")
	}
	r := &Ring{}
	for i, k := range keys {
		if len(k) != KeySize {
			return nil, fmt.Errorf("key %d has %d bytes, not %d", i, len(k), KeySize)
		}
		block, err := aes.NewCipher(k)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		// The nonce is chosen at random by the package itself. 2^32 messages under one key are safe; sources are changed far less often.
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i, err)
		}
		sum := sha256.Sum256(append([]byte("hookmesh key id\x00"), k...))
		r.keys = append(r.keys, key{[idSize]byte(sum[:idSize]), aead})
	}
	return r, nil
}

// Seal encrypts plain. Only with the same owner can it be opened again.
func (r *Ring) Seal(owner string, plain []byte) []byte {
	k := r.keys[0]
	out := append([]byte{version}, k.id[:]...)
	return k.aead.Seal(out, nil, plain, append(out[:header:header], owner...))
}

// Open decrypts what Seal returned for this owner.
func (r *Ring) Open(owner string, sealed []byte) ([]byte, error) {
	if len(sealed) < header || sealed[0] != version {
		return nil, ErrBroken
	}
	for _, k := range r.keys {
		if k.id != [idSize]byte(sealed[1:header]) {
			continue
		}
		plain, err := k.aead.Open(nil, nil, sealed[header:], append(sealed[:header:header], owner...))
		if err != nil {
			return nil, ErrBroken
		}
		return plain, nil
	}
	return nil, fmt.Errorf("%w: key %x", ErrNoKey, sealed[1:header])
}

// Newest says whether something is sealed with the key that seals now.
func (r *Ring) Newest(sealed []byte) bool {
	return len(sealed) >= header && r.keys[0].id == [idSize]byte(sealed[1:header])
}

// ParseKey reads a key: 32 bytes in base64 or hexadecimal. The error does not repeat it.
func ParseKey(text string) ([]byte, error) {
	text = strings.TrimSpace(text)
	if k, err := hex.DecodeString(text); err == nil && len(k) == KeySize {
		return k, nil
	}
	for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if k, err := enc.DecodeString(text); err == nil && len(k) == KeySize {
			return k, nil
		}
	}
	return nil, fmt.Errorf("is not a key of %d bytes in base64 or hexadecimal; `openssl rand -base64 %d` makes one", KeySize, KeySize)
}

// KeyFile reads the key in a file, and makes file and key if there is none. Only the owner may read it: a file that others may read
// is refused.
func KeyFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return newKeyFile(path)
	}
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("key file %s can be read by others (mode %o): chmod 600 it", path, info.Mode().Perm())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	k, err := ParseKey(string(raw))
	if err != nil {
		return nil, fmt.Errorf("key file %s %w", path, err)
	}
	return k, nil
}

// newKeyFile writes a new key so that a crash leaves a whole file or none.
func newKeyFile(path string) ([]byte, error) {
	k := make([]byte, KeySize)
	rand.Read(k) // never fails, as its documentation says
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".key-*") // mode 0600
	if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, err = tmp.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	if err := errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	// A link, unlike a rename, fails if another process was faster: then its key counts.
	if err := os.Link(tmp.Name(), path); errors.Is(err, os.ErrExist) {
		return KeyFile(path)
	} else if err != nil {
		return nil, fmt.Errorf("make key file: %w", err)
	}
	return k, nil
}
