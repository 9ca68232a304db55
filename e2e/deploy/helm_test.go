package deploy_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

var chartDir = filepath.Join(root, "deploy/helm/hookmesh")

// everything turns all of the chart on.
const everything = `
existingSecret: secrets
mtlsSecret: tls
store: {dsn: "${HOOKMESH_DSN}"}
kafka: {brokers: ["k1:9092", "k2:9092"], partitions: 8, settings: {replication_factor: 3}}
otlp: {endpoint: "http://collector:4318"}
ingress: {enabled: true, host: hooks.example.com, tlsSecret: edge}
serviceMonitor: {enabled: true}
alerting: {enabled: true, secret: alerts}
networkPolicy: {ingressNamespaceLabels: {name: ingress}}
config:
  sources:
    - {name: docs, preset: generic-hmac, secrets: [{value: "${DOCS_SECRET}"}], content: {inline: content}}
services:
  gateway: {hpa: {enabled: true}}
  verifier: {replicas: 2, hpa: {enabled: true}}
  dedupe: {replicas: 2, keda: {enabled: true}}
  sequencer: {replicas: 2, keda: {enabled: true}}
  embedder: {replicas: 2, keda: {enabled: true}}
  reconciler: {replicas: 2}
`

// plain is the chart as it is without settings, on SQLite.
const plain = "config: {sources: []}\n"

func render(t *testing.T, values string) (map[string]string, error) {
	t.Helper()
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	all, err := chartutil.ToRenderValues(chart, given, chartutil.ReleaseOptions{Name: "mesh", Namespace: "hooks"}, chartutil.DefaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	return engine.Render(chart, all)
}

func TestTheChartIsLinted(t *testing.T) {
	for name, values := range map[string]string{"plain": plain, "everything": everything} {
		given, err := chartutil.ReadValues([]byte(values))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range lint.All(chartDir, given, "hooks", true).Messages {
			if m.Severity > support.InfoSev {
				t.Errorf("%s: %v", name, m)
			}
		}
	}
}

// known are the types into which objects are decoded, strictly: an unknown or misspelt field is an error. Others are not Kubernetes' own.
var known = map[string]func() any{
	"StatefulSet": func() any { return &appsv1.StatefulSet{} }, "Service": func() any { return &corev1.Service{} },
	"ConfigMap": func() any { return &corev1.ConfigMap{} }, "NetworkPolicy": func() any { return &networkingv1.NetworkPolicy{} },
	"Ingress": func() any { return &networkingv1.Ingress{} }, "PodDisruptionBudget": func() any { return &policyv1.PodDisruptionBudget{} },
	"HorizontalPodAutoscaler": func() any { return &autoscalingv2.HorizontalPodAutoscaler{} },
	"Job":                     func() any { return &batchv1.Job{} },
	"ScaledObject":            nil, "ServiceMonitor": nil, "PrometheusRule": nil, "AlertmanagerConfig": nil,
}

// objects renders the chart and decodes what comes out, by kind.
func objects(t *testing.T, values string) map[string][]any {
	t.Helper()
	files, err := render(t, values)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]any{}
	for file, content := range files {
		if !strings.HasSuffix(file, ".yaml") {
			continue
		}
		for _, doc := range strings.Split("\n"+content, "\n---") {
			var meta struct {
				metav1.TypeMeta   `json:",inline"`
				metav1.ObjectMeta `json:"metadata"`
			}
			if err := yaml.Unmarshal([]byte(doc), &meta); err != nil {
				t.Fatalf("%s: %v\n%s", file, err, doc)
			}
			if meta.Kind == "" {
				continue
			}
			make, ok := known[meta.Kind]
			if !ok {
				t.Errorf("%s: nobody checks a %s", file, meta.Kind)
				continue
			}
			if make == nil {
				found[meta.Kind] = append(found[meta.Kind], meta)
				continue
			}
			object := make()
			if err := yaml.UnmarshalStrict([]byte(doc), object); err != nil {
				t.Errorf("%s, %s %s: %v", file, meta.Kind, meta.Name, err)
			}
			found[meta.Kind] = append(found[meta.Kind], object)
		}
	}
	return found
}

func TestTheChartRendersWhatKubernetesUnderstands(t *testing.T) {
	counts := func(found map[string][]any) map[string]int {
		n := map[string]int{}
		for kind, list := range found {
			n[kind] = len(list)
		}
		return n
	}
	for name, tc := range map[string]struct {
		values string
		want   map[string]int
	}{
		"plain":      {plain, map[string]int{"StatefulSet": 6, "Service": 7, "ConfigMap": 1, "NetworkPolicy": 6, "PodDisruptionBudget": 1}},
		"everything": {everything, map[string]int{"StatefulSet": 6, "Service": 7, "ConfigMap": 2, "Job": 1, "NetworkPolicy": 6, "PodDisruptionBudget": 6, "Ingress": 1, "HorizontalPodAutoscaler": 2, "ScaledObject": 3, "ServiceMonitor": 6, "PrometheusRule": 1, "AlertmanagerConfig": 1}},
	} {
		found := objects(t, tc.values)
		if got := counts(found); fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
		for _, o := range found["StatefulSet"] {
			checkWorkload(t, o.(*appsv1.StatefulSet))
		}
	}
}

