package sqlite_test

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

func TestSeveralInstancesMayMigrateADatabaseAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	migrations := []string{"CREATE TABLE a (x)", "CREATE TABLE b (x)", "ALTER TABLE a ADD COLUMN y", "CREATE TABLE c (x)"}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			db, err := sqlite.Open(t.Context(), path, sqlite.Options{Migrations: migrations})
			if err != nil {
				t.Error(err)
				return
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
