package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/sqlitestore"
	"github.com/hookmesh/hookmesh/services/verifier/storetest"
)

func TestSQLiteKeepsSources(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() verifier.SourceStore {
		path := filepath.Join(t.TempDir(), "sources.db")
		return func() verifier.SourceStore {
			s, err := sqlitestore.Open(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
			return s
		}
	})
}
