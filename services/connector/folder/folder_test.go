package folder_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/connectortest"
	"github.com/hookmesh/hookmesh/services/connector/folder"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

func harness(t *testing.T) *connectortest.Harness {
	dir := t.TempDir()
	n := 0
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	return &connectortest.Harness{
		Open: func(t testing.TB) connector.Connector {
			c, err := folder.New(config.Connector{Type: "folder", Scope: []string{dir}})
			if err != nil {
				t.Fatal(err)
			}
			return c
		},
		Create: func(title, text string) string {
			n++
			id := fmt.Sprintf("d%d/page-%04d.md", n%3, n)
			must(os.MkdirAll(filepath.Join(dir, filepath.Dir(id)), 0o755))
			must(os.WriteFile(filepath.Join(dir, id), []byte("# "+title+"\n\n"+text), 0o600))
			return id
		},
		Update: func(id, text string) { must(os.WriteFile(filepath.Join(dir, id), []byte(text), 0o600)) },
		Delete: func(id string) { must(os.Remove(filepath.Join(dir, id))) },
		// Time passes by making everything that is there older.
		Advance: func(d time.Duration) {
			must(filepath.Walk(dir, func(p string, info os.FileInfo, err error) error {
				must(err)
				return os.Chtimes(p, info.ModTime().Add(-d), info.ModTime().Add(-d))
			}))
		},
		Many: 450, Missing: "d0/none.md", Untouched: true, // a directory into which something came counts with all that is in it
	}
}

func TestConformance(t *testing.T) { connectortest.Run(t, harness) }

func TestAFileThatWasMovedInIsListedAlthoughItIsOld(t *testing.T) {
	dir := t.TempDir()
	c, err := folder.New(config.Connector{Scope: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.Lister.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(t.TempDir(), "old.md")
	old := time.Now().Add(-1000 * time.Hour)
	if err := os.WriteFile(outside, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(outside, old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(outside, filepath.Join(dir, "old.md")); err != nil {
		t.Fatal(err)
	}
	p, err := c.Lister.List(t.Context(), first.Next)
	if err != nil || len(p.Changes) != 1 || p.Changes[0].DocumentID != "old.md" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestNothingOutsideTheFolderIsRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.Symlink("/etc/hostname", filepath.Join(dir, "link.md")); err != nil {
		t.Skip("links cannot be made here:", err)
	}
	c, err := folder.New(config.Connector{Scope: []string{dir}})
	if err != nil {
		t.Fatal(err)
	}
	if d, err := c.Fetcher.Fetch(t.Context(), connector.Ref{ID: "link.md"}); err == nil {
		t.Errorf("a link led outside: %q", d.Content)
	}
}

func TestWrongSettingsAreRefused(t *testing.T) {
	for _, cfg := range []config.Connector{{}, {Scope: []string{"a", "b"}}, {Scope: []string{"a"}, Options: map[string]string{"x": "y"}}, {Scope: []string{"a"}, Include: []string{"["}}} {
		if _, err := folder.New(cfg); err == nil || strings.TrimSpace(err.Error()) == "" {
			t.Errorf("%v was taken", cfg)
		}
	}
}
