package wiring

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/hookmesh/hookmesh/services/dedupe"
	dedupepg "github.com/hookmesh/hookmesh/services/dedupe/pgstore"
	dedupestore "github.com/hookmesh/hookmesh/services/dedupe/sqlitestore"
	"github.com/hookmesh/hookmesh/services/embedder"
	embedderpg "github.com/hookmesh/hookmesh/services/embedder/pgstore"
	embedderstore "github.com/hookmesh/hookmesh/services/embedder/sqlitestore"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/reconciler"
	reconcilerpg "github.com/hookmesh/hookmesh/services/reconciler/pgstore"
	reconcilerstore "github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
	"github.com/hookmesh/hookmesh/services/sequencer"
	sequencerpg "github.com/hookmesh/hookmesh/services/sequencer/pgstore"
	sequencerstore "github.com/hookmesh/hookmesh/services/sequencer/sqlitestore"
	"github.com/hookmesh/hookmesh/services/verifier"
	verifierpg "github.com/hookmesh/hookmesh/services/verifier/pgstore"
	verifierstore "github.com/hookmesh/hookmesh/services/verifier/sqlitestore"
)

// Schemas are the services' parts of a PostgreSQL database.
func Schemas() []postgres.Schema {
	return []postgres.Schema{verifierpg.Schema(), dedupepg.Schema(), sequencerpg.Schema(), embedderpg.Schema(), reconcilerpg.Schema()}
}

// Migrate brings every schema of store.dsn up to date and reports each one.
func Migrate(ctx context.Context, dsn string, report func(schema string, from, to int)) error {
	for _, schema := range Schemas() {
		from, to, err := postgres.Migrate(ctx, dsn, schema)
		if err != nil {
			return err
		}
		report(schema.Name, from, to)
	}
	return nil
}

// databasePatience is how long a service that starts waits for PostgreSQL.
const databasePatience = 30 * time.Second

// openStore opens a service's store: in PostgreSQL if store.dsn says so, else in a file under data_dir. It is closed at the end.
func openStore[S any, P, L interface {
	Close() error
}](ctx context.Context, m *Mesh, file string, schema postgres.Schema, production func(context.Context, string, postgres.Schema) (P, error),
	local func(context.Context, string) (L, error),
) (store S, err error) {
	var opened interface{ Close() error }
	if dsn := m.cfg.Store.DSN; dsn != "" {
		patience := databasePatience
		if m.databaseAway {
			patience = time.Second // the services of one process do not wait one after the other
		}
		starting, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		opened, err = production(starting, dsn, schema)
		m.databaseAway = starting.Err() != nil
	} else {
		opened, err = local(ctx, filepath.Join(m.cfg.DataDir, file))
	}
	if err != nil {
		return store, err
	}
	m.closers = append(m.closers, opened.Close)
	store, ok := opened.(S)
	if !ok {
		return store, fmt.Errorf("%T is no %T", opened, store) // a mistake of this program, which its tests would meet
	}
	return store, nil
}

func (m *Mesh) dedupeStore(ctx context.Context) (dedupe.Store, error) {
	return openStore[dedupe.Store](ctx, m, "dedupe.db", dedupepg.Schema(), dedupepg.Open, dedupestore.Open)
}

func (m *Mesh) sequencerStore(ctx context.Context) (sequencer.Store, error) {
	return openStore[sequencer.Store](ctx, m, "sequencer.db", sequencerpg.Schema(), sequencerpg.Open, sequencerstore.Open)
}

func (m *Mesh) embedderStore(ctx context.Context) (embedder.Store, error) {
	return openStore[embedder.Store](ctx, m, "knowledge.db", embedderpg.Schema(), embedderpg.Open, embedderstore.Open)
}

func (m *Mesh) reconcilerStore(ctx context.Context) (reconciler.Store, error) {
	return openStore[reconciler.Store](ctx, m, "reconciler.db", reconcilerpg.Schema(), reconcilerpg.Open, reconcilerstore.Open)
}

func (m *Mesh) sourceStore(ctx context.Context) (verifier.SourceStore, error) {
	return openStore[verifier.SourceStore](ctx, m, "sources.db", verifierpg.Schema(), verifierpg.Open, verifierstore.Open)
}
