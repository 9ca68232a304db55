package topology

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// PlainClient is an HTTP client for so many connections without TLS.
func PlainClient(connections int) *http.Client {
	return &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: connections, MaxConnsPerHost: connections}}
}

// SendSlowly delivers changes at a rate, each again until it is accepted.
func SendSlowly(ctx context.Context, client *http.Client, url string, changes []Change, perSecond int) *Report {
	r := &Report{Answers: map[int]int{}}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for _, c := range changes {
		select {
		case <-ctx.Done():
			return r
		case <-tick.C:
		}
		r.deliver(ctx, client, url, c, Mischief{}, nil)
	}
	return r
}

// Progress is how steadily documents became searchable.
type Progress struct {
	// LongestPause is the longest time in which none did, from the first to the last.
	LongestPause time.Duration
	// Times are when it was seen that some did.
	Times []time.Time
}

// Watch looks at the embedders' counters until ctx ends.
func (m *Mesh) Watch(ctx context.Context) (p Progress) {
	seen := map[string]float64{}
	var last time.Time
	for ctx.Err() == nil {
		for _, in := range m.Of("embedder") {
			n, err := in.Metric(ctx, "hookmesh_embedder_outcomes_total")
			if err != nil || n == seen[in.Name] {
				continue
			}
			if seen[in.Name] = n; n == 0 {
				continue
			}
			now := time.Now()
			if !last.IsZero() {
				p.LongestPause = max(p.LongestPause, now.Sub(last))
			}
			last, p.Times = now, append(p.Times, now)
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
	return p
}

// Metric is the sum of a metric over its labels, as the process exports it.
func (in *Instance) Metric(ctx context.Context, name string) (sum float64, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.Admin+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	raw, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		rest, ok := strings.CutPrefix(line, name)
		if !ok || rest[0] != '{' && rest[0] != ' ' {
			continue
		}
		fields := strings.Fields(rest[strings.LastIndex(rest, "}")+1:])
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", line, err)
		}
		sum += value
	}
	return sum, nil
}

// Resident is the process' memory in bytes; 0: it cannot be told here.
func (p *Process) Resident() int64 {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	fields := strings.Fields(string(raw))
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

// Processor is the processor time that the process took; 0: it cannot be told here.
func (p *Process) Processor() time.Duration { return processor(p.PID()) }

// processor is the processor time that a process took, reaped what its children took that have ended.
func processor(pid int) time.Duration { return ticks(pid, 11) }
func reaped(pid int) time.Duration    { return ticks(pid, 13) }

// ticks is the sum of two neighbours in /proc/PID/stat, user's and system's time, counted from the state on.
func ticks(pid, field int) time.Duration {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, ok := strings.Cut(string(raw), ") ")
	fields := strings.Fields(rest)
	if err != nil || !ok || len(fields) < field+2 {
		return 0
	}
	user, _ := strconv.ParseInt(fields[field], 10, 64)
	system, _ := strconv.ParseInt(fields[field+1], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond // ticks of 1/100 s
}
