package config_test

import (
	"os"
	"strings"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/config"
)

func TestWhoIsLetInIsChecked(t *testing.T) {
	hash := "sha256:" + strings.Repeat("0a", 32)
	for name, tc := range map[string]struct{ access, want string }{
		"a key":                             {`{keys: [{name: ops, hash: "` + hash + `", scopes: [read, operate], not_after: 2027-01-01T00:00:00Z}]}`, ""},
		"a secret that can be guessed":      {`{service_key: hunter2}`, "less than 16 bytes"},
		"an issuer":                         {`{mode: required, oidc: {issuer: "https://id.example.com", audience: hookmesh}}`, ""},
		"a key in the place of its hash":    {`{keys: [{name: ops, hash: hmk_the-key-itself, scopes: [read]}]}`, "hookmesh keys new"},
		"a scope that there is not":         {`{keys: [{name: ops, hash: "` + hash + `", scopes: [root]}]}`, "no others"},
		"a key without scopes":              {`{keys: [{name: ops, hash: "` + hash + `"}]}`, "scopes: are missing"},
		"two keys of one name":              {`{keys: [{name: a, hash: "` + hash + `", scopes: [read]}, {name: a, hash: "` + hash + `", scopes: [read]}]}`, "a name of its own"},
		"an issuer without an audience":     {`{oidc: {issuer: "https://id.example.com"}}`, "audience: is missing"},
		"required, but nobody could":        {`{mode: required}`, "nobody could come in"},
		"open, but with keys":               {`{mode: open, keys: [{name: ops, hash: "` + hash + `", scopes: [read]}]}`, "mean nothing"},
		"a mode that nobody has thought of": {`{mode: maybe}`, "not one of"},
	} {
		_, err := config.Parse("f.yaml", []byte("access: "+tc.access), os.LookupEnv)
		if (tc.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: %v, want %q in it", name, err, tc.want)
		}
		if err != nil && strings.Contains(err.Error(), "the-key-itself") {
			t.Errorf("%s: a key is in the error: %v", name, err)
		}
	}
}
