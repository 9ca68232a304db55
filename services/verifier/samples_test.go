package verifier

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/verifier/preset"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

var update = flag.Bool("update", false, "write the golden files anew; look at what changed before you commit it")

// told says in a few lines what a preset makes of an authentic request.
func told(t *testing.T, set *presets.Set, name, method, target string, headers map[string]string, body []byte, secrets ...preset.Secret) string {
	t.Helper()
	c, err := set.Compile(name, nil, preset.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	r := &preset.Request{}
	defer r.Free()
	req := verifyRequest(method, target, headers, body)
	r.Reset(c, method, target, req.GetHeaders(), body)
	if g := c.Handshake(r, c.Prepare(secrets), true, time.Now()); g != nil {
		if g.Response == nil {
			return "ignored: " + g.Ignored
		}
		return fmt.Sprintf("handshake: %d %s%s", g.Response.Status, g.Response.Body, map[bool]string{true: " (a secret is kept)"}[g.Captured != ""])
	}
	var out []string
	m := &preset.Meaning{}
	if trouble := r.Decode(); trouble != nil {
		return "quarantined: " + trouble.Code
	}
	c.Understand(r, preset.Proof{Assurance: "body"}, m)
	for _, ev := range m.Events {
		line := ev.Action + " " + ev.DocumentID
		add := func(name, value string) {
			if value != "" {
				line += " " + name + "=" + value
			}
		}
		add("in", strings.Join(ev.Containers, ","))
		add("key", ev.IdempotencyKey)
		if ev.Hashed {
			add("key", "(content)")
		}
		if ev.Sequenced {
			add(ev.Ordering, fmt.Sprint(ev.Sequence))
		}
		add("version", ev.Version)
		if !ev.OccurredAt.IsZero() {
			add("at", ev.OccurredAt.Format(time.RFC3339Nano))
		}
		add("title", ev.Title)
		add("url", ev.URL)
		if ev.Inline {
			add("inline", fmt.Sprintf("%.20q", ev.Text))
		}
		out = append(out, line)
	}
	for _, d := range m.Debts {
		out = append(out, map[bool]string{true: "resync", false: "pull changes"}[d.Resync])
	}
	for _, trouble := range m.Troubles {
		out = append(out, "quarantined: "+trouble.Code+": "+trouble.Reason)
	}
	if m.Ignored != "" {
		out = append(out, "ignored: "+m.Ignored)
	}
	return strings.Join(out, "\n  ")
}

// golden compares with a reviewed file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wants, gots := strings.Split(string(want), "\n"), strings.Split(got, "\n")
	for i := range max(len(wants), len(gots)) {
		a, b := "", ""
		if i < len(wants) {
			a = wants[i]
		}
		if i < len(gots) {
			b = gots[i]
		}
		if a != b {
			t.Fatalf("%s, line %d:\n got %s\nwant %s\n(-update writes it anew)", path, i+1, b, a)
		}
	}
}

// samplePresets are the samples whose names do not begin with their presets'.
var samplePresets = map[string]string{"graph": "microsoft-graph", "meta": "meta-whatsapp", "whatsapp": "meta-whatsapp"}

func presetOfSample(set *presets.Set, name string) string {
	for prefix, p := range samplePresets {
		if strings.HasPrefix(name, prefix+"-") {
			return p
		}
	}
	best := ""
	for _, p := range set.Names() {
		if (name == p || strings.HasPrefix(name, p+"-")) && len(p) > len(best) {
			best = p
		}
	}
	return best
}

// TestEverySampleIsUnderstoodAsReviewed takes every payload of the collection through its preset.
func TestEverySampleIsUnderstoodAsReviewed(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(sharedFolder(t), "samples", "*.json"))
	if err != nil || len(files) == 0 {
		t.Skip("NOT TESTED: the collection of samples is not beside this checkout")
	}
	slices.Sort(files)
	set := builtinPresets(t)
	var out strings.Builder
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Name, Method, URL string
			Headers           map[string]string
			Body              json.RawMessage
		}
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		name := presetOfSample(set, s.Name)
		if name == "" {
			t.Errorf("%s: no preset is named like it", s.Name)
			continue
		}
		var secrets []preset.Secret
		for _, secret := range handshakeSources[s.Name].Secrets {
			secrets = append(secrets, preset.Secret{Value: secret.Value, Kind: secret.Kind})
		}
		fmt.Fprintf(&out, "%s (%s)\n  %s\n", s.Name, name, told(t, set, name, s.Method, s.URL, s.Headers, raw(t, s.Body), secrets...))
	}
	golden(t, "samples.golden", out.String())
}

// TestEveryEventKindIsUnderstoodAsReviewed does the same for payloads of our own: every kind of event of GitHub, Confluence and
// Slack, and what the other presets are for.
func TestEveryEventKindIsUnderstoodAsReviewed(t *testing.T) {
	cases, err := os.ReadFile("testdata/events.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	set := builtinPresets(t)
	var out strings.Builder
	jsonLines(t, cases, func(c struct {
		Name, Preset, Method, URL string
		Headers                   map[string]string
		Body                      json.RawMessage
	}) {
		if c.Method == "" {
			c.Method = "POST"
		}
		if c.URL == "" {
			c.URL = "/x"
		}
		fmt.Fprintf(&out, "%s\n  %s\n", c.Name, told(t, set, c.Preset, c.Method, c.URL, c.Headers, raw(t, c.Body)))
	})
	golden(t, "events.golden", out.String())
}
