package lsm_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"testing"

	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

// filesEndAt has writes to files fail beyond a size, as on a disk that is full, while fn runs.
func filesEndAt(t *testing.T, size uint64, fn func() error) error {
	t.Helper()
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Error(err)
		}
	}()
	return fn()
}

// descriptors are the open files of this process that are in a folder, those that have no name any more too.
func descriptors(t *testing.T, dir string) (open []string) {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir) {
			open = append(open, name)
		}
	}
	return open
}

// Files of runs end anywhere because the disk is full: in the entries, in the index, in the file of spots. Each such transaction fails and
// leaves nothing; the others go on, and with them merges.
func TestAFullDiskLosesAndLeavesNothing(t *testing.T) {
	const ours = "HOOKMESH_LSM_FULL_DISK"
	if os.Getenv(ours) == "" { // in a process of its own, because the limit is for all files, with those in which go test keeps its accounts
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAFullDiskLosesAndLeavesNothing$") //nolint:gosec // this test
		cmd.Env = append(os.Environ(), ours+"=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close what is forgotten
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	p := open(t, filepath.Join(t.TempDir(), "t.db"), lsm.Options{Memory: 80_000, Fanout: 2})
	defer p.close(t)
	want, failed := map[string]string{}, 0
	for n := range 600 {
		entries := make([]lsm.Entry, 50)
		for i := range entries {
			entries[i] = lsm.Entry{Key: fmt.Sprintf("%04d", rand.IntN(5000)), Value: fmt.Append(nil, n)}
		}
		full := rand.IntN(2) == 0 && n < 550
		err := p.tx(func(ctx context.Context, v *lsm.View) error {
			if !full {
				return v.Put(ctx, entries, 0)
			}
			return filesEndAt(t, uint64(rand.IntN(60_000)), func() error { return v.Put(ctx, entries, 0) }) //nolint:gosec // not negative
		})
		if err != nil && (!full || !errors.Is(err, syscall.EFBIG)) {
			t.Fatal(err)
		}
		if err != nil {
			failed++
			continue
		}
		for _, e := range entries {
			want[e.Key] = string(e.Value)
		}
		p.named(t)
	}
	if failed < 10 {
		t.Errorf("%d transactions failed", failed)
	}
	all, err := p.table.Scan(t.Context(), "", "", len(want)+1)
	if err != nil || len(all) != len(want) {
		t.Errorf("%d rows of %d, %v", len(all), len(want), err)
	}
	for _, e := range all {
		if want[e.Key] != string(e.Value) {
			t.Errorf("%s is %s, not %s", e.Key, e.Value, want[e.Key])
		}
	}
	if open := descriptors(t, p.db.Files()); len(open) > 4 { // of a merge under way on each of some levels
		t.Errorf("open are %q", open)
	}
}
