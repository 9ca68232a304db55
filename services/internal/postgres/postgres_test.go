package postgres_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/postgres/postgrestest"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/jackc/pgx/v5/pgxpool.(*Pool).backgroundHealthCheck"))
}

var testSchema = postgres.Schema{Name: "stage", Migrations: []string{postgres.StageSchema, postgres.StageMarkSchema, `CREATE TABLE names (name text PRIMARY KEY)`}}

func open(t *testing.T, dsn string, schema postgres.Schema) (*postgres.DB, *postgres.StageStore[pgx.Tx]) {
	t.Helper()
	db, err := postgres.Open(t.Context(), dsn, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db, postgres.NewStageStore(db, func(tx pgx.Tx) pgx.Tx { return tx })
}

func fixture(t *testing.T, dsn string, schema postgres.Schema) stagetest.StoreFixture[pgx.Tx] {
	db, store := open(t, dsn, schema)
	return stagetest.StoreFixture[pgx.Tx]{
		Store: store,
		Put: func(ctx context.Context, tx pgx.Tx, name string) error {
			_, err := tx.Exec(ctx, `INSERT INTO names (name) VALUES ($1)`, name)
			return err
		},
		Has: func(ctx context.Context, name string) (found bool, err error) {
			err = db.Pool.QueryRow(ctx, `SELECT EXISTS (SELECT 1 FROM names WHERE name = $1)`, name).Scan(&found)
			return found, err
		},
		Reopen: func(t *testing.T) stagetest.StoreFixture[pgx.Tx] { return fixture(t, dsn, schema) },
	}
}

func TestStageStore(t *testing.T) {
	stagetest.RunStore(t, func(t *testing.T) stagetest.StoreFixture[pgx.Tx] {
		dsn, schema := postgrestest.Schema(t, testSchema)
		return fixture(t, dsn, schema)
	})
}

// A zombie has a pool of its own, as another process would.
func TestFencingHoldsAcrossPools(t *testing.T) {
	dsn, schema := postgrestest.Schema(t, testSchema)
	_, zombie := open(t, dsn, schema)
	_, owner := open(t, dsn, schema)
	old, _, err := zombie.Claim(t.Context(), "in", 0)
	if err != nil {
		t.Fatal(err)
	}
	claimed, written := make(chan error, 1), make(chan struct{})
	go func() {
		<-written
		_, _, err := owner.Claim(t.Context(), "in", 0)
		claimed <- err
	}()
	err = zombie.Update(t.Context(), func(ctx context.Context, tx pgx.Tx) (stage.Advance, error) {
		if _, err := tx.Exec(ctx, `INSERT INTO names (name) VALUES ('zombie')`); err != nil {
			return stage.Advance{}, err
		}
		close(written)
		if err := <-claimed; err != nil { // in the middle of the zombie's transaction
			return stage.Advance{}, err
		}
		return stage.Advance{Position: old}, nil
	})
	if !errors.Is(err, stage.ErrFenced) {
		t.Errorf("the zombie got %v, want ErrFenced", err)
	}
}

func TestMigrationsRunOnceAlsoFromSeveralInstancesAtOnce(t *testing.T) {
	schema := testSchema
	schema.Migrations = append(schema.Migrations, `INSERT INTO names (name) VALUES ('migrated')`)
	dsn, schema := postgrestest.Empty(t, schema)
	if _, err := postgres.Open(t.Context(), dsn, schema); !errors.Is(err, postgres.ErrOutdated) {
		t.Errorf("opened without a migration: %v", err)
	}
	var wg sync.WaitGroup
	for range 5 {
		wg.Go(func() {
			if _, to, err := postgres.Migrate(t.Context(), dsn, schema); err != nil || to != len(schema.Migrations) {
				t.Errorf("migrated to %d, %v", to, err)
			}
		})
	}
	wg.Wait()
	if from, to, err := postgres.Migrate(t.Context(), dsn, schema); err != nil || from != len(schema.Migrations) || to != len(schema.Migrations) {
		t.Errorf("again: from %d to %d, %v", from, to, err)
	}
	open(t, dsn, schema)
	older := schema
	older.Migrations = older.Migrations[:len(older.Migrations)-1]
	if _, err := postgres.Open(t.Context(), dsn, older); err == nil || !strings.Contains(err.Error(), "newer") {
		t.Errorf("an older program opened a newer schema: %v", err)
	}
	if _, _, err := postgres.Migrate(t.Context(), dsn, older); err == nil {
		t.Error("an older program migrated a newer schema")
	}
}

func TestATransactionThatMetAnotherOneIsRunAgain(t *testing.T) {
	dsn, schema := postgrestest.Schema(t, testSchema)
	db, _ := open(t, dsn, schema)
	runs := 0
	err := db.Do(t.Context(), func(pgx.Tx) error {
		if runs++; runs < 3 {
			return &pgconn.PgError{Code: "40001", Message: "could not serialize access"}
		}
		return nil
	})
	if err != nil || runs != 3 {
		t.Errorf("%d runs, %v", runs, err)
	}
	runs = 0
	mistake := &pgconn.PgError{Code: "42601", Message: "syntax error"}
	if err := db.Do(t.Context(), func(pgx.Tx) error { runs++; return mistake }); !errors.Is(err, mistake) || runs != 1 {
		t.Errorf("a mistake was run %d times, %v", runs, err)
	}
}

func TestALostConnectionIsReplaced(t *testing.T) {
	dsn, schema := postgrestest.Schema(t, testSchema)
	db, _ := open(t, dsn, schema)
	killer, _ := open(t, dsn, schema)
	runs := 0
	err := db.Do(t.Context(), func(tx pgx.Tx) error {
		runs++
		if runs == 1 {
			var pid int
			if err := tx.QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid); err != nil {
				return err
			}
			if _, err := killer.Pool.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, pid); err != nil {
				return err
			}
		}
		_, err := tx.Exec(t.Context(), `INSERT INTO names (name) VALUES ('kept')`)
		return err
	})
	if err != nil || runs < 2 {
		t.Errorf("%d runs, %v", runs, err)
	}
}

