// Package openai is an embedding model behind any endpoint that speaks OpenAI's POST /embeddings.
package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hookmesh/hookmesh/services/embedder/embedding"
)

// Config says which endpoint and model.
type Config struct {
	// BaseURL is what /embeddings is appended to.
	BaseURL string
	Model   string
	// Dimensions is asked for if not 0; the answer must have it.
	Dimensions int
	// APIKey is sent as a bearer token if not empty. It appears in no error.
	APIKey string
	// Batch bounds the texts of one request; 0: 128.
	Batch int
	// Client does the requests; nil: one with a timeout of 60 s.
	Client *http.Client
}

// Model is the client. Safe for concurrent use.
type Model struct {
	cfg  Config
	dims atomic.Int64
}

// New returns a client; it does not connect yet.
func New(cfg Config) *Model {
	if cfg.Batch == 0 {
		cfg.Batch = 128
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{Timeout: 60 * time.Second}
	}
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	m := &Model{cfg: cfg}
	m.dims.Store(int64(cfg.Dimensions))
	return m
}

// Info implements embedding.Model.
func (m *Model) Info() embedding.Info {
	return embedding.Info{
		Name: m.cfg.Model, Dimensions: int(m.dims.Load()), Languages: "as the endpoint's model",
		Fingerprint: fmt.Sprintf("%s|%s|%d", m.cfg.BaseURL, m.cfg.Model, m.cfg.Dimensions),
	}
}

// Embed implements embedding.Model.
func (m *Model) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	out := make([][]float32, 0, len(texts))
	for len(texts) > 0 {
		n := min(m.cfg.Batch, len(texts))
		vectors, err := m.request(ctx, texts[:n])
		if err != nil {
			return nil, err
		}
		out, texts = append(out, vectors...), texts[n:]
	}
	return out, nil
}

type request struct {
	Model          string   `json:"model"`
	Input          []string `json:"input"`
	Dimensions     int      `json:"dimensions,omitempty"`
	EncodingFormat string   `json:"encoding_format"`
}

type response struct {
	Data []struct {
		Index     int       `json:"index"`
		Embedding []float32 `json:"embedding"`
	} `json:"data"`
}

func (m *Model) request(ctx context.Context, texts []string) ([][]float32, error) {
	body, err := json.Marshal(request{m.cfg.Model, texts, m.cfg.Dimensions, "float"})
	if err != nil {
		return nil, &embedding.Error{Permanent: true, Err: err}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.cfg.BaseURL+"/embeddings", bytes.NewReader(body))
	if err != nil {
		return nil, &embedding.Error{Permanent: true, Err: errors.New("the base URL is not a URL")}
	}
	req.Header.Set("Content-Type", "application/json")
	if m.cfg.APIKey != "" {
		req.Header.Set("Authorization", "Bearer "+m.cfg.APIKey)
	}
	res, err := m.cfg.Client.Do(req)
	if err != nil {
		return nil, &embedding.Error{Err: err}
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return nil, refused(res)
	}
	var answer response
	if err := json.NewDecoder(io.LimitReader(res.Body, 256<<20)).Decode(&answer); err != nil {
		return nil, &embedding.Error{Err: fmt.Errorf("read the answer: %w", err)}
	}
	return m.check(answer, len(texts))
}

// refused classifies an answer that is not 200.
func refused(res *http.Response) error {
	e := &embedding.Error{Err: fmt.Errorf("the endpoint answered HTTP %d", res.StatusCode)}
	switch code := res.StatusCode; {
	case code == http.StatusUnauthorized || code == http.StatusForbidden:
		e.Unauthorized = true
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500:
		if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
			e.RetryAfter = min(time.Duration(s)*time.Second, time.Hour)
		}
	default:
		e.Permanent = true
	}
	return e
}

// check wants one vector per text, in any order, all of one dimension, and scales them to length 1.
func (m *Model) check(answer response, want int) ([][]float32, error) {
	bad := func(format string, args ...any) error {
		return &embedding.Error{Err: fmt.Errorf("the endpoint's answer is wrong: "+format, args...)}
	}
	if len(answer.Data) != want {
		return nil, bad("%d vectors for %d texts", len(answer.Data), want)
	}
	out := make([][]float32, want)
	for _, d := range answer.Data {
		if d.Index < 0 || d.Index >= want || out[d.Index] != nil {
			return nil, bad("index %d is out of range or stands there twice", d.Index)
		}
		m.dims.CompareAndSwap(0, int64(len(d.Embedding)))
		if int64(len(d.Embedding)) != m.dims.Load() || len(d.Embedding) == 0 {
			return nil, bad("a vector has %d dimensions, want %d", len(d.Embedding), m.dims.Load())
		}
		out[d.Index] = normalise(d.Embedding)
	}
	return out, nil
}

func normalise(v []float32) []float32 {
	var sum float64
	for _, x := range v {
		sum += float64(x) * float64(x)
	}
	if sum == 0 {
		return v
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
	return v
}
