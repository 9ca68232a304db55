package preset

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the legacy scheme of Intercom, Twilio and others; HMAC-SHA1 is still unbroken
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"encoding"
	"errors"
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
	// block is what it writes down after one block, whose chaining value lies at head:tail. The rest is the same for every block.
	block      []byte
	head, tail int
	broken     error
}

// running is a hash in use, with room for its first result and for a state to begin from.
type running struct {
	digester
	inner [sha512.Size]byte
	state []byte
}

// magic is how long the name of a hash function is in a written state, counter the length of what it has hashed.
const (
	magic   = 4
	counter = 8
)

func newHashFunction(f func() hash.Hash) *hashFunction {
	h := &hashFunction{new: f}
	d, _ := f().(digester)
	_, _ = d.Write(make([]byte, d.BlockSize()))
	h.block, h.broken = d.AppendBinary(nil)
	h.head, h.tail = magic, len(h.block)-d.BlockSize()-counter
	if n := h.tail - h.head; h.broken == nil && (n <= 0 || n > maxChain) {
		h.broken = fmt.Errorf("a hash state has %d bytes, at most %d are expected", n, maxChain)
	}
	h.pool.New = func() any {
		d, _ := f().(digester)
		return &running{digester: d, state: bytes.Clone(h.block)}
	}
	return h
}

// after returns what is particular to a state after one block.
func (h *hashFunction) after(block, out []byte) error {
	if h.broken != nil {
		return h.broken
	}
	d, _ := h.new().(digester)
	_, _ = d.Write(block)
	state, err := d.AppendBinary(nil)
	if err != nil {
		return err
	}
	if len(state) != len(h.block) || !bytes.Equal(state[:h.head], h.block[:h.head]) || !bytes.Equal(state[h.tail:], h.block[h.tail:]) {
		return errors.New("a hash state is not made as it is expected to be")
	}
	copy(out, state[h.head:h.tail])
	return nil
}

// begin puts a hash behind a block of which after told what is particular.
func (h *hashFunction) begin(r *running, chain []byte) {
	copy(r.state[h.head:h.tail], chain)
	_ = r.UnmarshalBinary(r.state) // a state that the same function wrote is always read
}

// hashFunctions are shared by all presets: their pools hold no keys.
type hashFunctions map[string]*hashFunction

var hashes = sync.OnceValue(func() hashFunctions {
	return hashFunctions{
		"sha1": newHashFunction(sha1.New), "sha256": newHashFunction(sha256.New),
		"sha384": newHashFunction(sha512.New384), "sha512": newHashFunction(sha512.New),
	}
})

// maxChain is how long the longest chaining value is, that of SHA-512.
const maxChain = 64

// hmacKey is a key of HMAC (RFC 2104) with its two pads already hashed: what is left to do for a message is the message. Of
// the states only the chaining values are kept, in the key itself: with many sources most keys are not in the processor's nearest
// cache, and each line of it, and each pointer, would be a wait.
type hmacKey struct {
	// function is nil if there is no key.
	function *hashFunction
	// chains are the inner and, right behind it, the outer chaining value.
	chains [2 * maxChain]byte
}

func (k *hmacKey) defined() bool { return k.function != nil }

func newHMACKey(f *hashFunction, key []byte) (k hmacKey, err error) {
	h := f.new()
	block := make([]byte, h.BlockSize())
	if len(key) > len(block) {
		h.Write(key)
		key = h.Sum(nil)
	}
	for i, pad := range []byte{0x36, 0x5c} {
		copy(block, key)
		clear(block[len(key):])
		for j := range block {
			block[j] ^= pad
		}
		if err := f.after(block, k.chains[i*(f.tail-f.head):]); err != nil {
			return hmacKey{}, err
		}
	}
	clear(block)
	k.function = f
	return k, nil
}

// sum appends the MAC of a message.
func (k *hmacKey) sum(out, message []byte) []byte {
	f := k.function
	r, _ := f.pool.Get().(*running)
	defer f.pool.Put(r)
	n := f.tail - f.head
	f.begin(r, k.chains[:n])
	_, _ = r.Write(message)
	inner := r.Sum(r.inner[:0])
	f.begin(r, k.chains[n:2*n])
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
