package deploy_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// On one host the services behind the log give way to those that take deliveries in.
func TestWhatStandsBehindTheLogGivesWay(t *testing.T) {
	behind := []string{"dedupe", "sequencer", "embedder", "reconciler", "postgres"}
	for name, service := range loadCompose(t).Services {
		if gives := service.CPUShares > 0 && service.CPUShares < 1024; gives != slices.Contains(behind, name) {
			t.Errorf("%s has %d CPU shares", name, service.CPUShares)
		}
	}
}

func loadCompose(t *testing.T) *types.Project {
	t.Helper()
	opts, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithName("hookmesh"), cli.WithEnv([]string{"DOCS_SECRET=x", "HOOKMESH_KEY=y"}), cli.WithResolvedPaths(true))
	if err != nil {
		t.Fatal(err)
	}
	project, err := opts.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return project
}

func TestTheComposeFileLoadsAndIsWhole(t *testing.T) {
	project := loadCompose(t)
	for _, want := range []string{"proxy", "gateway-1", "gateway-2", "verifier", "dedupe", "sequencer", "embedder", "reconciler", "kafka-1", "kafka-2", "kafka-3",
		"postgres", "migrate", "collector", "jaeger", "loki", "prometheus", "alertmanager", "grafana"} {
		if _, err := project.GetService(want); err != nil {
			t.Errorf("%v", err)
		}
	}
	for name, service := range project.Services {
		if service.Image == "" && service.Build == nil {
			t.Errorf("%s has neither image nor build", name)
		}
		for _, v := range service.Volumes {
			if v.Type != "bind" {
				continue
			}
			if _, err := os.Stat(v.Source); err != nil {
				t.Errorf("%s mounts what is not there: %v", name, err)
			}
		}
		for _, p := range service.Ports {
			if p.HostIP == "" && name != "proxy" {
				t.Errorf("%s is published on every interface; only the proxy may be", name)
			}
		}
		if strings.HasPrefix(name, "kafka-") && *service.Environment["KAFKA_MIN_INSYNC_REPLICAS"] != "2" {
			t.Errorf("%s does not want two replicas in sync", name)
		}
		if service.Image == "hookmesh" && (!service.ReadOnly || !slices.Contains(service.CapDrop, "ALL")) {
			t.Errorf("%s may write to its image or keeps capabilities", name)
		}
		if service.Image != "hookmesh" {
			continue
		}
		if dsn := service.Environment["HOOKMESH_DSN"]; dsn == nil || !strings.Contains(*dsn, "@postgres:") {
			t.Errorf("%s does not know the database", name)
		}
		if _, waits := service.DependsOn["migrate"]; !waits && name != "topics" && name != "migrate" {
			t.Errorf("%s may start before the database has its schemas", name)
		}
	}
}

// The configuration in the compose file is one that the program accepts, for the very services that are started.
func TestTheComposeFilesConfigurationIsAccepted(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "deploy/hookmesh.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	accepted(t, string(raw))
}

func TestTheProxySendsWebhooksToTheGatewaysThatThereAre(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "deploy/caddy/Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	project := loadCompose(t)
	upstreams := 0
	for word := range strings.FieldsSeq(string(raw)) {
		if name, ok := strings.CutSuffix(word, ":8080"); ok {
			upstreams++
			if _, err := project.GetService(name); err != nil {
				t.Error(err)
			}
		}
	}
	if upstreams != 2 {
		t.Errorf("%d upstreams", upstreams)
	}
}

// What checks the files is what reads them in production: scripts/tool.sh builds the versions of the images. Modules have other numbers:
// Prometheus 3.16 is v0.316, Jaeger 2.13 is v1.76.0 and a collector 0.140 with more components.
func TestTheToolsThatCheckTheFilesHaveTheVersionsOfTheImages(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(root, "scripts/tool.sh"))
	if err != nil {
		t.Fatal(err)
	}
	project := loadCompose(t)
	type version struct {
		image string
		tools []string
	}
	for service, want := range map[string]version{
		"prometheus":   {"prom/prometheus:v3.16.0", []string{"cmd/prometheus v0.316.0", "cmd/promtool v0.316.0"}},
		"alertmanager": {"prom/alertmanager:v0.35.0", []string{"cmd/alertmanager v0.35.0", "cmd/amtool v0.35.0"}},
		"proxy":        {"caddy:2.11.9", []string{"cmd/caddy v2.11.9"}},
		"jaeger":       {"jaegertracing/jaeger:2.13.0", []string{"cmd/jaeger v1.76.0"}},
		"collector":    {"otel/opentelemetry-collector-contrib:0.140.0", []string{"cmd/jaeger v1.76.0"}},
	} {
		if got := project.Services[service].Image; got != want.image {
			t.Errorf("%s runs %s; change this table and scripts/tool.sh with it", service, got)
		}
		for _, tool := range want.tools {
			if !strings.Contains(string(raw), tool) {
				t.Errorf("scripts/tool.sh does not build %s, which checks the files of %s", tool, want.image)
			}
		}
	}
}
