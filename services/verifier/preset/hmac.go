package preset

import (
	"crypto/sha1" //nolint:gosec // the legacy scheme of Intercom, Twilio and others; HMAC-SHA1 is still unbroken
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding"
	"fmt"
	"hash"
	"sync"
)

// digester is a hash function whose state can be written down and read back, as those of the standard library can.
type digester interface {
	hash.Hash
	encoding.BinaryAppender
	encoding.BinaryUnmarshaler
}

// hashFunction is one hash function with a pool of its running states.
type hashFunction struct {
	new  func() hash.Hash
	pool sync.Pool
}

// running is a hash in use, with room for its first result.
type running struct {
	digester
	inner [sha512.Size]byte
}

func newHashFunction(f func() hash.Hash) *hashFunction {
	h := &hashFunction{new: f}
	h.pool.New = func() any {
		d, _ := f().(digester)
		return &running{digester: d}
	}
	return h
}

// hashFunctions are shared by all presets: their pools hold no keys.
type hashFunctions map[string]*hashFunction

var hashes = sync.OnceValue(func() hashFunctions {
	return hashFunctions{
		"sha1": newHashFunction(sha1.New), "sha256": newHashFunction(sha256.New),
		"sha384": newHashFunction(sha512.New384), "sha512": newHashFunction(sha512.New),
	}
})

// maxState is how long the longest written state of a hash function is, that of SHA-512.
const maxState = 204

// hmacKey is a key of HMAC (RFC 2104) with its two pads already hashed: what is left to do for a message is the message. The
// states lie in the key itself: with many sources most keys are not in the processor's cache, and each pointer would be a wait.
type hmacKey struct {
	// function is nil if there is no key.
	function     *hashFunction
	inner, outer int // lengths of the two states
	states       [2 * maxState]byte
}

func (k *hmacKey) defined() bool { return k.function != nil }

func newHMACKey(f *hashFunction, key []byte) (k hmacKey, err error) {
	h := f.new()
	block := make([]byte, h.BlockSize())
	if len(key) > len(block) {
		h.Write(key)
		key = h.Sum(nil)
	}
	state := func(pad byte, out []byte) (int, error) {
		copy(block, key)
		for i := range block {
			b := byte(0)
			if i < len(key) {
				b = key[i]
			}
			block[i] = b ^ pad
		}
		d, _ := f.new().(digester)
		d.Write(block)
		written, err := d.AppendBinary(out[:0])
		if len(written) > len(out) {
			return 0, fmt.Errorf("a hash state has %d bytes, at most %d are expected", len(written), len(out))
		}
		return len(written), err
	}
	if k.inner, err = state(0x36, k.states[:maxState]); err != nil {
		return hmacKey{}, err
	}
	if k.outer, err = state(0x5c, k.states[k.inner:]); err != nil {
		return hmacKey{}, err
	}
	clear(block)
	k.function = f
	return k, nil
}

// sum appends the MAC of a message.
func (k *hmacKey) sum(out, message []byte) []byte {
	r, _ := k.function.pool.Get().(*running)
	defer k.function.pool.Put(r)
	_ = r.UnmarshalBinary(k.states[:k.inner]) // a state that the same function wrote is always read
	_, _ = r.Write(message)
	inner := r.Sum(r.inner[:0])
	_ = r.UnmarshalBinary(k.states[k.inner : k.inner+k.outer])
	_, _ = r.Write(inner)
	return r.Sum(out)
}

// sum appends the plain hash of a message.
func (f *hashFunction) sum(out, message []byte) []byte {
	r, _ := f.pool.Get().(*running)
	defer f.pool.Put(r)
	r.Reset()
	_, _ = r.Write(message)
	return r.Sum(out)
}

// same compares two proofs in constant time.
func same(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// sameText compares tokens without telling their length or content by the time it takes.
func sameText(a, b []byte) bool {
	ha, hb := sha256.Sum256(a), sha256.Sum256(b)
	return same(ha[:], hb[:])
}
