package sqlitestore_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
	"github.com/hookmesh/hookmesh/services/reconciler/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Fixture { return open(t, filepath.Join(t.TempDir(), "d.db")) })
}

func open(t *testing.T, path string) storetest.Fixture {
	store, err := sqlitestore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	return storetest.Fixture{Store: store, Reopen: func(t *testing.T) storetest.Fixture {
		if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		return open(t, path)
	}}
}