func TestTheDSNIsInNoError(t *testing.T) {
	for _, dsn := range []string{"postgres://u:hunter2@127.0.0.1:1/x?sslmode=disable", "postgres://u:hunter2@[bad", "host=/nowhere password=hunter2 port=notaport"} {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		if _, err := postgres.Open(ctx, dsn, testSchema); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
		cancel()
	}
}

// A door in front of the server that is shut more often than a transaction is tried: a service that starts before its database waits for it.
func TestOpenWaitsForAServerThatIsNotThereYet(t *testing.T) {
	dsn, schema := postgrestest.Schema(t, testSchema)
	server, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	door, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := server.Host
	server.Host = door.Addr().String()
	var visitors sync.WaitGroup
	visitors.Go(func() {
		for knocks := 1; ; knocks++ {
			in, err := door.Accept()
			if err != nil {
				return
			}
			if knocks < 8 {
				_ = in.Close()
				continue
			}
			visitors.Go(func() { pass(t, in, host) })
		}
	})
	db, err := postgres.Open(t.Context(), server.String(), schema)
	if err != nil {
		t.Errorf("the server came late: %v", err)
	} else {
		db.Close()
	}
	_ = door.Close()
	visitors.Wait()
}

// pass connects a visitor with the server behind the door until one of them leaves.
func pass(t *testing.T, in net.Conn, host string) {
	out, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", host)
	if err != nil {
		t.Error(errors.Join(err, in.Close()))
		return
	}
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(out, in); _ = out.Close() })
	both.Go(func() { _, _ = io.Copy(in, out); _ = in.Close() })
	both.Wait()
}
