package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func env(pairs ...string) func(string) (string, bool) {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(k string) (string, bool) { v, ok := m[k]; return v, ok }
}

const contract = `
http: {listen: 127.0.0.1:8080}
data_dir: ./data
kafka: {brokers: []}
store: {dsn: ""}
sources:
  - name: docs
    preset: github
    secrets: [{value: "${DOCS_SECRET}"}, {value: old, not_after: 2026-12-01T00:00:00Z}]
    public_url: https://hooks.example.com/webhooks/docs
    content: {inline: issue.body, title: issue.title, url: issue.html_url}
`

func TestTheDocumentedFileIsRead(t *testing.T) {
	cfg, err := Parse("f", []byte(contract), env("DOCS_SECRET", "s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	s := cfg.Sources[0]
	if s.Secrets[0].Value != "s3cret" || !s.Secrets[1].NotAfter.Equal(time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("secrets were read wrongly: not_after %s", s.Secrets[1].NotAfter)
	}
	if s.Content.Inline != "issue.body" || s.Rate.PerSecond != 100 || s.Rate.Burst != 200 || s.Dedupe.TTL != 48*time.Hour {
		t.Errorf("source was read wrongly: %+v", s.Content)
	}
	if cfg.Gateway.Durability != "spool" || cfg.Kafka.Partitions != 4 {
		t.Errorf("embedded defaults: durability %q, %d partitions", cfg.Gateway.Durability, cfg.Kafka.Partitions)
	}
}

func TestBrokersChangeTheDefaults(t *testing.T) {
	cfg, err := Parse("f", []byte("kafka: {brokers: [a:9092]}\n"), env())
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Gateway.Durability != "broker" || cfg.Kafka.Partitions != 32 || cfg.Kafka.ReplicationFactor != 3 {
		t.Errorf("got %+v %+v", cfg.Gateway, cfg.Kafka)
	}
}

func TestProblemsAreReportedAllAtOnceWithTheirLines(t *testing.T) {
	tests := []struct {
		name, file string
		want       []string
	}{
		{"unknown keys", "htpp: {}\nsources:\n  - name: a\n    preste: github\n", []string{`line 1: unknown key "htpp"`, `line 4: unknown key "preste"`}},
		{"unset variables", "data_dir: ${A}\nsources:\n  - name: a\n    preset: x\n    secrets:\n      - value: ${B}\n", []string{"line 1: data_dir: the environment variable A", "line 6: sources[0].secrets[0].value: the environment variable B"}},
		{"bad values", "http: {listen: nowhere}\nsources:\n  - name: Bad Name\n    preset: x\n  - name: a\n    preset: x\n    poll: {changes: 'ftp://x/'}\n    dedupe: {ttl: 1s}\n",
			[]string{`line 1: http.listen: "nowhere"`, `line 3: sources[0].name: "Bad Name"`, "line 7: sources[1].poll.changes: must begin", "line 7: sources[1].poll.changes: does not say", "line 8: sources[1].dedupe.ttl"}},
		{"wrong types", "kafka: {partitions: many}\nembedder: {workers: []}\n", []string{"line 1: kafka.partitions: wants a whole number", "line 2: embedder.workers: wants a whole number"}},
		{"everything at once", "http: {listen: '127.0.0.1:99999', lissen: x}\nkafka: {retention: soon}\nembedder: [1]\nsources:\n  - name: a\n    preset: x\n    secrets: [{value: v, not_after: never}, {value: '${B}'}]\n    content: {inline: 'issue.('}\n    ordering: {mode: wild}\n",
			[]string{`line 1: unknown key "lissen"`, `line 1: http.listen: "127.0.0.1:99999" is not`, "line 2: kafka.retention: wants a duration", "line 3: embedder: wants keys with values",
				"line 7: sources[0].secrets[0].not_after: wants a time", "line 7: sources[0].secrets[1].value: the environment variable B", "line 8: sources[0].content.inline: is not a CEL expression", `line 9: sources[0].ordering.mode: "wild"`}},
		{"a key that stands there twice", "data_dir: a\ndata_dir: b\n", []string{`line 2: the key "data_dir" stands there twice`}},
		{"an alias", "sources:\n  - &s {name: a, preset: x, rate: {burst: many}}\n  - *s\n", []string{"line 2: sources[0].rate.burst: wants a whole number", `sources[1].name: "a" stands there twice`}},
		{"the same name twice", "sources:\n  - {name: a, preset: x}\n  - {name: a, preset: x}\n", []string{`line 3: sources[1].name: "a" stands there twice`}},
		{"not YAML at all", "a: [\n", []string{"did not find expected"}},
		{"an unknown service", "services: {verifyer: 'h:1'}\n", []string{`"verifyer" is not one of`}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Parse("file.yaml", []byte(tt.file), env())
			var all *Error
			if !errors.As(err, &all) {
				t.Fatalf("got %v, want an *Error", err)
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in:\n%s", w, err)
				}
			}
		})
	}
}

func TestWhatWasNotReadIsNotComplainedAboutTwice(t *testing.T) {
	_, err := Parse("f", []byte("sources:\n  - name: a\n    preset: x\n    secrets: [{value: '${B}'}]\n    dedupe: {ttl: soon}\n"), env())
	var all *Error
	if !errors.As(err, &all) || len(all.Problems) != 2 {
		t.Errorf("want two problems, got %v", err)
	}
}

func TestAValueOfTheWrongKindIsNotRepeated(t *testing.T) {
	for _, file := range []string{
		"embedder: {workers: hunter2canary}\n", "embedder: hunter2canary\n", "sources: hunter2canary\n", "kafka: {retention: hunter2canary}\n", "kafka: {brokers: hunter2canary}\n",
		"sources: [{name: a, preset: p, secrets: [hunter2canary]}]\n", "sources: [{name: a, preset: p, secrets: [{value: [hunter2canary]}]}]\n", "sources: [{name: a, preset: p, secrets: [{value: a, not_after: hunter2canary}]}]\n",
	} {
		_, err := Parse("f", []byte(file), env())
		if err == nil || strings.Contains(err.Error(), "hunter2canary") {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestOtherChecksAreReportedWithTheRest(t *testing.T) {
	_, err := Parse("f", []byte("data_dir: \"\"\nsources:\n  - name: a\n    preset: y\n"), env(), func(cfg *Config, report func(string, string)) {
		report("sources[0].preset", "there is no preset "+cfg.Sources[0].Preset)
	})
	for _, want := range []string{"line 1: data_dir", "line 4: sources[0].preset: there is no preset y"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestVariablesKeepTheirType(t *testing.T) {
	cfg, err := Parse("f", []byte("embedder:\n  workers: ${N}\ndata_dir: a$$b\n"), env("N", "7"))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Embedder.Workers != 7 || cfg.DataDir != "a$b" {
		t.Errorf("got %d workers, data_dir %q", cfg.Embedder.Workers, cfg.DataDir)
	}
}

func TestSecretsAreNeverPrinted(t *testing.T) {
	cfg, err := Parse("f", []byte(contract), env("DOCS_SECRET", "hush-hush"))
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if out := fmt.Sprintf(verb, cfg.Sources); strings.Contains(out, "hush-hush") {
			t.Errorf("%s prints the secret", verb)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(contract))
	f.Add([]byte("sources: [{secrets: [{not_after: x}]}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		_, err := Parse("f", raw, env())
		var all *Error
		if err != nil && !errors.As(err, &all) {
			t.Fatalf("an error that is no *Error: %v", err)
		}
	})
}
