package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// tick is the unit of the times in /proc/PID/stat: USER_HZ, which is 100 on every architecture that Go knows (proc(5)).
const tick = 10 * time.Millisecond

// processorTime is the user and system time that a process has used (Linux only; elsewhere 0).
func processorTime(tb testing.TB, pid int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		return 0
	}
	if err != nil {
		tb.Fatal(err)
	}
	// The name in brackets may hold spaces; utime and stime are the 14th and 15th fields.
	_, rest, _ := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		sum += time.Duration(n) * tick
	}
	return sum
}

// pause stops a process until the returned function is called: what it has to do in the background must not disturb what is
// measured meanwhile.
func pause(tb testing.TB, pid int) (resume func()) {
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(pid, s); err != nil {
			tb.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	return func() { signal(syscall.SIGCONT) }
}

// metricOf is the sum of a metric over all its attributes, from the process's own page of metrics.
func metricOf(m *mesh.Mesh, name string) (float64, error) {
	_, raw, err := m.Get(m.Admin + "/metrics")
	if err != nil {
		return 0, err
	}
	sum, found := 0.0, false
	for line := range strings.SplitSeq(string(raw), "\n") {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || (rest[0] != ' ' && rest[0] != '{') {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			return 0, fmt.Errorf("read %q: %w", line, err)
		}
		sum, found = sum+v, true
	}
	if !found {
		return 0, fmt.Errorf("there is no %s among the metrics", name)
	}
	return sum, nil
}

func metric(tb testing.TB, m *mesh.Mesh, name string) float64 {
	v, err := metricOf(m, name)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

const residentMemory = "process_resident_memory_bytes"

// rss is the process's resident memory in MB.
func rss(tb testing.TB, m *mesh.Mesh) float64 { return metric(tb, m, residentMemory) / (1 << 20) }
