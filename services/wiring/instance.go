package wiring

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/gofrs/flock"
)

// maxReplicas bounds how many processes of one service share a data_dir.
const maxReplicas = 1000

// instance names this process among those that share work through leases. It is the same after a restart, so that a process that
// was killed takes its own leases up again at once. No two processes that live have it: replicas that share a data_dir have numbers,
// and each locks its own while it lives.
func (m *Mesh) instance() (string, error) {
	dir, err := filepath.Abs(m.cfg.DataDir)
	if err != nil {
		return "", fmt.Errorf("data_dir: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this machine: %w", err)
	}
	number, err := m.replica(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(host + "\x00" + dir + "\x00" + strings.Join(m.opts.Services, ",")))
	return fmt.Sprintf("%s-%x-%d", host, sum[:4], number), nil
}

// replica is the lowest number that no other living process of the same services in this data_dir has.
func (m *Mesh) replica(dir string) (int, error) {
	for n := 1; n <= maxReplicas; n++ {
		lock := flock.New(filepath.Join(dir, fmt.Sprintf("lock-%s-%d", strings.Join(m.opts.Services, "-"), n)))
		ok, err := lock.TryLock()
		if err != nil {
			return 0, fmt.Errorf("lock a number among the replicas: %w", err)
		}
		if ok {
			m.closers = append(m.closers, lock.Unlock)
			return n, nil
		}
	}
	return 0, fmt.Errorf("more than %d processes share data_dir %s", maxReplicas, dir)
}
