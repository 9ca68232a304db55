// Package static is the embedded default model: a table with one vector per word piece, averaged over a text (model2vec).
// It needs no network, no accelerator and no C, and gives the same vectors on every machine.
//
// The weights are potion-base-8M by the Minish Lab (MIT), quantised to 8 bits per number; weights/ORIGIN.md says how.
package static

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/hookmesh/hookmesh/services/embedder/embedding"
)

//go:embed weights/potion-base-8M.bin.gz
var weights []byte

// weightsSHA256 guards against weights that were damaged on their way into the binary.
const weightsSHA256 = "16820587940399a0af950e153ddf6060eaec918b5aaef44167e411dab52be2ca"

// Model is the model; make one with New and share it.
type Model struct {
	dims  int
	vocab map[string]int32
	scale []float32
	rows  []int8
}

// New reads the weights from the binary (about 0.1 s).
func New() (*Model, error) {
	if sum := sha256.Sum256(weights); hex.EncodeToString(sum[:]) != weightsSHA256 {
		return nil, errors.New("the embedded model's weights are damaged: build the binary again")
	}
	z, err := gzip.NewReader(bytes.NewReader(weights))
	if err != nil {
		return nil, fmt.Errorf("unpack the embedded model: %w", err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		return nil, fmt.Errorf("unpack the embedded model: %w", err)
	}
	return parse(raw)
}

// parse reads the layout that weights/convert.py writes.
func parse(raw []byte) (*Model, error) {
	const magic = "HMSTAT1\n"
	if len(raw) < 16 || string(raw[:8]) != magic {
		return nil, errors.New("embedded model: not the expected layout")
	}
	rows, dims := int(binary.LittleEndian.Uint32(raw[8:])), int(binary.LittleEndian.Uint32(raw[12:]))
	raw = raw[16:]
	m := &Model{dims: dims, vocab: make(map[string]int32, rows), scale: make([]float32, rows)}
	for i := range rows {
		if len(raw) < 2 {
			return nil, errors.New("embedded model: the vocabulary ends too early")
		}
		n := int(binary.LittleEndian.Uint16(raw))
		if len(raw) < 2+n {
			return nil, errors.New("embedded model: the vocabulary ends too early")
		}
		m.vocab[string(raw[2:2+n])] = int32(i)
		raw = raw[2+n:]
	}
	if len(raw) != rows*(4+dims) {
		return nil, fmt.Errorf("embedded model: %d bytes of weights, want %d", len(raw), rows*(4+dims))
	}
	for i := range m.scale {
		m.scale[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	quantised := raw[4*rows:]
	m.rows = make([]int8, len(quantised))
	for i, b := range quantised {
		m.rows[i] = int8(b)
	}
	return m, nil
}

// Info implements embedding.Model.
func (m *Model) Info() embedding.Info {
	return embedding.Info{
		Name: "potion-base-8M", Dimensions: m.dims, Fingerprint: "potion-base-8M-int8-" + weightsSHA256[:12],
		Languages: "English; other languages that share its word pieces work in part",
	}
}

// Embed implements embedding.Model. It never fails but for an ended context.
func (m *Model) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, len(texts))
	for i, text := range texts {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		out[i] = m.vector(text)
	}
	return out, nil
}

// vector averages the rows of a text's word pieces and scales the result to length 1. Pieces that the vocabulary does not
// know are left out, as in the original; a text without any known piece has the zero vector, which is like nothing.
func (m *Model) vector(text string) []float32 {
	v := make([]float32, m.dims)
	for _, id := range m.tokenize(text) {
		s := m.scale[id]
		for i, q := range m.rows[int(id)*m.dims : int(id+1)*m.dims] {
			v[i] += s * float32(q)
		}
	}
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return v
	}
	norm := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= norm
	}
	return v
}
