// Package deploy_test checks what operators deploy, with the tools that will read it: alert rules with Prometheus' own engine, dashboards
// against the metrics that the program exports, the compose file and the Helm chart with theirs. It is a module of its own, outside of the
// workspace, because these tools bring hundreds of dependencies: `make deploy-test`.
package deploy_test

import (
	"context"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
)

const root = "../.."

var ruleFile = filepath.Join(root, "deploy/prometheus/alerts.yaml")

// fires says with which series each alert fires. Each line is a series at one-minute steps for an hour.
var fires = map[string]string{
	"HookmeshFreshnessSlow": `hookmesh_freshness_seconds_bucket{source="s",le="60"} 0x60
		hookmesh_freshness_seconds_bucket{source="s",le="120"} 0+10x60
		hookmesh_freshness_seconds_bucket{source="s",le="+Inf"} 0+10x60`,
	"HookmeshInstanceDown": `up{job="hookmesh",instance="i"} 0x60`,
	"HookmeshNothingRuns":  `up{job="hookmesh",instance="i"} 1x60`,
	"HookmeshDeliveriesTurnedAway": `hookmesh_gateway_requests_total{outcome="storage_unavailable"} 0+60x60
		hookmesh_gateway_requests_total{outcome="accepted"} 0+600x60`,
	"HookmeshRequestsSlow": `hookmesh_gateway_request_duration_seconds_bucket{le="0.5"} 0x60
		hookmesh_gateway_request_duration_seconds_bucket{le="1"} 0+10x60
		hookmesh_gateway_request_duration_seconds_bucket{le="+Inf"} 0+10x60`,
	"HookmeshSpoolFilling": `hookmesh_gateway_spool_bytes{instance="i"} 60x60
		hookmesh_gateway_spool_limit_bytes{instance="i"} 100x60`,
	"HookmeshSpoolDamaged": `hookmesh_gateway_spool_lost{instance="i"} 1x60`,
	"HookmeshSourceShed":   `hookmesh_gateway_sheds_total{source="s"} 0+60x60`,
	"HookmeshSignaturesRefused": `hookmesh_verifier_verdicts_total{source="s",verdict="rejected"} 0+60x60
		hookmesh_verifier_verdicts_total{source="s",verdict="accepted"} 0+60x60`,
	"HookmeshLagHigh": `hookmesh_kafka_lag{group="g",topic="t",partition="0",instance="a"} 20000x60
		hookmesh_kafka_assigned{group="g",instance="a"} 1x60`,
	"HookmeshPartitionsUnassigned": `hookmesh_kafka_lag{group="g",topic="t",partition="0",instance="a"} 0x60
		hookmesh_kafka_lag{group="g",topic="t",partition="1",instance="a"} 0x60
		hookmesh_kafka_assigned{group="g",instance="a"} 1x60`,
	"HookmeshStageFailing":      `hookmesh_stage_retries_total{stage="s",step="produce"} 0+60x60`,
	"HookmeshRecordsLostUnread": `hookmesh_stage_records_removed_unread_total{stage="s"} 0x30 5x30`,
	"HookmeshGapsOpen":          `hookmesh_sequencer_waiting{source="s"} 200x60`,
	"HookmeshDebtsUnpaid":       `hookmesh_reconciler_debts_open{source="s"} 1x60`,
	"HookmeshDeadLetters":       `hookmesh_reconciler_dead_letters_open{source="s"} 1x60`,
	"HookmeshEndpointRefusesUs": `hookmesh_embedder_breaker_open{endpoint="wiki.example"} 1x60`,
	"HookmeshJobsRetrying":      `hookmesh_embedder_jobs{state="retrying"} 200x60`,
	"HookmeshPollOverdue":       `hookmesh_reconciler_poll_age_seconds{source="s"} 50000x60`,
	"HookmeshDrift":             `hookmesh_reconciler_right{source="s"} 0.9x60`,
	"HookmeshClockWrong":        `hookmesh_verifier_clock_ours_seconds{instance="i"} -60x60`,
	"HookmeshCertificateEnds":   `hookmesh_tls_certificate_remaining_seconds{instance="i"} 3600x60`,
	"HookmeshOldSecretInUse":    `hookmesh_verifier_secret_used_total{source="s",secret="1"} 0+1x60`,
}

