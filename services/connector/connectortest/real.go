//go:build servers

package connectortest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier"
)

// Setting is what scripts/servers.sh says of the server that it has started.
func Setting(t testing.TB, name string) string {
	v := os.Getenv(name)
	if v == "" {
		t.Fatalf("%s is not set: run this with `make test-servers`", name)
	}
	return v
}

// Real is the API of a real server, through which a test writes.
type Real struct {
	T         testing.TB
	URL       string
	Authorize func(*http.Request)
}

// Call sends a request, with body as JSON unless that is nil, fails the test unless the answer is a success, and reads the answer into into, if that is not nil.
func (r Real) Call(method, path string, body, into any) {
	r.T.Helper()
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			r.T.Fatal(err)
		}
	}
	req, err := http.NewRequestWithContext(r.T.Context(), method, r.URL+path, bytes.NewReader(raw))
	if err != nil {
		r.T.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	r.Authorize(req)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.T.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		r.T.Fatalf("%s %s: %s %v: %.500s", method, path, res.Status, err, answer)
	}
	if into != nil {
		if err := json.Unmarshal(answer, into); err != nil {
			r.T.Fatalf("%s %s: %v: %.500s", method, path, err, answer)
		}
	}
}

// Hooks receives the webhooks of a real server, and has them judged by the verifier's code.
type Hooks struct {
	*httptest.Server
	source config.Source
	came   chan *verifierv1.VerifyRequest
}

// NewHooks listens on 127.0.0.1 until the test ends.
func NewHooks(t testing.TB, preset, secret string) *Hooks {
	h := &Hooks{source: config.Source{Name: "real", Preset: preset, Secrets: []config.Secret{{Value: secret}}}, came: make(chan *verifierv1.VerifyRequest, 1000)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		req := &verifierv1.VerifyRequest{Method: r.Method, Url: h.URL + r.URL.RequestURI(), Body: body}
		for k, values := range r.Header {
			for _, v := range values {
				req.Headers = append(req.Headers, &eventv1.Header{Name: k, Value: []byte(v)})
			}
		}
		h.came <- req
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(h.Close)
	return h
}

// Expect waits for a webhook that is authentic and says that the document has come to be in this state.
func (h *Hooks) Expect(t testing.TB, id, action string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	var seen []string
	for {
		select {
		case req := <-h.came:
			e, err := verifier.Explain(h.source, req, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if e.Verdict != "accepted" && e.Verdict != "ignored" {
				t.Fatalf("a real webhook is %s (%s: %s): %v\n%s", e.Verdict, e.Code, e.Reason, req.GetHeaders(), req.GetBody())
			}
			forged := req
			forged.Body = append(bytes.Clone(req.GetBody()), ' ')
			if f, err := verifier.Explain(h.source, forged, time.Now()); err != nil || f.Verdict != "rejected" {
				t.Fatalf("a webhook whose body was altered is %s, %v", f.Verdict, err)
			}
			if e.Reason != "" {
				seen = append(seen, e.Reason)
			}
			for _, ev := range e.Events {
				if ev.DocumentID == id && ev.Action == action {
					return
				}
				seen = append(seen, ev.Action+" "+ev.DocumentID)
			}
		case <-deadline:
			t.Fatalf("no webhook says %s of %s; those that came said %q", action, id, seen)
		}
	}
}

// Later returns a cursor that begins now, without the overlap that keeps late changes from being missed, so that a test sees what a
// list leaves out. Real servers tell times by the second, so it waits until the present second is over.
func Later(t testing.TB, c connector.Connector) string {
	t.Helper()
	var w connector.Walk
	cursor := ""
	for more := true; more; {
		p, err := c.Lister.List(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		cursor, more = p.Next, p.More
	}
	if err := json.Unmarshal([]byte(cursor), &w); err != nil {
		t.Fatal(err)
	}
	w.Since = time.Now().UTC().Truncate(time.Second).Add(2 * time.Second)
	time.Sleep(time.Until(w.Since.Add(100 * time.Millisecond)))
	return w.Cursor()
}

// Walk lists from a cursor to the end, and returns the ids of what it found.
func Walk(t testing.TB, c connector.Connector, cursor string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for more := true; more; {
		p, err := c.Lister.List(t.Context(), cursor)
		if err != nil {
			t.Fatal(err)
		}
		for _, ch := range p.Changes {
			found[ch.DocumentID] = true
		}
		cursor, more = p.Next, p.More
	}
	return found
}
