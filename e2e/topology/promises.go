package topology

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
)

// Promise is an event that was answered with 202.
type Promise struct {
	EventID string
	Change  Change
}

// Verdict is what became of promises.
type Verdict struct {
	// Ends counts them by the state in which they are.
	Ends map[string]int
	// Unkept are those that are not at an end, and stories that are told differently.
	Unkept []string
	// Stories is how many were also asked for over the API.
	Stories int
	// Took is how long asking took.
	Took time.Duration
}

const (
	// askers is how many promises are asked about at once.
	askers = 48
	// stories is how many promises are also followed over the API, which asks four services for each.
	stories = 2000
	// patience is how long a promise may still be on its way after the knowledge base equals the source: what was superseded is booked last.
	patience = 2 * time.Minute
)

// Judge asks what became of every promise: the services that decide about it, in the order in which it would have ended there. For some of
// them, and for those that no service knows an end of, the API has to tell the same.
func (m *Mesh) Judge(ctx context.Context, promises []Promise, seed uint64) (*Verdict, error) {
	began := time.Now()
	j, err := m.judge()
	if err != nil {
		return nil, err
	}
	defer j.close()
	v := &Verdict{Ends: map[string]int{}}
	told := map[int]bool{}
	rng := rand.New(rand.NewPCG(seed, 2))
	for range min(stories, len(promises)) {
		told[rng.IntN(len(promises))] = true
	}
	var mu sync.Mutex
	next := make(chan int)
	var wg sync.WaitGroup
	for range askers {
		wg.Go(func() {
			for i := range next {
				end, flaw := j.ask(ctx, promises[i], told[i])
				mu.Lock()
				v.Ends[end]++
				if flaw != "" {
					v.Unkept = append(v.Unkept, flaw)
				}
				mu.Unlock()
			}
		})
	}
	for i := range promises {
		next <- i
	}
	close(next)
	wg.Wait()
	v.Stories, v.Took = len(told), time.Since(began)
	return v, nil
}

// judge knows the services.
type judge struct {
	dedupe    dedupev1.DedupeServiceClient
	sequencer sequencerv1.SequencerServiceClient
	embedder  embedderv1.EmbedderServiceClient
	api       *http.Client
	url       string
	conns     []*grpc.ClientConn
}

func (m *Mesh) judge() (*judge, error) {
	j := &judge{api: m.Edge.Client(askers), url: m.Edge.URL}
	dial := map[string]*grpc.ClientConn{}
	for _, service := range []string{"dedupe", "sequencer", "embedder"} {
		conn, err := grpc.NewClient("passthrough:///"+m.Of(service)[0].GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			j.close()
			return nil, fmt.Errorf("dial %s: %w", service, err)
		}
		dial[service], j.conns = conn, append(j.conns, conn)
	}
	j.dedupe, j.sequencer = dedupev1.NewDedupeServiceClient(dial["dedupe"]), sequencerv1.NewSequencerServiceClient(dial["sequencer"])
	j.embedder = embedderv1.NewEmbedderServiceClient(dial["embedder"])
	return j, nil
}

func (j *judge) close() {
	for _, conn := range j.conns {
		_ = conn.Close()
	}
	j.api.CloseIdleConnections()
}

// over says which states are ends.
func over(state string) bool {
	switch state {
	case "embedded", "removed", "superseded", "stale", "duplicate":
		return true
	}
	return false
}

// ask returns the state of a promise, and what is wrong with it.
func (j *judge) ask(ctx context.Context, p Promise, story bool) (state, flaw string) {
	var err error
	for until := time.Now().Add(patience); ; {
		state, err = j.end(ctx, p.EventID)
		if over(state) || ctx.Err() != nil || time.Now().After(until) {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(200*time.Millisecond + rand.N(200*time.Millisecond)):
		}
	}
	if !over(state) || story {
		told, failed := j.story(ctx, p.EventID)
		if told != state {
			return told, fmt.Sprintf("%s of %s: the services say %s (%v), its story %s (%v)", p.EventID, p.Change.EventID, state, err, told, failed)
		}
	}
	if !over(state) {
		return state, fmt.Sprintf("%s of %s: %s %v", p.EventID, p.Change.EventID, state, err)
	}
	return state, ""
}

// end is where an event came to an end: "unknown" if nowhere yet.
func (j *judge) end(ctx context.Context, id string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	e, err := j.embedder.GetEvent(ctx, &embedderv1.GetEventRequest{Id: id})
	switch e.GetEvent().GetOutcome() {
	case embedderv1.Outcome_OUTCOME_EMBEDDED:
		return "embedded", nil
	case embedderv1.Outcome_OUTCOME_REMOVED:
		return "removed", nil
	case embedderv1.Outcome_OUTCOME_SUPERSEDED:
		return "superseded", nil
	}
	if err == nil || status.Code(err) != codes.NotFound {
		return "unknown", err
	}
	q, err := j.sequencer.GetEvent(ctx, &sequencerv1.GetEventRequest{Id: id})
	if q.GetEvent().GetOutcome() == sequencerv1.Outcome_OUTCOME_STALE {
		return "stale", nil
	}
	if err == nil || status.Code(err) != codes.NotFound {
		return "unknown", err
	}
	d, err := j.dedupe.GetEvent(ctx, &dedupev1.GetEventRequest{Id: id})
	if d.GetEvent().GetOutcome() == dedupev1.Outcome_OUTCOME_DUPLICATE {
		return "duplicate", nil
	}
	return "unknown", err
}

// story is the state in an event's story. One that cannot be told now is asked for again.
func (j *judge) story(ctx context.Context, id string) (state string, err error) {
	for range 5 {
		var story struct{ State string }
		if _, err = get(ctx, j.api, j.url+"/v1/events/"+id, &story); err == nil {
			return story.State, nil
		}
		select {
		case <-ctx.Done():
			return "unknown", err
		case <-time.After(200 * time.Millisecond):
		}
	}
	return "unknown", err
}
