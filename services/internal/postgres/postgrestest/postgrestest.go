// Package postgrestest gives tests a real PostgreSQL: the one that HOOKMESH_TEST_POSTGRES names (scripts/postgres.sh starts one).
package postgrestest

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hookmesh/hookmesh/services/internal/postgres"
)

// Schema migrates a schema under a name of its own and returns the server's DSN with it. The schema is dropped after the test.
// Without a server the test is skipped; scripts/test.sh says so aloud.
func Schema(t testing.TB, schema postgres.Schema) (dsn string, own postgres.Schema) {
	t.Helper()
	dsn, own = Empty(t, schema)
	if _, _, err := postgres.Migrate(t.Context(), dsn, own); err != nil {
		t.Fatal(err)
	}
	return dsn, own
}

// Empty is Schema without the migration.
func Empty(t testing.TB, schema postgres.Schema) (dsn string, own postgres.Schema) {
	t.Helper()
	dsn = os.Getenv("HOOKMESH_TEST_POSTGRES")
	if dsn == "" {
		t.Skip("HOOKMESH_TEST_POSTGRES is not set, so this is not tested: run make test-postgres")
	}
	schema.Name = strings.ToLower("test_" + schema.Name + "_" + rand.Text())
	t.Cleanup(func() {
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, `DROP SCHEMA IF EXISTS `+pgx.Identifier{schema.Name}.Sanitize()+` CASCADE`); err != nil {
			t.Error(err)
		}
	})
	return dsn, schema
}
