package verifier

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v3"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

// Vector is a request with the outcome that it has to have: a test of a preset, in the file PRESET.vectors.yaml beside it.
type Vector struct {
	Name string `yaml:"name"`
	// Secrets, Settings, PublicURL and Unsigned are those of the source.
	Secrets   []config.Secret   `yaml:"secrets"`
	Settings  map[string]string `yaml:"settings"`
	PublicURL string            `yaml:"public_url"`
	Unsigned  bool              `yaml:"unsigned"`
	// Method, default POST, and the rest of the request. BodyBase64 is for bodies that are no text.
	Method     string            `yaml:"method"`
	URL        string            `yaml:"url"`
	Headers    map[string]string `yaml:"headers"`
	Body       string            `yaml:"body"`
	BodyBase64 string            `yaml:"body_base64"`
	// At is the Unix time to judge at; 0: the age is not looked at.
	At     int64  `yaml:"at"`
	Expect Expect `yaml:"expect"`
}

// Expect is what a vector has to become. What is empty is not looked at.
type Expect struct {
	Verdict string `yaml:"verdict"`
	Code    string `yaml:"code"`
	// Events are "ACTION DOCUMENT" each, in their order.
	Events []string `yaml:"events"`
	Status int      `yaml:"status"`
	Body   string   `yaml:"body"`
}

// VectorResult is what became of a vector.
type VectorResult struct {
	Name string
	// Problem is what is not as expected; empty: all is.
	Problem string
}

// TestVectors runs the vectors of a preset by exactly the verifier's code.
func TestVectors(set *presets.Set, name string, raw []byte) ([]VectorResult, error) {
	var vectors []Vector
	dec := yaml.NewDecoder(bytes.NewReader(raw))
	dec.KnownFields(true)
	if err := dec.Decode(&vectors); err != nil {
		return nil, fmt.Errorf("read the vectors: %w", err)
	}
	var out []VectorResult
	for i, v := range vectors {
		if v.Name == "" {
			v.Name = fmt.Sprintf("vector %d", i+1)
		}
		problem, err := v.run(set, name)
		if err != nil {
			problem = err.Error()
		}
		out = append(out, VectorResult{v.Name, problem})
	}
	return out, nil
}

func (v *Vector) run(set *presets.Set, name string) (problem string, err error) {
	src, err := compileSource(config.Source{Name: "test", Preset: name, Secrets: v.Secrets, Settings: v.Settings, PublicURL: v.PublicURL, Unsigned: v.Unsigned}, set)
	if err != nil {
		return "", err
	}
	req := &verifierv1.VerifyRequest{Method: v.Method, Url: v.URL, Body: []byte(v.Body)}
	if req.GetMethod() == "" {
		req.Method = "POST"
	}
	if v.BodyBase64 != "" {
		if req.Body, err = base64.StdEncoding.DecodeString(v.BodyBase64); err != nil {
			return "", fmt.Errorf("body_base64 is not base64")
		}
	}
	for k, value := range v.Headers {
		req.Headers = append(req.Headers, &eventv1.Header{Name: k, Value: []byte(value)})
	}
	got := explain(src.judge(req, time.Unix(v.At, 0), v.At == 0))
	return v.Expect.differs(got), nil
}

// differs says what is not as expected.
func (e *Expect) differs(got Explanation) string {
	var events []string
	for _, ev := range got.Events {
		events = append(events, ev.Action+" "+ev.DocumentID)
	}
	switch {
	case e.Verdict != "" && e.Verdict != got.Verdict, e.Code != "" && e.Code != got.Code:
		return fmt.Sprintf("it is %s (%s: %s), not %s %s", got.Verdict, got.Code, got.Reason, e.Verdict, e.Code)
	case e.Events != nil && !slices.Equal(e.Events, events):
		return fmt.Sprintf("its events are %q, not %q", events, e.Events)
	case e.Status != 0 && (got.Response == nil || got.Response.Status != e.Status):
		return fmt.Sprintf("the answer is %+v, not status %d", got.Response, e.Status)
	case e.Body != "" && (got.Response == nil || got.Response.Body != e.Body):
		return fmt.Sprintf("the answer is %+v, not %q", got.Response, e.Body)
	}
	return ""
}
