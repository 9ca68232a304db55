//go:build kafka

package topology_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

// fresh are n changes, each of a document of its own.
func fresh(prefix string, n int) ([]topology.Change, map[string]topology.Change) {
	changes, final := make([]topology.Change, n), map[string]topology.Change{}
	for i := range changes {
		id := fmt.Sprintf("%s-%d", prefix, i)
		changes[i] = topology.Change{DocumentID: id, EventID: id, Action: "created", Sequence: 1, Title: "Title of " + id, Content: "The text of " + id + " in version 1."}
		final[id] = changes[i]
	}
	return changes, final
}

// Durable 202s per second over the separate processes, Apache Kafka (acks=all) and PostgreSQL, beside the embedded mode, in one run. Kafka has
// three nodes, each record in two of them at least, and then one, which has it on its disk; MESH_BROKERS asks for one number only. Each topic has
// as many partitions as there are nodes, unless MESH_PARTITIONS says otherwise: a write waits for the disk once per partition that it touches. The
// senders talk to the gateways themselves in both modes. What stands behind the gateways gives way to them, as it does inside one process.
// MESH_PROFILE is a folder for profiles of all services.
func TestBenchMesh(t *testing.T) {
	events, connections := setting(t, "MESH_EVENTS", 20_000), setting(t, "MESH_CONNECTIONS", 64)
	nodes := []int{3, 1}
	if n := setting(t, "MESH_BROKERS", 0); n > 0 {
		nodes = []int{n}
	}
	for _, n := range nodes {
		t.Run(fmt.Sprintf("kafka=%d", n), func(t *testing.T) { benchMesh(t, n, events, connections) })
	}
	e := mesh.Start(t, "")
	sendAll(t, "embedded", e.HTTP, topology.PlainClient(connections), events, connections)
}

// sendAll delivers so many documents and tells how fast they were taken.
func sendAll(t *testing.T, name, url string, client *http.Client, events, connections int) map[string]topology.Change {
	t.Helper()
	changes, final := fresh("d", events)
	began := time.Now()
	r := topology.Send(t.Context(), client, url, changes, connections, topology.Mischief{}, 1)
	took := time.Since(began)
	t.Logf("%s: %d durable 202s in %.1fs: %.0f/s, p50 %s, p99 %s, over %d connections; answers %v", name, len(r.Promises), took.Seconds(),
		float64(len(r.Promises))/took.Seconds(), r.Percentile(.5).Round(100*time.Microsecond), r.Percentile(.99).Round(100*time.Microsecond), connections, r.Answers)
	for _, w := range r.Wrong {
		t.Error(w)
	}
	return final
}

func benchMesh(t *testing.T, nodes, events, connections int) {
	t.Helper()
	m := startMesh(t, topology.Options{Brokers: nodes, Replicas: map[string]int{"gateway": 2, "verifier": 2}, Direct: true, Partitions: setting(t, "MESH_PARTITIONS", nodes)})
	if shared := topology.SharedBySession(); shared != "" {
		t.Log(shared)
	}
	if err := m.StandBack(setting(t, "MESH_NICE", 12)); err != nil {
		t.Fatal(err)
	}
	// A Java program that has just started compiles itself; nobody measures a cluster in its first seconds.
	known := warm(t, m, setting(t, "MESH_WARM", 4_000), connections)
	if dir := os.Getenv("MESH_PROFILE"); dir != "" {
		go m.Profile(t.Context(), dir, 5*time.Second)
	}
	before := m.Costs()
	maps.Copy(known, sendAll(t, fmt.Sprintf("separate processes, Apache Kafka on %d nodes", nodes), "http://gateways", m.Gateways(connections), events, connections))
	t.Logf("  processor µs per event while they came: %s", m.Costs().Since(before).Per(events))
	t.Logf("  records per batch until now: %s", batches(t, m))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	t.Logf("  all of it searchable %.1fs later", converge(ctx, t, m, known).Seconds())
	t.Logf("  processor µs per event until then: %s", m.Costs().Since(before).Per(events))
	var resident []string
	for _, in := range m.Instances {
		resident = append(resident, fmt.Sprintf("%s %d", in.Name, in.Resident()>>20))
	}
	t.Logf("  MiB resident: %s", strings.Join(resident, ", "))
	m.Kill()
}

