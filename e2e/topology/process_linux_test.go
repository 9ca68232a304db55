package topology_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/topology"
)

// A test that is killed cleans nothing up: what it started must not run on. This test is its own victim, in a process of its own.
func TestAChildDiesWithItsKilledParent(t *testing.T) {
	if dir := os.Getenv("TOPOLOGY_TEST_VICTIM"); dir != "" {
		child := &topology.Process{Name: "child", Dir: dir, Args: []string{"sleep", "600"}}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("\nchild %d\n", child.PID())
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	victim := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	victim.Env = append(os.Environ(), "TOPOLOGY_TEST_VICTIM="+t.TempDir())
	out, err := victim.Output()
	_, rest, found := bytes.Cut(out, []byte("\nchild "))
	if err == nil || !found {
		t.Fatalf("the victim said %q, %v", out, err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(rest)))
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); alive(pid); {
		if time.Now().After(end) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			t.Fatalf("process %d outlives the one that started it", pid)
		}
		<-time.After(10 * time.Millisecond)
	}
}

// alive says whether a process runs; one that is dead but not yet collected does not.
func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := strings.Cut(string(raw), ") ")
	return err == nil && !strings.HasPrefix(state, "Z")
}
