package preset

import (
	"crypto/sha1" //nolint:gosec // the legacy scheme of Intercom, Twilio and others; HMAC-SHA1 is still unbroken
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding"
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

// hmacKey is a key of HMAC (RFC 2104) with its two pads already hashed: what is left to do for a message is the message.
type hmacKey struct {
	function     *hashFunction
	inner, outer []byte
}

func newHMACKey(f *hashFunction, key []byte) (*hmacKey, error) {
	h := f.new()
	block := make([]byte, h.BlockSize())
	if len(key) > len(block) {
		h.Write(key)
		key = h.Sum(nil)
	}
	state := func(pad byte) ([]byte, error) {
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
		return d.AppendBinary(nil)
	}
	inner, err := state(0x36)
	if err != nil {
		return nil, err
	}
	outer, err := state(0x5c)
	if err != nil {
		return nil, err
	}
	clear(block)
	return &hmacKey{f, inner, outer}, nil
}

// sum appends the MAC of a message.
func (k *hmacKey) sum(out, message []byte) []byte {
	r, _ := k.function.pool.Get().(*running)
	defer k.function.pool.Put(r)
	_ = r.UnmarshalBinary(k.inner) // a state that the same function wrote is always read
	_, _ = r.Write(message)
	inner := r.Sum(r.inner[:0])
	_ = r.UnmarshalBinary(k.outer)
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
