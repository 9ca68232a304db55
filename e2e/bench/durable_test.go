package bench

import (
	"fmt"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

const (
	rounds        = 5
	roundDuration = 3 * time.Second
)

// BenchmarkDurable202 compares hookmesh's durable 202 with the baseline, and counts the events at the end of the pipe. The
// two take turns, in processes of their own; while the baseline is measured, hookmesh is stopped, because otherwise its
// background would take processors from the baseline. The ratio of throughputs is the median over the rounds, latencies are
// those of all rounds together.
func BenchmarkDurable202(b *testing.B) {
	url, pid := startBaseline(b)
	m := mesh.Start(b, "telemetry: {traces_per_second: 20}\n")
	base, hook := newSender(b, url, pid), newSender(b, m.HTTP+"/webhooks/docs", m.PID())
	for b.Loop() {
		var ratios []float64
		var r0, r1 round
		var cpu0, cpu1, rate0, rate1 []float64
		for range rounds {
			resume := pause(b, m.PID())
			x := base.load(b, roundDuration)
			resume()
			y := hook.load(b, roundDuration)
			ratios = append(ratios, y.perSecond/x.perSecond)
			rate0, rate1 = append(rate0, x.perSecond), append(rate1, y.perSecond)
			cpu0, cpu1 = append(cpu0, float64(x.cpu.Microseconds())), append(cpu1, float64(y.cpu.Microseconds()))
			r0.latencies, r1.latencies = append(r0.latencies, x.latencies...), append(r1.latencies, y.latencies...)
			r1.accepted += y.accepted
			b.Logf("baseline %.0f/s p99 %.1f ms %.0f µs; hookmesh %.0f/s p99 %.1f ms %.0f µs; ratio %.2f", x.perSecond, quantile(x.latencies, .99), cpu0[len(cpu0)-1],
				y.perSecond, quantile(y.latencies, .99), cpu1[len(cpu1)-1], ratios[len(ratios)-1])
		}
		p99 := [2]float64{quantile(r0.latencies, .99), quantile(r1.latencies, .99)}
		b.ReportMetric(median(rate0), "baseline/s")
		b.ReportMetric(p99[0], "baseline-p99-ms")
		b.ReportMetric(median(cpu0), "baseline-cpu-µs/req")
		b.ReportMetric(median(rate1), "hookmesh/s")
		b.ReportMetric(quantile(r1.latencies, .5), "hookmesh-p50-ms")
		b.ReportMetric(p99[1], "hookmesh-p99-ms")
		b.ReportMetric(median(cpu1), "hookmesh-cpu-µs/req")
		b.ReportMetric(median(ratios), "throughput-ratio")
		b.ReportMetric(p99[1]/p99[0], "p99-ratio")
		began := time.Now()
		untilAtTheEnd(b, m, r1.accepted)
		b.ReportMetric(float64(r1.accepted), "events")
		b.ReportMetric(time.Since(began).Seconds(), "drained-after-s")
		b.ReportMetric(rss(b, m), "after-MB")
	}
}

// untilAtTheEnd waits until so many documents are current in the knowledge base: every accepted event was about its own.
func untilAtTheEnd(b *testing.B, m *mesh.Mesh, accepted int64) {
	m.Until(10*time.Minute, "every accepted event is at the end of the pipe", func() error {
		current, token := int64(0), ""
		for {
			var page struct {
				Documents     []struct{ State string }
				NextPageToken string
			}
			if err := m.GetJSON("/v1/documents?source=docs&pageSize=1000&pageToken="+token, &page); err != nil {
				return err
			}
			for _, d := range page.Documents {
				if d.State == "DOCUMENT_STATE_CURRENT" {
					current++
				}
			}
			if token = page.NextPageToken; token == "" {
				break
			}
		}
		if current != accepted {
			<-time.After(time.Second)
			return fmt.Errorf("%d of %d", current, accepted)
		}
		return nil
	})
}
