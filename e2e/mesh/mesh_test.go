package mesh_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// start starts the mesh that the tests of this package drive, with more sources as a list in YAML: one `hookmesh up`, or, while TestSeparateProcesses
// runs, separate processes.
var start = mesh.Start

type change struct {
	DocumentID string `json:"document_id"`
	EventID    string `json:"event_id"`
	Action     string `json:"action"`
	Sequence   int64  `json:"sequence"`
	Title      string `json:"title"`
	Content    string `json:"content"`
}

type document struct {
	Document struct {
		State, Version, Title string
		Chunks                int
	}
	Chunks []struct{ Text string }
}

type answer struct {
	Status string
	Code   string
	Events []struct{ ID, DocumentID string }
}

func edit(doc string, version int64) change {
	return change{doc, fmt.Sprintf("%s-%d", doc, version), "updated", version, "Title of " + doc, fmt.Sprintf("The text of %s in version %d.", doc, version)}
}

func TestAWebhookBecomesASearchableAnswerUnderOneTrace(t *testing.T) {
	m := start(t, "")
	status, raw, err := m.Send(change{"9007199254740993", "e1", "created", 1, "VPN", "The tunnel stops with error E4711."})
	var ans answer
	if err != nil || status != http.StatusAccepted || json.Unmarshal(raw, &ans) != nil || ans.Status != "accepted" || len(ans.Events) != 1 || ans.Events[0].DocumentID != "9007199254740993" {
		t.Fatalf("%d %s %v", status, raw, err)
	}
	var story struct{ State, TraceID string }
	m.Until(10*time.Second, "the event is embedded", func() error {
		if err := m.GetJSON("/v1/events/"+ans.Events[0].ID, &story); err != nil {
			return err
		}
		if story.State != "embedded" {
			return fmt.Errorf("its state is %s", story.State)
		}
		return nil
	})
	var found struct {
		Results []struct{ DocumentID, Text string }
	}
	if err := m.GetJSON("/v1/search?query=E4711&limit=1", &found); err != nil || len(found.Results) != 1 || found.Results[0].DocumentID != "9007199254740993" {
		t.Errorf("%+v, %v", found, err)
	}
	if status, raw, _ := m.Send(change{"9007199254740993", "e1", "created", 1, "VPN", "The tunnel stops with error E4711."}); status != http.StatusOK || !strings.Contains(string(raw), "duplicate") {
		t.Errorf("a repeat: %d %s", status, raw)
	}
	var kept struct {
		Spans []struct{ TraceID, Name, ParentID, SpanID string }
	}
	m.Until(5*time.Second, "all hops are there", func() error {
		traces, err := m.Traces(story.TraceID)
		if err != nil {
			return err
		}
		names := map[string]bool{}
		for _, raw := range traces {
			if bytes.Contains(raw, []byte(mesh.Secret)) {
				t.Error("a span holds the source's secret")
			}
			if err := json.Unmarshal(raw, &kept); err != nil {
				return err
			}
			for _, s := range kept.Spans {
				names[s.Name] = true
				if s.TraceID != story.TraceID {
					return fmt.Errorf("span %s belongs to another trace", s.Name)
				}
			}
		}
		for _, want := range []string{"POST /webhooks/{source}", "verify", "hookmesh.verifier.v1.VerifierService/Verify", "send hookmesh.events.accepted", "process hookmesh.events.accepted",
			"send hookmesh.events.unique", "process hookmesh.events.unique", "send hookmesh.documents.changed", "process hookmesh.documents.changed", "embedder.process", "store"} {
			if !names[want] && !names[want+"Batch"] {
				return fmt.Errorf("no span %q among %v", want, names)
			}
		}
		return nil
	})
}