// healthy are series of a mesh that is well: no alert may fire.
const healthy = `up{job="hookmesh",instance="i"} 1x60
	hookmesh_freshness_seconds_bucket{source="s",le="1"} 0+10x60
	hookmesh_freshness_seconds_bucket{source="s",le="+Inf"} 0+10x60
	hookmesh_stage_batches_total{stage="s"} 0+10x60
	hookmesh_gateway_requests_total{outcome="accepted"} 0+600x60
	hookmesh_gateway_request_duration_seconds_bucket{le="0.01"} 0+10x60
	hookmesh_gateway_request_duration_seconds_bucket{le="+Inf"} 0+10x60
	hookmesh_gateway_spool_bytes{instance="i"} 1x60
	hookmesh_gateway_spool_limit_bytes{instance="i"} 100x60
	hookmesh_gateway_spool_lost{instance="i"} 0x60
	hookmesh_gateway_sheds_total{source="s"} 0x60
	hookmesh_verifier_verdicts_total{source="s",verdict="accepted"} 0+60x60
	hookmesh_verifier_verdicts_total{source="s",verdict="rejected"} 0+1x60
	hookmesh_verifier_secret_used_total{source="s",secret="0"} 0+60x60
	hookmesh_kafka_lag{group="g",topic="t",partition="0",instance="a"} 10x60
	hookmesh_kafka_lag{group="g",topic="t",partition="1",instance="a"} 10x60
	hookmesh_kafka_lag{group="g",topic="t",partition="0",instance="b"} 10x60
	hookmesh_kafka_lag{group="g",topic="t",partition="1",instance="b"} 10x60
	hookmesh_kafka_assigned{group="g",instance="a"} 1x60
	hookmesh_kafka_assigned{group="g",instance="b"} 1x60
	hookmesh_stage_retries_total{stage="s"} 0x60
	hookmesh_stage_records_removed_unread_total{stage="s"} 0x60
	hookmesh_stage_logs_begun_anew_total{stage="s"} 0x60
	hookmesh_sequencer_waiting{source="s"} 3x60
	hookmesh_reconciler_debts_open{source="s"} 0x60
	hookmesh_reconciler_dead_letters_open{source="s"} 0x60
	hookmesh_reconciler_poll_age_seconds{source="s"} 3600x60
	hookmesh_reconciler_right{source="s"} 1x60
	hookmesh_embedder_breaker_open{endpoint=""} 0x60
	hookmesh_verifier_clock_ours_seconds{instance="i"} 0x60
	hookmesh_tls_certificate_remaining_seconds{instance="i"} 2592000x60
	hookmesh_embedder_jobs{state="retrying"} 1x60`

func TestEveryAlertFiresWhenItShouldAndHasARunbook(t *testing.T) {
	runbooks, err := os.ReadFile(filepath.Join(root, "docs/operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range alertNames(t) {
		t.Run(name, func(t *testing.T) {
			series, ok := fires[name]
			if !ok {
				t.Fatal("this test does not say when the alert fires: add it to the table above")
			}
			if firing := evaluate(t, series); !slices.Contains(firing, name) {
				t.Errorf("it did not fire; these did: %v", firing)
			}
			if !strings.Contains(string(runbooks), "\n### "+name+"\n") {
				t.Error("docs/operations.md has no runbook for it")
			}
		})
	}
}

func TestNoAlertFiresWhileAllIsWell(t *testing.T) {
	if firing := evaluate(t, healthy); len(firing) > 0 {
		t.Errorf("fired: %v", firing)
	}
}

func alertNames(t *testing.T) (names []string) {
	t.Helper()
	for _, g := range load(t, "") {
		for _, r := range g.AlertingRules() {
			names = append(names, r.Name())
		}
	}
	return names
}

// evaluate returns the names of the alerts that fire at some minute of the hour.
func evaluate(t *testing.T, series string) (firing []string) {
	t.Helper()
	groups := load(t, "load 1m\n\t"+series+"\n")
	for minute := range 60 {
		for _, g := range groups {
			g.Eval(t.Context(), time.Unix(0, 0).Add(time.Duration(minute)*time.Minute))
			for _, r := range g.AlertingRules() {
				if r.LastError() != nil {
					t.Fatalf("%s: %v", r.Name(), r.LastError())
				}
				if r.State() == rules.StateFiring && !slices.Contains(firing, r.Name()) {
					firing = append(firing, r.Name())
				}
			}
		}
	}
	return firing
}

// load reads the rules for Prometheus' engine over a storage that holds the series.
func load(t *testing.T, series string) []*rules.Group {
	t.Helper()
	storage := promqltest.LoadedStorage(t, series)
	t.Cleanup(func() { _ = storage.Close() })
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute})
	t.Cleanup(func() { _ = engine.Close() })
	manager := rules.NewManager(&rules.ManagerOptions{
		ExternalURL: &url.URL{}, QueryFunc: rules.EngineQueryFunc(engine, storage), AppendableV2: storage, Queryable: storage,
		Context: context.Background(), Logger: slog.New(slog.DiscardHandler), NotifyFunc: func(context.Context, string, ...*rules.Alert) {},
	})
	loaded, errs := manager.LoadGroups(time.Minute, labels.EmptyLabels(), "", nil, false, ruleFile)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	var groups []*rules.Group
	for _, g := range loaded {
		groups = append(groups, g)
	}
	return groups
}
