package deploy_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// Every metric in a dashboard or an alert is one that a running program exports after it has had something to do.
func TestDashboardsAndAlertsNameMetricsThatTheProgramExports(t *testing.T) {
	wanted := map[string]string{}
	for _, file := range dashboards(t) {
		for _, expr := range dashboardQueries(t, file) {
			for _, name := range metricsOf(t, expr) {
				wanted[name] = filepath.Base(file)
			}
		}
	}
	for alert, expr := range alerts(t) {
		for _, name := range metricsOf(t, expr) {
			wanted[name] = alert
		}
	}
	delete(wanted, "up") // Prometheus' own
	exported := exportedMetrics(t)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if !exported[name] {
			t.Errorf("%s, in %s, is not exported", name, wanted[name])
		}
	}
	if len(wanted) < 30 {
		t.Errorf("only %d metrics were found in dashboards and alerts: are they read at all?", len(wanted))
	}
}

func dashboards(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "deploy/grafana/dashboards/*.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	return files
}

func dashboardQueries(t *testing.T, file string) (exprs []string) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID    string
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(raw, &dashboard); err != nil || dashboard.UID == "" {
		t.Fatalf("%s: %v", file, err)
	}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("%s: panel %q asks for nothing", file, p.Title)
		}
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
		}
	}
	return exprs
}

func metricsOf(t *testing.T, expr string) (names []string) {
	t.Helper()
	parsed, err := parser.NewParser(parser.Options{}).ParseExpr(expr)
	if err != nil {
		t.Fatalf("%s: %v", expr, err)
	}
	parser.Inspect(parsed, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			names = append(names, selector.Name)
		}
		return nil
	})
	return names
}

// exportedMetrics runs the program, gives it good, forged and too many deliveries, and reads what it exports.
func exportedMetrics(t *testing.T) map[string]bool {
	t.Helper()
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"changes": [{"id": "p", "version": 1, "updated_at": 1}], "next_cursor": "1", "has_more": false}`)
	}))
	defer list.Close()
	dir := t.TempDir()
	if err := topology.WriteCertificate(dir); err != nil {
		t.Fatal(err)
	}
	m := mesh.Start(t, fmt.Sprintf(`  - name: polled
    preset: generic-hmac
    secrets: [{value: x}]
    content: {fetch: "%[1]s/{document_id}"}
    poll: {changes: "%[1]s/?cursor={cursor}", interval: 1s, sweep_interval: 1s}
  - name: slow
    preset: generic-hmac
    secrets: [{value: %[2]s}]
    content: {inline: content}
    rate: {per_second: 0.001, burst: 1}
  - name: clocked
    preset: standard-webhooks
    secrets: [{value: %[4]s}]
    content: {inline: data.content}
mtls: {ca_file: %[3]s/cert.pem, cert_file: %[3]s/cert.pem, key_file: %[3]s/key.pem}
`, list.URL, mesh.Secret, dir, clockedSecret))
	body := []byte(`{"document_id":"d","event_id":"e","action":"created","sequence":1,"title":"T","content":"C"}`)
	for range 3 {
		if _, _, err := m.SendTo("slow", body, mesh.Sign(body)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := m.SendRaw(body, mesh.Sign(body)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.SendRaw(body, "sha256=forged"); err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // an estimate of the source's clock wants as many, of times that grow
		sendClocked(t, m, i)
	}
	names := map[string]bool{}
	name := regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*`)
	m.Until(40*time.Second, "the metrics of the whole way are there", func() error {
		_, raw, err := m.Get(m.Admin + "/metrics")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(raw)) {
			names[name.FindString(line)] = true
		}
		for _, late := range []string{"hookmesh_freshness_seconds_bucket", "hookmesh_reconciler_poll_age_seconds", "hookmesh_gateway_debts_total", "hookmesh_reconciler_right",
			"hookmesh_reconciler_silent", "hookmesh_verifier_clock_offset_seconds"} {
			if !names[late] {
				return fmt.Errorf("%s is missing", late)
			}
		}
		return nil
	})
	return names
}

// clockedSecret signs deliveries whose signature covers a time.
var clockedSecret = base64.StdEncoding.EncodeToString([]byte("a secret of more than 24 bytes"))

func sendClocked(t *testing.T, m *mesh.Mesh, n int) {
	t.Helper()
	body := fmt.Sprintf(`{"type":"page.updated","data":{"id":"clocked","version":%d,"content":"C"}}`, n+1)
	id, at := fmt.Sprint("msg_", n), fmt.Sprint(time.Now().Unix()-3+int64(n))
	mac := hmac.New(sha256.New, []byte("a secret of more than 24 bytes"))
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, at, body)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, m.HTTP+"/webhooks/clocked", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", at)
	req.Header.Set("Webhook-Signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusAccepted {
		t.Fatalf("a signed delivery got %s", res.Status)
	}
}

// Latency histograms lead from a slow bucket to a trace.
func TestHistogramsCarryExemplarsThatNameATrace(t *testing.T) {
	m := mesh.Start(t, "")
	body := []byte(`{"document_id":"d","event_id":"e","action":"created","sequence":1,"title":"T","content":"C"}`)
	if _, _, err := m.SendRaw(body, mesh.Sign(body)); err != nil {
		t.Fatal(err)
	}
	for _, histogram := range []string{"hookmesh_freshness_seconds_bucket", "hookmesh_gateway_request_duration_seconds_bucket", "hookmesh_stage_batch_duration_seconds_bucket"} {
		exemplar := regexp.MustCompile(histogram + `\{[^}]*\} \S+ # \{[^}]*trace_id="[0-9a-f]{32}"`)
		m.Until(20*time.Second, histogram+" has an exemplar", func() error {
			raw, err := m.OpenMetrics()
			if err == nil && !exemplar.Match(raw) {
				err = fmt.Errorf("no line matches %s", exemplar)
			}
			return err
		})
	}
}
