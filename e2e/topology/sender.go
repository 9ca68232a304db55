package topology

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Change is one webhook of the source "docs".
type Change struct {
	DocumentID string `json:"document_id"`
	EventID    string `json:"event_id"`
	Action     string `json:"action"`
	Sequence   int64  `json:"sequence"`
	Title      string `json:"title"`
	Content    string `json:"content"`
}

// Plan makes n changes over documents, each with its own counter, and the state of the source at their end. The order is that in which they
// are sent: neighbours are shuffled.
func Plan(rng *rand.Rand, n, documents, window int) (changes []Change, final map[string]Change) {
	final = map[string]Change{}
	for i := range n {
		id := fmt.Sprintf("doc-%d", rng.IntN(documents))
		c := Change{DocumentID: id, Sequence: final[id].Sequence + 1, Action: "updated", Title: "Title of " + id}
		c.EventID = fmt.Sprintf("%s-%d", id, c.Sequence)
		c.Content = fmt.Sprintf("The text of %s in version %d, written as number %d.", id, c.Sequence, i)
		if final[id].Action == "deleted" || c.Sequence == 1 {
			c.Action = "created"
		} else if rng.IntN(20) == 0 {
			c.Action, c.Content = "deleted", ""
		}
		final[id] = c
		changes = append(changes, c)
	}
	for from := 0; from < n; from += window {
		part := changes[from:min(n, from+window)]
		rng.Shuffle(len(part), func(i, j int) { part[i], part[j] = part[j], part[i] })
	}
	return changes, final
}

// Report is what senders saw.
type Report struct {
	mu sync.Mutex
	// Promises are the events of all 202s.
	Promises []Promise
	// Answers counts answers by status; 0: none came.
	Answers map[int]int
	// BrokenOff is how many of the 502s the proxy of the test made, because a gateway broke off in the middle.
	BrokenOff int
	// Took are the durations of the 202s.
	Took []time.Duration
	// Wrong are answers that must not be.
	Wrong []string
	// LongestStall is the longest time without a 202.
	LongestStall time.Duration
	// Times are when the 202s came, in their order.
	Times []time.Time
}

func (r *Report) note(status int, raw []byte, took time.Duration, c Change, forged bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Answers[status]++
	if forged {
		if status == http.StatusAccepted || status == http.StatusOK {
			r.Wrong = append(r.Wrong, fmt.Sprintf("a forged delivery was answered %d: %s", status, raw))
		}
		return
	}
	if status != http.StatusAccepted {
		return
	}
	now := time.Now()
	if n := len(r.Times); n > 0 {
		r.LongestStall = max(r.LongestStall, now.Sub(r.Times[n-1]))
	}
	r.Times = append(r.Times, now)
	r.Took = append(r.Took, took)
	var answer struct{ Events []struct{ ID string } }
	if err := json.Unmarshal(raw, &answer); err != nil || len(answer.Events) != 1 {
		r.Wrong = append(r.Wrong, fmt.Sprintf("a 202 without its event: %s", raw))
		return
	}
	r.Promises = append(r.Promises, Promise{answer.Events[0].ID, c})
}

// Percentile of the durations of the 202s, p between 0 and 1.
func (r *Report) Percentile(p float64) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.Took) == 0 {
		return 0
	}
	slices.Sort(r.Took)
	return r.Took[min(len(r.Took)-1, int(p*float64(len(r.Took))))]
}

// Mischief says how the source misbehaves: shares of deliveries that come again, and that a forger adds.
type Mischief struct{ Duplicates, Forgeries float64 }

// Send delivers changes over so many connections, each again until it is accepted, as sources do; url is where to.
func Send(ctx context.Context, client *http.Client, url string, changes []Change, connections int, how Mischief, seed uint64) *Report {
	r := &Report{Answers: map[int]int{}}
	next := make(chan Change)
	var wg sync.WaitGroup
	for i := range connections {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		wg.Go(func() {
			for c := range next {
				r.deliver(ctx, client, url, c, how, rng)
			}
		})
	}
	for _, c := range changes {
		select {
		case next <- c:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	return r
}

func (r *Report) deliver(ctx context.Context, client *http.Client, url string, c Change, how Mischief, rng *rand.Rand) {
	if rng != nil && rng.Float64() < how.Forgeries {
		forged := c
		forged.DocumentID, forged.Content = "forged-"+c.DocumentID, "nobody wrote this"
		r.post(ctx, client, url, forged, true)
	}
	for ctx.Err() == nil {
		if status := r.post(ctx, client, url, c, false); status == http.StatusAccepted || status == http.StatusOK {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(50*time.Millisecond + rand.N(200*time.Millisecond)):
		}
	}
	if rng != nil && rng.Float64() < how.Duplicates {
		r.post(ctx, client, url, c, false)
	}
}

func (r *Report) post(ctx context.Context, client *http.Client, url string, c Change, forged bool) int {
	body, err := json.Marshal(c)
	if err != nil {
		return 0
	}
	secret := Secret
	if forged {
		secret = "another"
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/webhooks/docs", bytes.NewReader(body))
	if err != nil {
		return 0
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Signature", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		r.note(0, nil, 0, c, forged)
		return 0
	}
	raw, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.Header.Get(brokenOff) != "" {
		r.mu.Lock()
		r.BrokenOff++
		r.mu.Unlock()
	}
	r.note(res.StatusCode, raw, time.Since(began), c, forged)
	return res.StatusCode
}
