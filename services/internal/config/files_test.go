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
		if _, err := Parse(file, raw, env("DOCS_SECRET", "x", "HOSTNAME", "c0ffee", "HOOKMESH_DSN", "postgres://h@127.0.0.1/h", "HOOKMESH_KEY", "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")); err != nil {
			t.Error(err)
		}
	}
}
