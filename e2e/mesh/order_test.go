package mesh_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// step is one change of a history, as the source tells it.
type step struct {
	DocumentID string `json:"document_id"`
	EventID    string `json:"event_id"`
	Action     string `json:"action"`
	Sequence   int64  `json:"sequence"`
	OccurredAt string `json:"occurred_at"`
	Title      string `json:"title"`
	Content    string `json:"content"`
}

// history makes changes (create, edit, delete, create again, delete a whole space) and the version that each document must
// have in the end; absent: it is gone.
func history(rng *rand.Rand, n int) ([]step, map[string]int64) {
	began := time.Now().Add(-time.Hour)
	lives := map[string]int64{}
	steps := make([]step, n)
	for i := range steps {
		doc := fmt.Sprintf("space-%d/doc-%d", rng.IntN(3), rng.IntN(6))
		seq := int64(i + 1)
		s := step{DocumentID: doc, EventID: fmt.Sprint("event-", i), Action: "updated", Sequence: seq, Title: doc,
			OccurredAt: began.Add(time.Duration(i) * time.Second).UTC().Format(time.RFC3339Nano), Content: fmt.Sprintf("The text of %s as of %d.", doc, seq)}
		switch what := rng.IntN(20); {
		case what == 0:
			s.DocumentID, s.Action, s.Content = strings.Split(doc, "/")[0], "subtree-deleted", ""
			for other := range lives {
				if strings.HasPrefix(other, s.DocumentID+"/") {
					delete(lives, other)
				}
			}
		case lives[doc] == 0:
			s.Action = "created"
			lives[doc] = seq
		case what < 4:
			s.Action, s.Content = "deleted", ""
			delete(lives, doc)
		default:
			lives[doc] = seq
		}
		steps[i] = s
	}
	return steps, lives
}

// The histories of the simulation against the built program: delivered out of order and twice, while the process is killed
// again and again. In the end the knowledge base is what the source holds.
func TestAnyHistoryConvergesWhileTheProcessIsKilled(t *testing.T) {
	m := start(t, "")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	steps, want := history(rng, 300)
	var deliveries []step
	for _, s := range steps {
		for range 1 + rng.IntN(2) {
			deliveries = append(deliveries, s)
		}
	}
	const window = 40 // how far apart deliveries may overtake each other
	for at := 0; at < len(deliveries); at += window / 2 {
		part := deliveries[at:min(at+window, len(deliveries))]
		rng.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	queue := make(chan step)
	var senders sync.WaitGroup
	for range 4 {
		senders.Go(func() {
			for s := range queue {
				for { // a good sender repeats until it is answered
					status, _, err := m.Send(s)
					if err == nil && (status == http.StatusAccepted || status == http.StatusOK) {
						break
					}
					<-time.After(20 * time.Millisecond)
				}
			}
		})
	}
	kills := map[int]bool{}
	for range 4 {
		kills[rng.IntN(len(deliveries))] = true
	}
	for i, s := range deliveries {
		queue <- s
		if kills[i] {
			m.Kill()
			m.Up()
		}
		<-time.After(time.Millisecond)
	}
	close(queue)
	senders.Wait()
	m.Kill() // with whatever is on its way
	m.Up()
	m.Until(60*time.Second, "the knowledge base is what the source holds", func() error {
		var list struct {
			Documents []struct{ DocumentID, Version, State string }
		}
		if err := m.GetJSON("/v1/documents?source=docs&pageSize=1000", &list); err != nil {
			return err
		}
		found := 0
		for _, d := range list.Documents {
			version, lives := want[d.DocumentID]
			switch {
			case !lives && d.State != "DOCUMENT_STATE_DELETED":
				return fmt.Errorf("%s is %s at version %s, and is gone at the source", d.DocumentID, d.State, d.Version)
			case lives && (d.State != "DOCUMENT_STATE_CURRENT" || d.Version != fmt.Sprint(version)):
				return fmt.Errorf("%s is %s at version %s, the source is at %d", d.DocumentID, d.State, d.Version, version)
			case lives:
				found++
			}
		}
		if found != len(want) {
			return fmt.Errorf("%d of %d documents are there", found, len(want))
		}
		return nil
	})
	t.Logf("%d changes in %d deliveries, %d kills, %d documents live", len(steps), len(deliveries), len(kills)+1, len(want))
}
