//go:build monitoring

// Package monitoring_test lets the real Prometheus and the real Alertmanager, with the files that are deployed, watch a mesh of separate
// processes in which things go wrong: `make test-monitoring`.
package monitoring_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/hookmesh/hookmesh/e2e/topology"
)

const (
	root   = "../../.."
	deploy = root + "/deploy/"
	// hurry is what every duration in the files is divided by: how often is scraped, over how long a rate is taken, how long a condition must
	// hold, how long is waited for company. Nothing keeps its place less than another, so that an hour of production is four minutes here.
	// Thresholds stay as they are. With addresses, and the interval of scrapes, this is all that differs from the files.
	hurry = 15
)

var durations = regexp.MustCompile(`((?:interval|wait|for): |\[)(\d+)([smh])\b`)

// hurried is a file with every duration divided.
func hurried(t *testing.T, file string) string {
	t.Helper()
	raw, err := os.ReadFile(deploy + file)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	text := durations.ReplaceAllStringFunc(string(raw), func(found string) string {
		part := durations.FindStringSubmatch(found)
		d, err := time.ParseDuration(part[2] + part[3])
		if err != nil {
			t.Fatal(err)
		}
		n++
		return fmt.Sprintf("%s%dms", part[1], (d / hurry).Milliseconds())
	})
	if n == 0 {
		t.Fatalf("no duration was found in %s", file)
	}
	return text
}

// swap replaces texts, in pairs, each of which must be there once.
func swap(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if n := strings.Count(text, pairs[i]); n != 1 {
			t.Fatalf("%q is there %d times, wanted is once; the file is\n%s", pairs[i], n, text)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return text
}

// notice is an alert as a receiver was told of it.
type notice struct {
	Path, Status        string
	Labels, Annotations map[string]string
}

// stack is what watches.
type stack struct {
	t                        *testing.T
	dir                      string
	prometheus, alertmanager string // base URLs

	mu   sync.Mutex
	told []notice
}

// startStack starts Prometheus, Alertmanager and who is told of alerts.
func startStack(ctx context.Context, t *testing.T) *stack {
	t.Helper()
	s := &stack{t: t, dir: t.TempDir()}
	receiver := httptest.NewServer(http.HandlerFunc(s.receive))
	t.Cleanup(receiver.Close)
	var ports [2]string
	for i := range ports {
		var err error
		if ports[i], err = topology.FreePort(); err != nil {
			t.Fatal(err)
		}
	}
	s.prometheus, s.alertmanager = "http://"+ports[0], "http://"+ports[1]
	s.write("page-url", receiver.URL+"/page")
	s.write("ticket-url", receiver.URL+"/ticket")
	s.write("alertmanager.yaml", swap(t, hurried(t, "alertmanager/alertmanager.yaml"),
		"/etc/alertmanager/page-url", s.path("page-url"), "/etc/alertmanager/ticket-url", s.path("ticket-url")))
	s.write("alerts.yaml", hurried(t, "prometheus/alerts.yaml"))
	// Docker's names have no place here. Like them, what stands in the file is what runs: see world.discover. A scrape may take as long as its
	// interval, and a second is short where a dozen processes share two processors: this one duration is divided by less.
	s.write("prometheus.yaml", regexp.MustCompile(`(?m)^    dns_sd_configs:\n.*$`).ReplaceAllString(
		swap(t, hurried(t, "prometheus/prometheus.yaml"), "alertmanager:9093", ports[1], "scrape_interval: 1000ms", "scrape_interval: 3s"), `    file_sd_configs: [{files: [targets.json]}]`))
	s.write("targets.json", "[]")
	s.run(ctx, "alertmanager", append(deployedFlags(t, "alertmanager"), "--config.file="+s.path("alertmanager.yaml"), "--storage.path="+s.path("alertmanager"),
		"--web.listen-address="+ports[1], "--cluster.listen-address="))
	s.run(ctx, "prometheus", append(deployedFlags(t, "prometheus"), "--config.file="+s.path("prometheus.yaml"), "--storage.tsdb.path="+s.path("tsdb"), "--web.listen-address="+ports[0]))
	s.until(30*time.Second, "Prometheus and Alertmanager are ready", func() error {
		return errors.Join(s.get(s.prometheus+"/-/ready", nil), s.get(s.alertmanager+"/-/ready", nil), s.watches())
	})
	return s
}

// watches wants Prometheus to know its Alertmanager.
func (s *stack) watches() error {
	var known struct {
		Data struct{ ActiveAlertmanagers []struct{ URL string } }
	}
	if err := s.get(s.prometheus+"/api/v1/alertmanagers", &known); err != nil {
		return err
	}
	if len(known.Data.ActiveAlertmanagers) != 1 {
		return fmt.Errorf("Prometheus knows %d Alertmanagers", len(known.Data.ActiveAlertmanagers))
	}
	return nil
}

// deployedFlags are those of the compose file, but for paths and addresses.
func deployedFlags(t *testing.T, service string) []string {
	t.Helper()
	raw, err := os.ReadFile(root + "/docker-compose.yml")
	if err != nil {
		t.Fatal(err)
	}
	var compose struct {
		Services map[string]struct{ Command []string }
	}
	if err := yaml.Unmarshal(raw, &compose); err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(compose.Services[service].Command, func(flag string) bool { return strings.Contains(flag, "/") })
}

func (s *stack) path(name string) string { return filepath.Join(s.dir, name) }

// write puts a file there as a whole: who follows it never reads half of it.
func (s *stack) write(name, text string) {
	s.t.Helper()
	if err := errors.Join(os.WriteFile(s.path(name+".new"), []byte(text), 0o600), os.Rename(s.path(name+".new"), s.path(name))); err != nil {
		s.t.Fatal(err)
	}
}

// run starts a program that the environment names.
func (s *stack) run(_ context.Context, name string, args []string) {
	s.t.Helper()
	variable := "HOOKMESH_TEST_" + strings.ToUpper(name)
	binary := os.Getenv(variable)
	if binary == "" {
		s.t.Fatalf("%s names no program: make test-monitoring builds it", variable)
	}
	p := &topology.Process{Name: name, Dir: s.dir, Args: append([]string{binary}, args...)}
	if err := p.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		took := p.End(15, 20*time.Second)
		if s.t.Failed() {
			s.t.Logf("%s ended in %s:\n%s", name, took, p.Tail())
		}
	})
}

