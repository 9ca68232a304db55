//go:build kafka

package mesh_test

import (
	"testing"

	"github.com/hookmesh/hookmesh/e2e/apart"
	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// The tests of this package over separate processes on Apache Kafka and PostgreSQL. To kill the process means to kill all services at once there. Not
// among them are those of `hookmesh backup`, which copies SQLite's files: e2e/topology restores a backup of PostgreSQL.
func TestSeparateProcesses(t *testing.T) {
	ground, err := apart.Prepare(t)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ground.End)
	one := start
	t.Cleanup(func() { start = one })
	start = func(tb testing.TB, extra string) *mesh.Mesh {
		tb.Helper()
		return ground.Begin(tb, "", mesh.Docs+extra)
	}
	for name, test := range map[string]func(*testing.T){
		"a webhook becomes a searchable answer under one trace": TestAWebhookBecomesASearchableAnswerUnderOneTrace,
		"bad input gets a clear answer and loses nothing":       TestBadInputGetsAClearAnswerAndLosesNothing,
		"killing everything loses nothing and repeats nothing":  TestKillingTheProcessLosesNothingAndRepeatsNothing,
		"any history converges while everything is killed":      TestAnyHistoryConvergesWhileTheProcessIsKilled,
		"an operator sees a gap and ends it by hand":            TestAnOperatorSeesAGapAndEndsItByHand,
		"an operator closes a hole in the numbers of a source":  TestAnOperatorClosesAHoleInTheNumbersOfASource,
		"an operator looks up a first delivery and forgets it":  TestAnOperatorLooksUpAFirstDeliveryAndForgetsIt,
	} {
		t.Run(name, test)
	}
}
