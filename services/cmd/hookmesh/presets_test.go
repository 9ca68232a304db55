package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const ownPreset = `name: mywiki
description: Our own wiki
confidence: verified
references: [https://wiki.example.com]
verify: [{algorithm: hmac-sha256, signature: {header: X-Wiki-Signature}, encoding: hex, message: "{body}"}]
events:
  - {when: has(body.page), document_id: [page.id], action: ['"upsert"']}
  - {ignore: no page}
`

// The signature is that of {"page":{"id":"home"}} with the secret s3cret.
const ownVectors = `- name: a saved page
  secrets: [{value: s3cret}]
  headers: {X-Wiki-Signature: 5b6d6d9f6a6d5a2a}
  body: '{"page":{"id":"home"}}'
  expect: {verdict: rejected, code: SIGNATURE_MISMATCH}
- name: unsigned
  secrets: [{value: s3cret}]
  body: '{}'
  expect: {verdict: accepted}
`

func TestOwnPresetsAreListedShownLintedAndTested(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "mywiki.yaml")
	bad := filepath.Join(dir, "bad", "bad.yaml")
	for name, text := range map[string]string{file: ownPreset, filepath.Join(dir, "mywiki.vectors.yaml"): ownVectors, bad: "name: bad\nverify: [{algorithm: token, signature: {body: pass}, assurance: body}]\nevents: [{ignore: x, when: a}]\n"} {
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct {
		args []string
		code int
		want []string
	}{
		{[]string{"presets", "list", "--presets-dir", dir}, 0, []string{"mywiki", "(your own)", "github", "unconfirmed"}},
		{[]string{"presets", "show", "mywiki", "--presets-dir", dir}, 0, []string{"description: Our own wiki"}},
		{[]string{"presets", "show", "github"}, 0, []string{"X-Hub-Signature-256"}},
		{[]string{"presets", "show", "nothing"}, 2, nil},
		{[]string{"presets", "lint", file}, 0, []string{"nothing is wrong"}},
		{[]string{"presets", "lint", bad}, 1, []string{"cannot be body", "redact.fields", "references are missing", "the last rule has a condition"}},
		{[]string{"presets", "test", file}, 1, []string{"ok   mywiki: a saved page", "FAIL mywiki: unsigned", "it is rejected (SIGNATURE_MISSING", "1 of 2 vectors"}},
		{[]string{"presets", "test", bad}, 2, nil},
		{[]string{"presets", "schema"}, 0, []string{`"$schema"`, `"hmac-sha256"`}},
	} {
		code, out, errs := command(t, tt.args...)
		if code != tt.code {
			t.Errorf("%v: exit %d, want %d: %s%s", tt.args, code, tt.code, out, errs)
		}
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v does not say %q:\n%s", tt.args, want, out)
			}
		}
	}
}
