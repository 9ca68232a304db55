package config

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

func tree(t *testing.T, raw string) Definition {
	t.Helper()
	var d Definition
	if err := json.Unmarshal([]byte(raw), &d); err != nil {
		t.Fatal(err)
	}
	return d
}

func TestADefinitionSaysEverythingThatAFileCan(t *testing.T) {
	d := tree(t, `{"preset":"github","content":{"fetch":"https://x.example/{document_id}","headers":{"Authorization":"Bearer $A ${B} canary"}},
		"poll":{"changes":"https://x.example/c?cursor={cursor}","interval":"2m"},"rate":{"per_second":3},"ordering":{"gap_timeout":"5s"}}`)
	src, err := ParseDefinition("docs", d)
	if err != nil {
		t.Fatal(err)
	}
	if src.Name != "docs" || src.Poll.Interval.Minutes() != 2 || src.Poll.Items != "changes" || src.Rate.PerSecond != 3 || src.Rate.Burst != 200 {
		t.Errorf("%+v", src.Poll)
	}
	if got := src.Content.Headers["Authorization"]; got != "Bearer $A ${B} canary" {
		t.Error("variables were filled in for somebody who may not read them")
	}
	written, err := Define(src)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseDefinition("docs", written)
	if err != nil || !reflect.DeepEqual(again, src) {
		t.Errorf("what was written out reads differently: %v", err)
	}
}

func TestEverythingWrongWithADefinitionIsToldAtOnceWithoutItsValues(t *testing.T) {
	_, err := ParseDefinition("docs", tree(t, `{"preste":"x","content":{"fetch":"ftp://canary@h/x","headers":"canary"},"rate":{"burst":"canary"}}`))
	if err == nil {
		t.Fatal("a wrong definition was taken")
	}
	for _, want := range []string{`unknown key "preste"`, "preset: is missing", "content.fetch: must begin", "content.headers: wants keys", "rate.burst: wants a whole number"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%s", want, err)
		}
	}
	if strings.Contains(err.Error(), "canary") || strings.Contains(err.Error(), "line ") {
		t.Error(err)
	}
	for _, raw := range []string{`{"name":"x","preset":"github"}`, `{"secrets":[],"preset":"github"}`, `{"preset":"github","content":{"headers":{"A":"[redacted]"}}}`} {
		if _, err := ParseDefinition("docs", tree(t, raw)); err == nil {
			t.Errorf("%s was taken", raw)
		}
	}
}

func TestARedactedDefinitionThatComesBackKeepsItsCredentials(t *testing.T) {
	old := tree(t, `{"preset":"github","content":{"fetch":"https://u:canary@x.example/{document_id}?api_key=canary&v=1","headers":{"A":"canary","B":"canary2"}},
		"connector":{"type":"x","credentials":{"token":"canary"}},"poll":{"changes":"https://x.example/c?cursor={cursor}&access_token=canary"}}`)
	shown := old.Redact()
	raw, err := json.Marshal(shown)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "canary") || !strings.Contains(string(raw), "x.example/{document_id}?api_key=[redacted]\\u0026v=1") || !strings.Contains(string(raw), "cursor={cursor}") {
		t.Errorf("shown: %s", raw)
	}
	if back := shown.Keep(old); !reflect.DeepEqual(back, old) {
		t.Errorf("got %v", back)
	}
	shown["preset"] = "slack"
	shown["content"].(map[string]any)["headers"].(map[string]any)["A"] = "new"
	back := shown.Keep(old)
	headers := back["content"].(map[string]any)["headers"].(map[string]any)
	if back["preset"] != "slack" || headers["A"] != "new" || headers["B"] != "canary2" {
		t.Errorf("got %v", headers)
	}
}