// The schemas are there before the services: the Job is a hook that runs first, and what it reads is there before it.
func TestTheChartMigratesTheDatabaseBeforeTheServicesStart(t *testing.T) {
	found := objects(t, everything)
	if len(found["Job"]) != 1 {
		t.Fatalf("%d jobs", len(found["Job"]))
	}
	job := found["Job"][0].(*batchv1.Job)
	pod := job.Spec.Template.Spec
	c := pod.Containers[0]
	if job.Annotations["helm.sh/hook"] != "pre-install,pre-upgrade" || !slices.Equal(c.Args, []string{"migrate", "--config", "/etc/hookmesh/hookmesh.yaml"}) {
		t.Errorf("the job is %v and runs %v", job.Annotations, c.Args)
	}
	if !*pod.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem || pod.RestartPolicy != corev1.RestartPolicyNever || c.Resources.Limits.Memory().IsZero() {
		t.Error("the job has more rights than it needs, or no bounds")
	}
	if len(c.EnvFrom) != 1 || c.EnvFrom[0].SecretRef.Name != "secrets" {
		t.Error("the job does not take its secrets from the Secret")
	}
	data := map[bool]string{}
	for _, o := range found["ConfigMap"] {
		m := o.(*corev1.ConfigMap)
		hook := m.Annotations["helm.sh/hook"] != ""
		data[hook] = strings.TrimSpace(m.Data["hookmesh.yaml"])
		if hook && (m.Name != pod.Volumes[0].ConfigMap.Name || m.Annotations["helm.sh/hook-weight"] >= job.Annotations["helm.sh/hook-weight"]) {
			t.Errorf("%s is not there before the job, which mounts %s", m.Name, pod.Volumes[0].ConfigMap.Name)
		}
	}
	if data[true] == "" || data[true] != data[false] {
		t.Errorf("the job reads another configuration than the services:\n%s", data[true])
	}
	for _, without := range []string{plain, everything + "\nmigrate: {enabled: false}\n"} {
		if found := objects(t, without); len(found["Job"]) != 0 || len(found["ConfigMap"]) != 1 {
			t.Errorf("%d jobs and %d configurations without a database, or switched off", len(found["Job"]), len(found["ConfigMap"]))
		}
	}
}

// checkWorkload wants what every pod must have.
func checkWorkload(t *testing.T, s *appsv1.StatefulSet) {
	t.Helper()
	pod := s.Spec.Template.Spec
	c := pod.Containers[0]
	switch {
	case c.ReadinessProbe == nil || c.LivenessProbe == nil || c.StartupProbe == nil:
		t.Errorf("%s lacks a probe", s.Name)
	case !*pod.SecurityContext.RunAsNonRoot || !*c.SecurityContext.ReadOnlyRootFilesystem || *c.SecurityContext.AllowPrivilegeEscalation:
		t.Errorf("%s has more rights than it needs", s.Name)
	case c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero():
		t.Errorf("%s does not say what memory it needs", s.Name)
	case fmt.Sprint(s.Spec.Selector.MatchLabels) == "" || s.Spec.Template.Labels["app.kubernetes.io/component"] == "":
		t.Errorf("%s does not select its pods", s.Name)
	case len(c.EnvFrom) != 1 || c.EnvFrom[0].SecretRef == nil:
		t.Errorf("%s does not take its secrets from a Secret", s.Name)
	case len(c.Args) < 2 || !slices.Contains(c.Args, "--config"):
		t.Errorf("%s starts %v", s.Name, c.Args)
	}
}

func TestTheChartRefusesReplicasThatWouldNotShareTheirState(t *testing.T) {
	for _, values := range []string{"services: {dedupe: {replicas: 2}}", "services: {embedder: {keda: {enabled: true}}}"} {
		if _, err := render(t, values); err == nil || !strings.Contains(err.Error(), "store.dsn") {
			t.Errorf("%s: %v", values, err)
		}
	}
}

func TestTheChartsConfigurationIsAccepted(t *testing.T) {
	values := `
kafka: {brokers: ["127.0.0.1:1"], settings: {sasl: {mechanism: scram-sha-512, username: hookmesh, password: "${DOCS_SECRET}"}, replication_factor: 3}}
config:
  sources:
    - {name: docs, preset: generic-hmac, secrets: [{value: "${DOCS_SECRET}"}], content: {inline: content}}
`
	accepted(t, objects(t, values)["ConfigMap"][0].(*corev1.ConfigMap).Data["hookmesh.yaml"])
}

// accepted hands a configuration, moved to this machine, to the program and wants no complaint about it.
func accepted(t *testing.T, config string) {
	t.Helper()
	dir := t.TempDir()
	config = strings.ReplaceAll(config, "/data", dir)
	for _, port := range []string{"8080", "9090", "9100"} {
		config = strings.ReplaceAll(config, "0.0.0.0:"+port, "127.0.0.1:0")
	}
	file := filepath.Join(dir, "hookmesh.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Nobody listens where the brokers are said to be: checking the topics fails, but only after the configuration was read.
	cmd := exec.CommandContext(ctx, mesh.Binary(t), "topics", "check", "--config", file)
	cmd.Env = append(os.Environ(), "DOCS_SECRET=secret", "HOSTNAME=mesh-dedupe-0", "HOOKMESH_KEY="+strings.Repeat("0f", 32), "HOOKMESH_DSN=postgres://h/d")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err == nil || strings.Contains(out.String(), "problem(s)") {
		t.Errorf("%v\n%s\n%s", err, out.String(), config)
	}
}
