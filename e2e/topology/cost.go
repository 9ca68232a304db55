package topology

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Costs is processor time by who took it: the services, kafka, postgres, and the test itself (senders, proxies).
type Costs map[string]time.Duration

// Costs are what everything took until now.
func (m *Mesh) Costs() Costs {
	c := Costs{"test": processor(os.Getpid()), "postgres": processor(m.Postgres.PID()) + reaped(m.Postgres.PID())}
	for _, child := range m.Postgres.children() {
		c["postgres"] += processor(child)
	}
	for _, node := range m.Kafka.Nodes {
		c["kafka"] += node.Processor()
	}
	for _, in := range m.Instances {
		c[in.Service] += in.Processor()
	}
	return c
}

// Since is what was taken after an earlier look.
func (c Costs) Since(before Costs) Costs {
	after := Costs{}
	for who, took := range c {
		after[who] = took - before[who]
	}
	return after
}

// Per is the table of costs per event in microseconds, the dearest first.
func (c Costs) Per(events int) string {
	who := slices.SortedFunc(maps.Keys(c), func(a, b string) int { return int(c[b] - c[a]) })
	parts := make([]string, len(who))
	for i, name := range who {
		parts[i] = fmt.Sprintf("%s %d", name, c[name].Microseconds()/int64(max(1, events)))
	}
	return strings.Join(parts, ", ")
}

// Profile writes the processor profile of every service over some seconds into dir, NAME.pprof, and what its goroutines do in the middle, NAME.txt.
func (m *Mesh) Profile(ctx context.Context, dir string, over time.Duration) {
	var wg sync.WaitGroup
	for _, in := range m.Instances {
		wg.Go(func() {
			in.save(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", int(over.Seconds())), filepath.Join(dir, in.Name+".pprof"))
		})
		wg.Go(func() {
			select {
			case <-ctx.Done():
			case <-time.After(over / 2):
				in.save(ctx, "/debug/pprof/goroutine?debug=1", filepath.Join(dir, in.Name+".txt"))
			}
		})
	}
	wg.Wait()
}

// save keeps what the operators' port answers; what cannot be had is not kept.
func (in *Instance) save(ctx context.Context, path, file string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.Admin+path, nil)
	if err != nil {
		return
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = res.Body.Close() }()
	if raw, err := io.ReadAll(res.Body); err == nil && res.StatusCode == http.StatusOK {
		_ = os.WriteFile(file, raw, 0o600)
	}
}
