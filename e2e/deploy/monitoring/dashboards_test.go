//go:build monitoring

package monitoring_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// without are panels of which nothing is seen after everything that goes wrong here, and why.
var without = map[string]string{}

type panel struct {
	Title   string
	Type    string
	Targets []struct {
		RefID, Expr, LegendFormat string
		Exemplar                  bool
	}
}

var label = regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`)

// everyPanelShowsSomething asks what each panel asks, of the whole time, as Grafana does.
func everyPanelShowsSomething(t *testing.T, s *stack, began time.Time) {
	files, err := filepath.Glob(deploy + "grafana/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	n := 0
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var dashboard struct{ Panels []panel }
		if err := json.Unmarshal(raw, &dashboard); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, p := range dashboard.Panels {
			for _, target := range p.Targets {
				n++
				where := fmt.Sprintf("%s, %s, %s", filepath.Base(file), p.Title, target.RefID)
				found, err := s.queryRange(target.Expr, began, time.Now(), 5*time.Second)
				if err != nil {
					t.Errorf("%s: %v", where, err)
					continue
				}
				seen := slices.ContainsFunc(found, func(one series) bool { return slices.ContainsFunc(one.Values, number) })
				if why, left := without[where]; seen == left {
					t.Errorf("%s shows data: %t; why it need not: %q", where, seen, why)
				}
				checkLegend(t, where, target.LegendFormat, found)
			}
		}
	}
	t.Logf("%d queries of %d dashboards, %d without data", n, len(files), len(without))
}

func number(value [2]any) bool {
	text, _ := value[1].(string)
	f, err := strconv.ParseFloat(text, 64)
	return err == nil && !math.IsNaN(f)
}

// checkLegend wants every label that a legend names in at least one line.
func checkLegend(t *testing.T, where, format string, found []series) {
	t.Helper()
	for _, name := range label.FindAllStringSubmatch(format, -1) {
		if len(found) > 0 && !slices.ContainsFunc(found, func(s series) bool { return s.Metric[name[1]] != "" }) {
			t.Errorf("%s: no line has the label %s of its legend", where, name[1])
		}
	}
}

// exemplarsLeadToTraces follows the diamonds of the panels that show some, by the label that Grafana is told to follow, to a trace that is there.
func exemplarsLeadToTraces(t *testing.T, s *stack, w *world, began time.Time) {
	raw, err := os.ReadFile(deploy + "grafana/provisioning/datasources/datasources.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Datasources []struct {
			Type     string
			JSONData struct {
				ExemplarTraceIDDestinations []struct{ Name string } `json:"exemplarTraceIdDestinations"`
			} `json:"jsonData"`
		}
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	name := ""
	for _, d := range file.Datasources {
		if d.Type == "prometheus" && len(d.JSONData.ExemplarTraceIDDestinations) == 1 {
			name = d.JSONData.ExemplarTraceIDDestinations[0].Name
		}
	}
	for _, histogram := range []string{"hookmesh_freshness_seconds_bucket", "hookmesh_gateway_request_duration_seconds_bucket", "hookmesh_stage_batch_duration_seconds_bucket",
		"hookmesh_stage_transit_seconds_bucket", "rpc_server_call_duration_seconds_bucket"} {
		// A process keeps its last traces only.
		s.until(time.Minute, "an exemplar of "+histogram+" leads to a trace", func() error {
			w.traffic()
			ids, err := s.exemplars(histogram, name, began)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				return errors.New("there is none")
			}
			return w.hasTrace(ids[len(ids)-1])
		})
	}
}

// exemplars are the values of a label of the exemplars of a metric, the newest last.
func (s *stack) exemplars(metric, label string, began time.Time) (ids []string, err error) {
	var a struct {
		Data []struct {
			Exemplars []struct {
				Labels    map[string]string
				Timestamp float64
			}
		}
	}
	err = s.get(s.prometheus+"/api/v1/query_exemplars?"+url.Values{"query": {metric}, "start": {stamp(began)}, "end": {stamp(time.Now())}}.Encode(), &a)
	at := map[string]float64{}
	for _, one := range a.Data {
		for _, e := range one.Exemplars {
			if id := e.Labels[label]; id != "" {
				at[id] = max(at[id], e.Timestamp)
				ids = append(ids, id)
			}
		}
	}
	slices.SortFunc(ids, func(a, b string) int { return int(1000 * (at[a] - at[b])) })
	return ids, err
}

// hasTrace asks every process for a trace.
func (w *world) hasTrace(id string) error {
	for _, in := range w.Instances {
		if err := w.stack.get("http://"+in.Admin+"/debug/traces/"+id, nil); err == nil {
			return nil
		} else if !strings.Contains(err.Error(), "404") {
			return err
		}
	}
	return fmt.Errorf("no process has a span of trace %s", id)
}

// rulesAreWell wants every rule to have been evaluated without an error.
func rulesAreWell(t *testing.T, s *stack) {
	var a struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
	}
	if err := s.get(s.prometheus+"/api/v1/rules", &a); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, g := range a.Data.Groups {
		for _, r := range g.Rules {
			n++
			if r.Health != "ok" || r.LastError != "" {
				t.Errorf("rule %s is %s: %s", r.Name, r.Health, r.LastError)
			}
		}
	}
	if n < 20 {
		t.Errorf("%d rules", n)
	}
}
