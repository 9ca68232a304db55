package pgstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/internal/postgres/postgrestest"
	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/pgstore"
	"github.com/hookmesh/hookmesh/services/verifier/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"))
}

func TestPostgreSQLKeepsSources(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() verifier.SourceStore {
		dsn, schema := postgrestest.Schema(t, pgstore.Schema())
		return func() verifier.SourceStore {
			s, err := pgstore.Open(t.Context(), dsn, schema)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return s
		}
	})
}
