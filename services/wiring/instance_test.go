package wiring

import (
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/config"
)

// Replicas that share a data_dir are told apart, or each would take the others' leases for its own. One that died leaves its name to
// the next, which so takes up its leases at once.
func TestReplicasThatShareADataDirHaveNamesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	start := func(dir string) (*Mesh, string) {
		m := &Mesh{cfg: config.Config{DataDir: dir}, opts: Options{Services: []string{"reconciler"}}}
		t.Cleanup(func() { _ = m.close() })
		name, err := m.instance()
		if err != nil {
			t.Fatal(err)
		}
		return m, name
	}
	first, a := start(dir)
	_, b := start(dir)
	_, other := start(t.TempDir())
	if a == b || a == other {
		t.Errorf("%s, %s and %s", a, b, other)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	if _, again := start(dir); again != a {
		t.Errorf("after a restart it is %s instead of %s", again, a)
	}
}
