package simulation

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/sequencer"
)

var noon = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)

// Whatever a source does and however it reaches us: in the end the knowledge base is what the source holds, every event is
// accounted for, nothing is embedded twice, and no document goes back in time on the way.
func TestAnyHistoryAndAnyDeliveryConverge(t *testing.T) {
	for range 15 { // times rapid's own number of checks: a history takes about two milliseconds
		rapid.Check(t, func(rt *rapid.T) {
			if trouble := converge(t, drawn{rt}, 1+rapid.IntRange(0, 24).Draw(rt, "steps")); trouble != "" {
				rt.Fatal(trouble)
			}
		})
	}
}

// converge plays one history and says what is wrong in the end.
func converge(t testing.TB, d dice, steps int) string {
	p := drawProfile(d)
	w := newWorld(d, p, noon, steps)
	l := newLine(t, w, sequencer.Config{MaxHeld: 1 + d.IntN(5, "held"), MaxHeldTotal: 1 + d.IntN(10, "held in total")})
	l.run(d)
	var trouble []string
	trouble = append(trouble, l.knowledge.differs()...)
	trouble = append(trouble, l.knowledge.broken...)
	trouble = append(trouble, l.unaccounted()...)
	if kept := l.knowledge.kept(); l.knowledge.calls > kept { // nothing fails here: what was asked for is kept
		trouble = append(trouble, fmt.Sprintf("the model was asked %d times for %d embeddings", l.knowledge.calls, kept))
	}
	if len(trouble) == 0 {
		return ""
	}
	return strings.Join(trouble, "\n") + "\n" + w.String() + "\n" + strings.Join(l.log, "\n")
}