// batches says how many records a stage's transactions hold on average.
func batches(t testing.TB, m *topology.Mesh) string {
	t.Helper()
	sums, names := map[string][2]float64{}, []string{"hookmesh_stage_records_total", "hookmesh_stage_batches_total"}
	for _, in := range m.Instances {
		sum := sums[in.Service]
		for i, name := range names {
			n, err := in.Metric(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			sum[i] += n
		}
		sums[in.Service] = sum
	}
	var parts []string
	for _, service := range topology.Services() {
		if sum := sums[service]; sum[1] > 0 {
			parts = append(parts, fmt.Sprintf("%s %.1f (%.0f batches)", service, sum[0]/sum[1], sum[1]))
		}
	}
	return strings.Join(parts, ", ")
}

// warm sends events that are not measured and waits until they are searchable.
func warm(t testing.TB, m *topology.Mesh, n, connections int) map[string]topology.Change {
	t.Helper()
	changes, final := fresh("warm", n)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	topology.Send(ctx, m.Gateways(connections), "http://gateways", changes, connections, topology.Mischief{}, 1)
	sent := time.Since(began)
	t.Logf("warm-up: %d events accepted at %.0f/s, searchable %.1fs later", n, float64(n)/sent.Seconds(), converge(ctx, t, m, final).Seconds())
	return final
}

// Events per second from the first webhook to the last searchable document, and processor time per event and service, with 1, 2 and 4 of
// each consumer. All of them share this machine, so more replicas than processors show what sharing costs, not what machines add.
func TestBenchScale(t *testing.T) {
	events, connections := setting(t, "MESH_EVENTS", 4_000), setting(t, "MESH_CONNECTIONS", 64)
	// Each row has a few minutes; a machine on which that is not enough says so instead of taking the afternoon.
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	var table strings.Builder
	w := tabwriter.NewWriter(&table, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := append(topology.Services(), "kafka", "postgres", "test")
	fmt.Fprintf(w, "of each consumer\taccepted/s\tsearchable/s\t%s\tMiB resident\t\n", strings.Join(columns, "\t"))
	for _, n := range []int{1, 2, 4} {
		m := startMesh(t, topology.Options{
			Brokers: setting(t, "MESH_BROKERS", 3), Partitions: 8, Direct: true, Replicas: map[string]int{"dedupe": n, "sequencer": n, "embedder": n},
		})
		known := warm(t, m, setting(t, "MESH_WARM", 2_000), connections)
		before, began := m.Costs(), time.Now()
		changes, final := fresh("d", events)
		maps.Copy(known, final)
		topology.Send(ctx, m.Gateways(connections), "http://gateways", changes, connections, topology.Mischief{}, 1)
		sent := time.Since(began)
		converge(ctx, t, m, known)
		took := time.Since(began)
		costs := m.Costs().Since(before)
		fmt.Fprintf(w, "%d\t%.0f\t%.0f", n, float64(events)/sent.Seconds(), float64(events)/took.Seconds())
		for _, who := range columns {
			fmt.Fprintf(w, "\t%d", costs[who].Microseconds()/int64(events))
		}
		largest := int64(0)
		for _, in := range m.Instances {
			largest = max(largest, in.Resident()>>20)
		}
		fmt.Fprintf(w, "\t%d\t\n", largest)
		t.Logf("%d of each consumer: %.0f/s searchable, processor µs per event: %s; records per batch: %s", n, float64(events)/took.Seconds(), costs.Per(events), batches(t, m))
		m.Kill()
	}
	_ = w.Flush() // a strings.Builder takes everything
	t.Logf("%d events of %d documents over %d connections; processor µs per event by who took it; the largest service's memory:\n%s", events, events, connections, table.String())
}
