package verifier

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// FuzzJudge gives every preset whatever may come, signed or not: nothing panics, nothing unsigned is authentic, no answer tells
// the secret, and every event that comes out can be taken by the mesh.
func FuzzJudge(f *testing.F) {
	const secret = "fuzz-secret-0123456789abcdef"
	set := builtinPresets(f)
	names := set.Names()
	var sources []*source
	for _, name := range names {
		p, err := set.Get(name)
		if err != nil {
			f.Fatal(err)
		}
		v := p.Verify[0]
		pair := secretFor(v, 0)
		src, err := compileSource(config.Source{Name: "x", Preset: name, Secrets: []config.Secret{{Value: pair.verify, Kind: v.Key.Kind}}}, set)
		if err != nil {
			f.Fatal(name, err)
		}
		sources = append(sources, src)
	}
	unsigned, err := compileSource(config.Source{Name: "x", Preset: "github", Unsigned: true}, set)
	if err != nil {
		f.Fatal(err)
	}
	sources = append(sources, unsigned)
	for i := range names {
		f.Add(i, "POST", "/x?validationToken=1", "X-GitHub-Event: issues\nContent-Type: application/json", []byte(`{"action":"opened","issue":{"id":1}}`))
	}
	f.Add(len(names), "POST", "/x", "X-GitHub-Event: push", []byte(`{"ref":"refs/heads/main","repository":{"default_branch":"main","full_name":"o/r"},"commits":[{"id":"c","added":["a"],"modified":[],"removed":[]}]}`))
	f.Fuzz(func(t *testing.T, which int, method, target, headers string, body []byte) {
		if which < 0 {
			which = -(which + 1)
		}
		src := sources[which%len(sources)]
		req := &verifierv1.VerifyRequest{Source: "x", Method: method, Url: target, Body: bytes.Clone(body)}
		for line := range strings.Lines(headers) {
			if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
				req.Headers = append(req.Headers, &eventv1.Header{Name: name, Value: []byte(strings.TrimSpace(value))})
			}
		}
		res := src.judge(req, time.Unix(1790000000, 0), true)
		if src != unsigned && (res.GetVerdict() == verifierv1.Verdict_VERDICT_ACCEPTED || res.GetVerdict() == verifierv1.Verdict_VERDICT_QUARANTINED) {
			t.Fatalf("nothing was signed, and it is %v", res)
		}
		if !bytes.Equal(req.GetBody(), body) {
			t.Fatal("the body was changed")
		}
		if strings.Contains(res.String(), secret) {
			t.Fatal("the answer tells the secret")
		}
		for _, ev := range res.GetEvents() {
			if ev.GetDocumentId() == "" || len(ev.GetDocumentId()) > 2048 || ev.GetAction() == eventv1.Action_ACTION_UNSPECIFIED || ev.GetContent().GetInline() {
				t.Fatalf("an event that the mesh cannot take, or content that nobody vouches for: %v", ev)
			}
		}
		if r := res.GetResponse(); r != nil && (r.GetStatus() < 200 || r.GetStatus() > 499 || http.StatusText(int(r.GetStatus())) == "") {
			t.Fatalf("status %d", r.GetStatus())
		}
	})
}