func TestBadInputGetsAClearAnswerAndLosesNothing(t *testing.T) {
	m := start(t, "")
	good := `{"document_id":"d","action":"updated","content":"c"}`
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = z.Write(make([]byte, 12<<20))
	_ = z.Close()
	tests := []struct {
		name, path, body, signature, encoding string
		status                                int
		want                                  string
	}{
		{"no signature", "docs", good, "", "", 403, "SIGNATURE_MISSING"},
		{"a wrong signature", "docs", good, "sha256=" + strings.Repeat("00", 32), "", 403, "SIGNATURE_MISMATCH"},
		{"a signature that is none", "docs", good, "sha256=zz", "", 403, "SIGNATURE_MALFORMED"},
		{"an unknown source", "nothing", good, "sign", "", 404, "problem"},
		{"a path out of the source", "..%2f..%2fetc", good, "sign", "", 404, "problem"},
		{"not JSON", "docs", "hello", "sign", "", 202, "quarantined"},
		{"truncated JSON", "docs", good[:20], "sign", "", 202, "quarantined"},
		{"an empty body", "docs", "", "sign", "", 202, "quarantined"},
		{"duplicate keys", "docs", `{"document_id":"a","document_id":"b"}`, "sign", "", 202, "quarantined"},
		{"invalid UTF-8", "docs", "{\"document_id\":\"\xff\"}", "sign", "", 202, "quarantined"},
		{"nested too deep", "docs", strings.Repeat("[", 5000) + strings.Repeat("]", 5000), "sign", "", 202, "quarantined"},
		{"an id of 10 KB", "docs", `{"document_id":"` + strings.Repeat("x", 10<<10) + `","content":"c"}`, "sign", "", 202, "quarantined"},
		{"no id", "docs", `{"content":"c"}`, "sign", "", 202, "quarantined"},
		{"too large", "docs", strings.Repeat("x", 11<<20), "sign", "", 413, "problem"},
		{"too large after gzip", "docs", zipped.String(), "sign", "gzip", 413, "problem"},
		{"an unknown encoding", "docs", good, "sign", "br", 415, "problem"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.HTTP+"/webhooks/"+tt.path, strings.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/json")
			if tt.encoding != "" {
				req.Header.Set("Content-Encoding", tt.encoding)
			}
			if tt.signature == "sign" {
				tt.signature = mesh.Sign([]byte(tt.body))
			}
			if tt.signature != "" {
				req.Header.Set("X-Signature", tt.signature)
			}
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Body.Close() }()
			var b bytes.Buffer
			_, _ = b.ReadFrom(res.Body)
			text := b.String() + res.Header.Get("Content-Type")
			if res.StatusCode != tt.status || !strings.Contains(text, tt.want) || strings.Contains(text, mesh.Secret) {
				t.Errorf("%d %s, want %d with %q", res.StatusCode, text, tt.status, tt.want)
			}
		})
	}
	m.Until(10*time.Second, "what could not be understood is among the dead letters", func() error {
		var letters struct{ DeadLetters []struct{ Code string } }
		if err := m.GetJSON("/v1/dead-letters", &letters); err != nil {
			return err
		}
		if len(letters.DeadLetters) != 8 {
			return fmt.Errorf("there are %d", len(letters.DeadLetters))
		}
		return nil
	})
	log, err := m.Log()
	if err != nil || strings.Contains(log, mesh.Secret) || strings.Contains(log, "panic") {
		t.Errorf("the log holds a secret or a panic (%v)", err)
	}
}

// The process is killed at random moments while webhooks flow. Whatever was answered with 202 or 200 is searchable in the
// end in its newest version, and no document is there that was not sent.
func TestKillingTheProcessLosesNothingAndRepeatsNothing(t *testing.T) {
	m := start(t, "")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const documents, senders, rounds = 40, 4, 5
	var mu sync.Mutex
	acked := map[string]int64{}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for s := range senders {
		wg.Go(func() {
			for version := int64(1); ; version++ {
				for d := s; d < documents; d += senders {
					select {
					case <-stop:
						return
					case <-time.After(2 * time.Millisecond):
					}
					doc := fmt.Sprintf("doc-%d", d)
					for { // a good sender repeats until it is answered
						status, _, err := m.Send(edit(doc, version))
						if err == nil && (status == http.StatusAccepted || status == http.StatusOK) {
							break
						}
						select {
						case <-stop:
							return
						case <-time.After(20 * time.Millisecond):
						}
					}
					mu.Lock()
					acked[doc] = version
					mu.Unlock()
				}
			}
		})
	}
	for range rounds {
		<-time.After(time.Duration(200+rng.IntN(900)) * time.Millisecond)
		m.Kill()
		m.Up()
	}
	close(stop)
	wg.Wait()
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	m.Until(60*time.Second, "every acknowledged version is searchable", func() error {
		for doc, version := range acked {
			var got document
			if err := m.GetJSON("/v1/documents/docs/"+doc+"?includeChunks=true", &got); err != nil {
				return err
			}
			var known int64
			_, _ = fmt.Sscan(got.Document.Version, &known)
			if got.Document.State != "DOCUMENT_STATE_CURRENT" || known < version || known > version+1 {
				return fmt.Errorf("%s is at version %s (%s), acknowledged was %d", doc, got.Document.Version, got.Document.State, version)
			}
			if want := fmt.Sprintf("The text of %s in version %d.", doc, known); len(got.Chunks) != 1 || got.Chunks[0].Text != want {
				return fmt.Errorf("%s holds %v, want %q", doc, got.Chunks, want)
			}
		}
		return nil
	})
	var list struct{ Documents []struct{ DocumentID string } }
	if err := m.GetJSON("/v1/documents?source=docs&pageSize=1000", &list); err != nil || len(list.Documents) > documents {
		t.Errorf("%d documents, %v", len(list.Documents), err)
	}
	total := int64(0)
	for _, v := range acked {
		total += v
	}
	t.Logf("%d kills, %d acknowledged webhooks", rounds, total)
}
