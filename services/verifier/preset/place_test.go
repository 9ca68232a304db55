package preset

import (
	"encoding/json"
	"testing"
)

func TestCredentialsFindTheirPlaceInURLAndBody(t *testing.T) {
	for _, tt := range []struct{ url, want string }{
		{"https://x/y", "https://x/y?token=a+%26b"},
		{"https://x/y?a=1&token=old&b=%zz", "https://x/y?a=1&b=%zz&token=a+%26b"},
	} {
		if got := withParameter(tt.url, "token", "a &b"); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.url, got, tt.want)
		}
	}
	for _, tt := range []struct {
		body, path string
		value      any
		want       string
	}{
		{`{"b":12345678901234567890,"a":"<"}`, "body.secret", "s", `{"a":"<","b":12345678901234567890,"secret":"s"}`},
		{`{"a":{"b":"x"}}`, "a.c", "s", `{"a":{"b":"x","c":"s"}}`},
		{`{}`, "a.b", "s", `{"a":{"b":"s"}}`},
		{`{"at":"1"}`, "at", json.Number("2"), `{"at":"2"}`},
		{`{"at":1}`, "at", json.Number("2"), `{"at":2}`},
		{`{"a":1}`, "a.b", "s", ""},
		{`[1]`, "a", "s", ""},
		{`no JSON`, "a", "s", ""},
		{`{}`, `body["a"]`, "s", ""},
	} {
		got, err := withField([]byte(tt.body), tt.path, tt.value)
		if string(got) != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s of %s: %s, %v, want %s", tt.path, tt.body, got, err, tt.want)
		}
	}
	for body, want := range map[string]string{
		`{"value":[{"id":1},{"id":2,"clientState":"old"}]}`: `{"value":[{"clientState":"s","id":1},{"clientState":"s","id":2}]}`,
		`{"value":{"id":1}}`: "", `{"value":[1]}`: "", `{}`: "",
	} {
		if got, err := eachIn([]byte(body), "body.value", "clientState", "s"); string(got) != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v, want %s", body, got, err, want)
		}
	}
}
