package wiring

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// instance names this process among those that share work through leases. It is the same after a restart, so that a process that
// was killed takes its own leases up again at once; no two processes that live have it, because each locks its data_dir.
func (m *Mesh) instance() (string, error) {
	dir, err := filepath.Abs(m.cfg.DataDir)
	if err != nil {
		return "", fmt.Errorf("data_dir: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("name of this machine: %w", err)
	}
	sum := sha256.Sum256([]byte(host + "\x00" + dir + "\x00" + strings.Join(m.opts.Services, ",")))
	return fmt.Sprintf("%s-%x", host, sum[:4]), nil
}
