package pgstore_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/postgres/postgrestest"
	"github.com/hookmesh/hookmesh/services/reconciler/pgstore"
	"github.com/hookmesh/hookmesh/services/reconciler/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"))
}

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Fixture {
		dsn, schema := postgrestest.Schema(t, pgstore.Schema())
		return open(t, dsn, schema)
	})
}

func open(t *testing.T, dsn string, schema postgres.Schema) storetest.Fixture {
	store, err := pgstore.Open(t.Context(), dsn, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return storetest.Fixture{Store: store, Reopen: func(t *testing.T) storetest.Fixture { return open(t, dsn, schema) }}
}
