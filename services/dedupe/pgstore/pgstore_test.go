package pgstore_test

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/dedupe/pgstore"
	"github.com/hookmesh/hookmesh/services/dedupe/storetest"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/postgres/postgrestest"
	"github.com/hookmesh/hookmesh/services/internal/stage"
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

func TestTheKeysOfADayAreForgottenByDroppingTheirPartition(t *testing.T) {
	dsn, schema := postgrestest.Schema(t, pgstore.Schema())
	store := open(t, dsn, schema).Store
	pos, _, err := store.Claim(t.Context(), "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	soon, late := dedupe.KeyOf("s", "soon"), dedupe.KeyOf("s", "late")
	at := func(now time.Time, fn func(ctx context.Context, tx dedupe.Tx) error) {
		t.Helper()
		err := store.Update(t.Context(), func(ctx context.Context, tx dedupe.Tx) (stage.Advance, error) {
			return stage.Advance{Position: pos}, errors.Join(fn(ctx, tx), tx.Expire(ctx, now, time.Hour, 10))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	at(now, func(ctx context.Context, tx dedupe.Tx) error {
		return errors.Join(tx.Remember(ctx, soon, dedupe.First{EventID: "a", Expires: now.Add(time.Hour)}), tx.Remember(ctx, late, dedupe.First{EventID: "b", Expires: now.Add(29 * 24 * time.Hour)}))
	})
	for range 2 { // the clean-up of one transaction is what the next one begins with
		at(now.Add(50*time.Hour), func(context.Context, dedupe.Tx) error { return nil })
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var rows, past int
	table := pgx.Identifier{schema.Name, "keys"}.Sanitize()
	if err := conn.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM `+table+`), (SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
		WHERE i.inhparent = $1::regclass AND c.relname LIKE 'keys\_day\_%' AND substr(c.relname, 10) < $2)`, table, strconv.FormatInt(now.Add(50*time.Hour).Unix()/86400, 10)).Scan(&rows, &past); err != nil {
		t.Fatal(err)
	}
	if rows != 1 || past != 0 {
		t.Errorf("%d keys are left, %d partitions of past days", rows, past)
	}
}
