package config

import (
	"fmt"

	"github.com/hookmesh/hookmesh/services/internal/seal"
)

// Verifier tunes verification and what is kept of the sources that were made at run time.
type Verifier struct {
	// Keys encrypt secrets and credentials at rest, the newest first: it encrypts, all decrypt, and what an older one encrypted is
	// encrypted anew at the start. None: a key is made in data_dir/secrets.key. Services that run apart need the same keys.
	Keys []Key `yaml:"keys"`
}

// Key is an encryption key: 32 bytes in base64 or hexadecimal.
type Key struct {
	// Value is the key, usually "${VARIABLE}". It is never logged.
	Value string `yaml:"value"`
	// File holds the key instead; only its owner may read it.
	File string `yaml:"file"`
}

// String hides the key from every log and error.
func (Key) String() string { return Redacted }

// GoString hides the key from %#v.
func (Key) GoString() string { return "config.Key{[redacted]}" }

func (c *checker) verifier(v Verifier) {
	for i, k := range v.Keys {
		path := fmt.Sprintf("verifier.keys[%d]", i)
		switch {
		case (k.Value == "") == (k.File == ""):
			c.report(path, "wants either value or file")
		case k.Value != "":
			if _, err := seal.ParseKey(k.Value); err != nil {
				c.report(path+".value", "%s", err)
			}
		}
	}
}
