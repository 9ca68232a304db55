package config

import (
	"os"
	"testing"
)

func TestTheConfigurationFilesInTheRepositoryAreRight(t *testing.T) {
	for _, file := range []string{"../../../docs/example.yaml", "../../../deploy/hookmesh.yaml"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(file, raw, env("DOCS_SECRET", "x")); err != nil {
			t.Error(err)
		}
	}
}
