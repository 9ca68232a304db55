// Package presets holds the providers that hookmesh knows, as data.
package presets

import (
	"embed"
	"fmt"
	"maps"
	"slices"

	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

//go:embed *.yaml
var files embed.FS

// Load reads all presets, by name.
func Load() (map[string]*preset.Preset, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("list presets: %w", err)
	}
	all := map[string]*preset.Preset{}
	for _, e := range entries {
		raw, err := files.ReadFile(e.Name())
		if err != nil {
			return nil, fmt.Errorf("read preset %s: %w", e.Name(), err)
		}
		p, err := preset.Parse(raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if all[p.Name] != nil {
			return nil, fmt.Errorf("%s: there is already a preset %q", e.Name(), p.Name)
		}
		all[p.Name] = p
	}
	return all, nil
}

// Names lists the presets of a set, sorted.
func Names(all map[string]*preset.Preset) []string { return slices.Sorted(maps.Keys(all)) }
