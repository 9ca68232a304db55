package verifier

import (
	"fmt"
	"iter"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

// Check yields what is wrong with a source's preset, settings and secrets, each under the name of the field: preset, settings or
// secrets[0].value. Fields that are empty are left to the configuration's own checks. No error holds a secret.
func Check(src config.Source) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		if src.Preset == "" {
			return
		}
		p, err := PresetIn(src.PresetsDir, src.Preset)
		if err != nil {
			yield("preset", err)
			return
		}
		with, err := p.With(src.Settings)
		if err != nil {
			yield("settings", err)
			return
		}
		compiled, err := with.Compile(preset.Overrides{})
		if err != nil { // a setting that is no expression, say
			yield("settings", err)
			return
		}
		for i, secret := range src.Secrets {
			if secret.Value == "" {
				continue
			}
			if err := compiled.CheckSecret(preset.Secret{Value: secret.Value, Kind: secret.Kind}); err != nil && !yield(fmt.Sprintf("secrets[%d].value", i), err) {
				return
			}
		}
	}
}
