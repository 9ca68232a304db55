package stage_test

import (
	"errors"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

func TestRecordsBeforeThePositionAreNotDecidedOnAgain(t *testing.T) {
	db, store := openStore(t, filepath.Join(t.TempDir(), "s.db"))
	defer func() { _ = db.Close() }()
	log := newMemoryLog()
	log.early = 3
	for i := range 20 {
		log.append("in", stage.Output{Key: []byte("k"), Value: []byte(strconv.Itoa(i))})
		if i%5 != 4 {
			continue
		}
		if err := run(log, store, "first", "in", "out", 2, -1); !errors.Is(err, errDrained) {
			t.Fatal(err)
		}
	}
	checkOutcomeOnce(t, log, 20)
}

// checkOutcomeOnce wants each input once: this stage has none above it whose links could tell repeats.
func checkOutcomeOnce(t *testing.T, log *memoryLog, want int) {
	t.Helper()
	seen := map[string]bool{}
	for _, r := range log.topics["out"] {
		seen[string(r.Value)] = true
	}
	if len(seen) != want {
		t.Errorf("%d different outputs of %d inputs", len(seen), want)
	}
}
