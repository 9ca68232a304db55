package wiring

import (
	"context"
	"crypto/rand"
	"errors"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
)

// database makes an empty database on the server of HOOKMESH_TEST_POSTGRES.
func database(t testing.TB) string {
	t.Helper()
	server := os.Getenv("HOOKMESH_TEST_POSTGRES")
	if server == "" {
		t.Skip("HOOKMESH_TEST_POSTGRES is not set, so this is not tested: run make test-postgres")
	}
	name := "test_" + strings.ToLower(rand.Text())
	exec := func(statement string) {
		t.Helper()
		ctx := context.WithoutCancel(t.Context())
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		if _, err := conn.Exec(ctx, statement); err != nil {
			t.Error(err)
		}
	}
	exec("CREATE DATABASE " + name)
	t.Cleanup(func() { exec("DROP DATABASE " + name + " WITH (FORCE)") })
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func TestEveryServiceFindsItsSchemaAfterMigrateAndNoneBefore(t *testing.T) {
	m := &Mesh{cfg: config.Config{Store: config.Store{DSN: database(t)}}}
	open := map[string]func(context.Context) error{
		"verifier": func(ctx context.Context) error { _, err := m.sourceStore(ctx); return err }, "dedupe": func(ctx context.Context) error { _, err := m.dedupeStore(ctx); return err },
		"sequencer": func(ctx context.Context) error { _, err := m.sequencerStore(ctx); return err }, "embedder": func(ctx context.Context) error { _, err := m.embedderStore(ctx); return err },
		"reconciler": func(ctx context.Context) error { _, err := m.reconcilerStore(ctx); return err },
	}
	for name, open := range open {
		if err := open(t.Context()); !errors.Is(err, postgres.ErrOutdated) {
			t.Errorf("%s without a schema: %v", name, err)
		}
	}
	for round, changed := range []bool{true, false} {
		seen := 0
		err := Migrate(t.Context(), m.cfg.Store.DSN, func(schema string, from, to int) {
			seen++
			if (from != to) != changed {
				t.Errorf("round %d: %s went from %d to %d", round, schema, from, to)
			}
		})
		if err != nil || seen != len(open) {
			t.Fatalf("%d schemas, %v", seen, err)
		}
	}
	for name, open := range open {
		if err := open(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := m.close(); err != nil {
		t.Error(err)
	}
}
