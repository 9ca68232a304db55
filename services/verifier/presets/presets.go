// Package presets holds the providers that hookmesh knows, as data, and those that a user adds in a folder.
package presets

import (
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

//go:embed *.yaml
var files embed.FS

// builtin are the presets that hookmesh brings, read once: they never change.
var builtin = sync.OnceValues(func() (map[string]*preset.Preset, error) {
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
})

// Set is a collection of presets. Each is compiled once for all sources that use it in the same way.
type Set struct {
	byName   map[string]*preset.Preset
	own      map[string]string // the user's own, with their files
	mu       sync.Mutex
	compiled map[string]*preset.Compiled
}

// Load returns the presets that hookmesh brings and those in a folder; folder may be empty. All that is wrong in the folder is
// reported at once. A preset in the folder may not have the name of one that hookmesh brings.
func Load(folder string) (*Set, error) {
	known, err := builtin()
	if err != nil {
		return nil, err
	}
	s := &Set{byName: maps.Clone(known), own: map[string]string{}, compiled: map[string]*preset.Compiled{}}
	if folder == "" {
		return s, nil
	}
	var found []string
	var errs []error
	for _, pattern := range []string{"*.yaml", "*.yml"} {
		names, err := filepath.Glob(filepath.Join(folder, pattern))
		errs = append(errs, err)
		found = append(found, names...)
	}
	if _, err := os.Stat(folder); err != nil {
		return nil, fmt.Errorf("the folder of presets cannot be read: %w", err)
	}
	for _, name := range found {
		if strings.HasSuffix(name, ".vectors.yaml") || strings.HasSuffix(name, ".vectors.yml") {
			continue
		}
		errs = append(errs, s.add(name))
	}
	return s, errors.Join(errs...)
}

func (s *Set) add(name string) error {
	raw, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("read preset: %w", err)
	}
	p, err := preset.Parse(raw)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if s.byName[p.Name] != nil {
		return fmt.Errorf("%s: there is already a preset %q; call it something else", name, p.Name)
	}
	if _, err := p.Ready(nil, preset.Overrides{}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	s.byName[p.Name], s.own[p.Name] = p, name
	return nil
}

// Names lists the presets, sorted.
func (s *Set) Names() []string { return slices.Sorted(maps.Keys(s.byName)) }

// Own says whether a preset comes from the user's folder.
func (s *Set) Own(name string) bool { return s.own[name] != "" }

// Source is the text of a preset.
func (s *Set) Source(name string) ([]byte, error) {
	if _, err := s.Get(name); err != nil {
		return nil, err
	}
	if file := s.own[name]; file != "" {
		return os.ReadFile(file)
	}
	return files.ReadFile(name + ".yaml")
}

// Get finds a preset.
func (s *Set) Get(name string) (*preset.Preset, error) {
	if p, ok := s.byName[name]; ok {
		return p, nil
	}
	return nil, fmt.Errorf("there is no preset %q; there are %s", name, strings.Join(s.Names(), ", "))
}

// Compile returns a preset with the settings and overrides of a source, ready to judge. Sources that say the same share it.
func (s *Set) Compile(name string, settings map[string]string, o preset.Overrides) (*preset.Compiled, error) {
	p, err := s.Get(name)
	if err != nil {
		return nil, err
	}
	key, err := json.Marshal([]any{name, settings, o})
	if err != nil {
		return nil, fmt.Errorf("compile preset %s: %w", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.compiled[string(key)]; ok {
		return c, nil
	}
	c, err := p.Ready(settings, o)
	if err != nil {
		return nil, err
	}
	s.compiled[string(key)] = c
	return c, nil
}

// With returns a set that holds one preset alone, which may have any name.
func With(p *preset.Preset) (*Set, error) {
	if _, err := p.Ready(nil, preset.Overrides{}); err != nil {
		return nil, err
	}
	return &Set{byName: map[string]*preset.Preset{p.Name: p}, own: map[string]string{}, compiled: map[string]*preset.Compiled{}}, nil
}
