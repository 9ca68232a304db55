package wiring

import (
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/config"
)

func TestSourcesMadeAtRunTimeAreTriedAsOftenAsTheConfigurationSays(t *testing.T) {
	cfg := config.Default()
	cfg.Embedder.Tries = 7
	m := &Mesh{cfg: cfg}
	var made []config.Source
	for name, d := range map[string]config.Definition{
		"silent": {"preset": "github"},
		"own":    {"preset": "github", "retry": map[string]any{"tries": 2}},
	} {
		src, err := config.ParseDefinition(name, d)
		if err != nil {
			t.Fatal(err)
		}
		made = append(made, src)
	}
	got := m.retries(made)
	if got["silent"].Tries != 7 || got["own"].Tries != 2 || got["silent"].First == 0 || got["silent"].Longest == 0 {
		t.Errorf("%+v", got)
	}
}
