package config

import (
	"fmt"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/seal"
)

// Verifier tunes verification and what is kept of the sources that were made at run time.
type Verifier struct {
	// Keys encrypt secrets and credentials at rest, the newest first: it encrypts, all decrypt, and what an older one encrypted is
	// encrypted anew at the start. None: a key is made in data_dir/secrets.key. Services that run apart need the same keys.
	Keys []Key `yaml:"keys"`
	// MaxClockCorrection bounds what is added to our time when freshness is judged and most sources agree that our clock is wrong.
	// Default 15 min, at most 1 h; 0: nothing is added.
	MaxClockCorrection time.Duration `yaml:"max_clock_correction"`
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
	if v.MaxClockCorrection < 0 || v.MaxClockCorrection > time.Hour {
		c.report("verifier.max_clock_correction", "%s is not between 0 and 1h", v.MaxClockCorrection)
	}
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
