// Package deploy_test checks what operators deploy, with the parsers of the tools that will read it: alert rules and dashboards against the
// metrics that the program exports, the compose file and the Helm chart with theirs. It is a module of its own, outside of the workspace,
// because these parsers bring hundreds of dependencies: `make deploy-test`. `make check-deploy` lets the tools themselves read their files.
package deploy_test

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

const root = "../.."

// alerts are the rules by name, with what each watches.
func alerts(t *testing.T) map[string]string {
	t.Helper()
	groups, errs := rulefmt.ParseFile(filepath.Join(root, "deploy/prometheus/alerts.yaml"), false, model.UTF8Validation, parser.NewParser(parser.Options{}), slog.New(slog.DiscardHandler))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	found := map[string]string{}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			found[r.Alert] = r.Expr
		}
	}
	return found
}

// What promtool runs for each alert is in its test file; here is looked whether it does so for all of them.
func TestEveryAlertFiresInATestAndHasARunbook(t *testing.T) {
	runbooks, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, "deploy/prometheus/alerts_test.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	fires := map[string]bool{}
	for _, test := range file.Tests {
		for _, a := range test.AlertRuleTest {
			fires[a.Alertname] = fires[a.Alertname] || len(a.ExpAlerts) > 0
		}
	}
	for _, name := range slices.Sorted(maps.Keys(alerts(t))) {
		if !fires[name] {
			t.Errorf("no test of deploy/prometheus/alerts_test.yaml wants %s to fire", name)
		}
		if !strings.Contains(string(runbooks), "\n### "+name+"\n") {
			t.Errorf("docs/operations.md has no runbook for %s", name)
		}
	}
}

// inhibition is what one alert keeps from being told.
type inhibition struct{ source, target, equal string }

// What Alertmanager keeps quiet are alerts that there are, and the chart says the same.
func TestWhatInhibitsIsThere(t *testing.T) {
	read := func(path string, into any) {
		t.Helper()
		raw, err := os.ReadFile(filepath.Join(root, path))
		if err == nil {
			err = yaml.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	var file struct {
		Rules []struct {
			Source []string `json:"source_matchers"`
			Target []string `json:"target_matchers"`
			Equal  []string `json:"equal"`
		} `json:"inhibit_rules"`
	}
	var values struct {
		Alerting struct {
			Inhibit []struct {
				Source, Target string
				Equal          []string
			}
		}
	}
	read("deploy/alertmanager/alertmanager.yaml", &file)
	read("deploy/helm/hookmesh/values.yaml", &values)
	known := alerts(t)
	names := func(matchers []string) string {
		_, quoted, _ := strings.Cut(strings.Join(matchers, ","), `"`)
		text := strings.TrimSuffix(quoted, `"`)
		for name := range strings.SplitSeq(text, "|") {
			if known[name] == "" {
				t.Errorf("there is no alert %q in %v", name, matchers)
			}
		}
		return text
	}
	var compose, chart []inhibition
	for _, r := range file.Rules {
		compose = append(compose, inhibition{names(r.Source), names(r.Target), strings.Join(r.Equal, ",")})
	}
	for _, r := range values.Alerting.Inhibit {
		chart = append(chart, inhibition{r.Source, r.Target, strings.Join(r.Equal, ",")})
	}
	if len(compose) == 0 || !slices.Equal(compose, chart) {
		t.Errorf("compose %v, chart %v", compose, chart)
	}
}
