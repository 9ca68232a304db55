package stage_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/stage/stagetest"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

func TestALogThatHasGrownPastThePositionSinceItWasLostOrRestoredIsReadFromItsBeginning(t *testing.T) {
	for name, left := range map[string]int{"made anew": 0, "restored": 4, "restored by a few": 9} {
		t.Run(name, func(t *testing.T) {
			first, second, log := newStore(), newStore(), newMemoryLog()
			log.append("in", inputs("a", 0, 10)...)
			drain(t, log, first, second)
			log.topics["in"] = slices.Clone(log.topics["in"][:left])
			log.append("in", inputs("b", 0, 15)...)
			drain(t, log, first, second)
			before := cameOut(t, log)
			for _, want := range append(inputs("a", 0, 10), inputs("b", 0, 15)...) {
				if before[string(want.Value)] == 0 {
					t.Errorf("%s never came out", want.Value)
				}
			}
			log.append("in", inputs("c", 0, 3)...)
			drain(t, log, first, second)
			for value, n := range cameOut(t, log) {
				if before[value] > 0 && n != before[value] {
					t.Errorf("%s came out once more at the next start, although the log was the same", value)
				}
			}
		})
	}
}

// The time in a record tells two logs apart that hold the same; that the record before the position was trimmed away tells nothing.
func TestOnlyAnotherRecordBeforeThePositionMakesALogBeReadAgain(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func(*testing.T, *stagetest.MemoryLog)
		anew int64
		want int
	}{
		{"the same log", func(*testing.T, *stagetest.MemoryLog) {}, 0, 10 + 2},
		{"trimmed up to the position", func(t *testing.T, log *stagetest.MemoryLog) {
			if err := log.Trim("in", 0, 10); err != nil {
				t.Fatal(err)
			}
		}, 0, 10 + 2},
		{"lost, and the same events sent again", func(t *testing.T, log *stagetest.MemoryLog) {
			log.Lose("in", 0)
			produce(t, log, "a", 10)
		}, 1, 10 + 10 + 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			clock := time.UnixMilli(1_700_000_000_000)
			log := stagetest.NewMemoryLog(1, func() time.Time { clock = clock.Add(time.Millisecond); return clock })
			s, reader := newStore(), sdkmetric.NewManualReader()
			tel := telemetry.Nop()
			tel.MeterProvider = sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
			produce(t, log, "a", 10)
			runUntil(t, log, s, 10, tel)
			tc.do(t, log)
			produce(t, log, "b", 2)
			runUntil(t, log, s, tc.want, tel)
			if n := cameThrough(log); n != tc.want {
				t.Errorf("%d records came out, want %d", n, tc.want)
			}
			if n := sum(t, reader, "hookmesh.stage.logs_begun_anew"); n != tc.anew {
				t.Errorf("%d logs were counted as begun anew, want %d", n, tc.anew)
			}
		})
	}
}

// cut is a log that fails once, when it is asked for the records after so many, and tells so before.
type cut struct {
	*stagetest.MemoryLog
	after  int
	failed func()
}

func (l *cut) Open(ctx context.Context, topic string, partition int, offset int64) (stage.Partition, error) {
	p, err := l.MemoryLog.Open(ctx, topic, partition, offset)
	return &cutPartition{p, l}, err
}

type cutPartition struct {
	stage.Partition
	log *cut
}

func (p *cutPartition) Fetch(ctx context.Context, limit int, wait time.Duration) ([]stage.Record, error) {
	if failed := p.log.failed; failed != nil && cameThrough(p.log.MemoryLog) == p.log.after {
		p.log.failed = nil
		failed()
		return nil, errors.New("the broker does not know the topic")
	}
	return p.Partition.Fetch(ctx, limit, wait)
}

// A topic that is deleted and made anew under a stage that runs may have grown past what the stage had read by the time that it answers again.
func TestATopicThatIsMadeAnewUnderARunningStageIsReadFromItsBeginning(t *testing.T) {
	for name, again := range map[string]int{"empty": 0, "as long as it was": 10, "longer": 25} {
		t.Run(name, func(t *testing.T) {
			clock := time.UnixMilli(1_700_000_000_000)
			log := &cut{MemoryLog: stagetest.NewMemoryLog(1, func() time.Time { clock = clock.Add(time.Millisecond); return clock }), after: 10}
			log.failed = func() {
				log.Lose("in", 0)
				produce(t, log.MemoryLog, "b", again)
			}
			produce(t, log.MemoryLog, "a", 10)
			runUntil(t, log, newStore(), 10+again, telemetry.Nop())
			if n := cameThrough(log.MemoryLog); n != 10+again {
				t.Errorf("%d records came out, want %d", n, 10+again)
			}
		})
	}
}

// readable is a log that can be looked into.
type readable interface {
	stage.Log
	Records(topic string, partition int) []stage.Record
}

// runUntil runs a stage over a log until it has moved as many records to out.
func runUntil(t *testing.T, log readable, s *store, moved int, tel telemetry.Telemetry) {
	t.Helper()
	bounded, end := context.WithTimeout(t.Context(), time.Minute) // a stage that skips records would wait for ever
	defer end()
	ctx, cancel := context.WithCancelCause(bounded)
	defer cancel(nil)
	enough := errors.New("enough")
	r, err := stage.New(stage.Config{Name: "in", Topic: "in", BatchSize: 4}, s, log, noting{to: "out"}, tel)
	if err != nil {
		t.Fatal(err)
	}
	err = r.RunPartition(ctx, 0, func(int64) error {
		if cameThrough(log) >= moved {
			cancel(enough)
		}
		return nil
	})
	if !errors.Is(err, enough) {
		t.Fatal(err)
	}
}

// cameThrough counts the outputs as the stage below does: by their links, for the outbox is produced again at a start.
func cameThrough(log readable) int {
	links := map[string]bool{}
	for _, r := range log.Records("out", 0) {
		links[stage.Carrier{Headers: &r.Headers}.Get(stage.LinkHeader)] = true
	}
	return len(links)
}

func produce(t *testing.T, log *stagetest.MemoryLog, prefix string, n int) {
	t.Helper()
	outs := inputs(prefix, 0, n)
	for i := range outs {
		outs[i].Topic = "in"
	}
	if err := log.Produce(t.Context(), outs); err != nil {
		t.Fatal(err)
	}
}

func sum(t *testing.T, reader *sdkmetric.ManualReader, name string) (n int64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if data, ok := m.Data.(metricdata.Sum[int64]); ok && m.Name == name {
				for _, p := range data.DataPoints {
					n += p.Value
				}
				return n
			}
		}
	}
	t.Errorf("nobody counts %s", name)
	return 0
}