// receive is the webhook of a receiver.
func (s *stack) receive(w http.ResponseWriter, r *http.Request) {
	var message struct{ Alerts []notice }
	if err := json.NewDecoder(r.Body).Decode(&message); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range message.Alerts {
		a.Path = r.URL.Path
		s.told = append(s.told, a)
	}
}

// notices are all that were told of an alert with a status ("" any), the oldest first. They are told again and again: each once.
func (s *stack) notices(name, status string) (found []notice) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.told {
		if (name == "" || n.Labels["alertname"] == name) && (status == "" || n.Status == status) {
			found = append(found, n)
		}
	}
	return found
}

// get asks for JSON; into may be nil.
func (s *stack) get(address string, into any) error {
	client := http.Client{Timeout: 20 * time.Second}
	res, err := client.Get(address)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		var why struct{ Error string }
		_ = json.NewDecoder(res.Body).Decode(&why)
		return fmt.Errorf("%s: %s %s", address, res.Status, why.Error)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(res.Body).Decode(into)
}

// until repeats a check until it succeeds. Patience is counted in tries, so that a machine that stood still uses none of it up.
func (s *stack) until(patience time.Duration, what string, check func() error) {
	s.t.Helper()
	const pause = 200 * time.Millisecond
	var err error
	for range patience / pause {
		if err = check(); err == nil {
			return
		}
		<-time.After(pause)
	}
	s.t.Fatalf("%s: not within %s: %v", what, patience, err)
}

// alert is one that Prometheus has.
type alert struct {
	Labels map[string]string
	State  string
}

// alerts are those that Prometheus has now.
func (s *stack) alerts() ([]alert, error) {
	var a struct {
		Data struct{ Alerts []alert }
	}
	err := s.get(s.prometheus+"/api/v1/alerts", &a)
	return a.Data.Alerts, err
}

// inhibited says whether Alertmanager knows of an alert and keeps it quiet because of another.
func (s *stack) inhibited(name string) error {
	var all []struct {
		Labels map[string]string
		Status struct {
			State       string
			InhibitedBy []string
		}
	}
	if err := s.get(s.alertmanager+"/api/v2/alerts", &all); err != nil {
		return err
	}
	for _, a := range all {
		if a.Labels["alertname"] != name {
			continue
		}
		if a.Status.State != "suppressed" || len(a.Status.InhibitedBy) == 0 {
			return fmt.Errorf("%s is %s", name, a.Status.State)
		}
		return nil
	}
	return fmt.Errorf("Alertmanager does not know of %s", name)
}

// series is one that a query found, with its values.
type series struct {
	Metric map[string]string
	Values [][2]any
}

// queryRange evaluates a query over a time.
func (s *stack) queryRange(query string, from, to time.Time, step time.Duration) ([]series, error) {
	var a struct{ Data struct{ Result []series } }
	err := s.get(s.prometheus+"/api/v1/query_range?"+url.Values{
		"query": {query}, "start": {stamp(from)}, "end": {stamp(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	}.Encode(), &a)
	return a.Data.Result, err
}

func stamp(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }
