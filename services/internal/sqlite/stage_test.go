package sqlite_test

import (
	"context"
	"database/sql"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStageStore(t *testing.T) {
	stagetest.RunStore(t, func(t *testing.T) stagetest.StoreFixture[*sql.Tx] {
		return openStage(t, filepath.Join(t.TempDir(), "s.db"))
	})
}

func openStage(t *testing.T, path string) stagetest.StoreFixture[*sql.Tx] {
	db, err := sqlite.Open(t.Context(), path, sqlite.Options{Migrations: []string{sqlite.StageSchema, sqlite.StageBatchSchema, sqlite.StageMarkSchema, `CREATE TABLE names (name TEXT PRIMARY KEY)`}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return stagetest.StoreFixture[*sql.Tx]{
		Store: sqlite.NewStageStore(db, func(tx *sqlite.Tx) *sql.Tx { return tx.Tx }),
		Put: func(ctx context.Context, tx *sql.Tx, name string) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO names (name) VALUES (?)`, name)
			return err
		},
		Has: func(ctx context.Context, name string) (found bool, err error) {
			err = db.Read.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM names WHERE name = ?)`, name).Scan(&found)
			return found, err
		},
		Reopen: func(t *testing.T) stagetest.StoreFixture[*sql.Tx] {
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			return openStage(t, path)
		},
	}
}
