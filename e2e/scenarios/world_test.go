//go:build scenarios

package scenarios

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

var (
	key    = []byte("a key of the scenario suite, 32 b")
	secret = "whsec_" + base64.StdEncoding.EncodeToString(key)
)

// setup is what a scenario wants besides the usual. Every field is YAML in flow style, as it stands in the configuration file.
type setup struct {
	// poll is how often the wiki is polled; empty: never.
	poll string
	// sweep is how often it is swept; empty: never.
	sweep string
	// wiki are more keys of the source "wiki", docs of the source "docs", top of the file.
	wiki, docs, top []string
	// secrets of docs; empty: mesh.Secret.
	secrets string
	// model: embeddings come from the simulated endpoint.
	model bool
	// broker: the log is a broker outside of the process, so that it can be away.
	broker bool
	// wait is what ${WAIT} stands for in keys of the wiki and, from now on, ${END} in the secrets.
	wait time.Duration
}

// trouble is made where the program runs.
type trouble interface {
	// brokerDown and brokerUp take Kafka away and bring it back.
	brokerDown()
	brokerUp()
	// withoutStores takes the stores of all consumers and of the reconciler away, until the returned function is called.
	withoutStores() (end func())
	// replica is a second gateway, which can be killed.
	replica() (base string, kill func())
}

// world is one scenario's world: the program, the wiki, and what is between them.
type world struct {
	testing.TB
	trouble
	mesh  *mesh.Mesh
	wiki  *wiki
	model *model
	// patience is how long the knowledge base may take to be equal to the wiki.
	patience time.Duration
	// wait and end are what ${WAIT} and ${END} stand for.
	wait time.Duration
	end  time.Time
}

// draw makes a world without its program, and says what that is to be told: settings of the file, and its sources as a list.
func draw(t testing.TB, s setup) (w *world, top, sources string) {
	w = &world{TB: t, wiki: newWiki(t), patience: 40 * time.Second, wait: s.wait, end: time.Now().Add(s.wait)}
	s.secrets = strings.ReplaceAll(s.secrets, "${END}", w.end.UTC().Format(time.RFC3339Nano))
	lines := slices.Clone(s.top)
	if s.model {
		w.model = newModel(t)
		lines = append(lines, fmt.Sprintf("embedding: {provider: openai, base_url: %q, model: simulated}", w.model.url))
	}
	wiki := append([]string{"name: wiki", "preset: standard-webhooks", fmt.Sprintf("secrets: [{value: %q}]", secret), "retry: {first: 200ms, longest: 1s}",
		fmt.Sprintf(`content: {fetch: "%s/pages/{document_id}", body: body, title: title, version: version}`, w.wiki.url)}, s.wiki...)
	if s.poll != "" {
		sweep := s.sweep
		if sweep == "" {
			sweep = "-1s"
		}
		wiki = append(wiki, fmt.Sprintf(`poll: {changes: "%s/changes?cursor={cursor}", interval: %s, sweep_interval: %s}`, w.wiki.url, s.poll, sweep))
	}
	docs := append([]string{"name: docs", "preset: generic-hmac", "content: {inline: content, title: title}"}, s.docs...)
	if s.secrets == "" {
		s.secrets = fmt.Sprintf("[{value: %q}]", mesh.Secret)
	}
	docs = append(docs, "secrets: "+s.secrets)
	return w, strings.Join(lines, "\n"), "  - " + strings.ReplaceAll(strings.Join(wiki, "\n    "), "${WAIT}", s.wait.String()) + "\n  - " + strings.Join(docs, "\n    ") + "\n"
}

// newWorld makes one around `hookmesh up`.
func newWorld(t testing.TB, s setup) *world {
	w, top, sources := draw(t, s)
	one := &oneProcess{world: w, grpc: freePort(t)}
	w.trouble = one
	w.mesh = &mesh.Mesh{TB: t, Dir: t.TempDir(), HTTP: "http://" + freePort(t), Admin: "http://" + freePort(t)}
	cfg := fmt.Sprintf("http: {listen: %q}\ngrpc: {listen: %q}\nadmin: {listen: %q}\ndata_dir: %q\n", strings.TrimPrefix(w.mesh.HTTP, "http://"), one.grpc,
		strings.TrimPrefix(w.mesh.Admin, "http://"), filepath.Join(w.mesh.Dir, "data"))
	if s.broker {
		one.broker = newBroker(t)
		cfg += fmt.Sprintf("kafka: {brokers: [%q], partitions: 4, replication_factor: 1}\n", one.broker.addr)
	}
	cfg += top + "\nsources:\n" + sources
	if err := os.WriteFile(filepath.Join(w.mesh.Dir, "config.yaml"), []byte(cfg), 0o600); err != nil {
		t.Fatal(err)
	}
	w.mesh.Up()
	t.Cleanup(w.mesh.Kill)
	return w
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// sender is how the wiki delivers webhooks.
type sender struct {
	url     string
	tries   int           // at the most; 0: 1
	pause   time.Duration // before the second try; it doubles up to a second
	timeout time.Duration // of one try; 0: 10 s
	skew    time.Duration // of its clock
	deaf    bool          // it does not honour Retry-After
	secret  []byte        // nil: the right one
	*stats
}

// stats count answers.
type stats struct {
	mu       sync.Mutex
	statuses map[int]int // 0: no answer
	accepted []time.Duration
}

func (s *stats) add(status int, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses[status]++
	if status == http.StatusAccepted {
		s.accepted = append(s.accepted, took)
	}
}

// p99 of the 202s.
func (s *stats) p99() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.accepted) == 0 {
		return 0
	}
	slices.Sort(s.accepted)
	return s.accepted[len(s.accepted)*99/100].Round(time.Millisecond)
}

func (s *stats) of(status int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statuses[status]
}

// sender returns one that delivers straight to the program.
func (w *world) sender() sender {
	return sender{url: w.mesh.HTTP, tries: 1, stats: &stats{statuses: map[int]int{}}}
}

var messages atomic.Int64

// deliver sends the webhook of a change until it is taken, and returns the last status.
func (s sender) deliver(p page) int {
	kind := "updated"
	switch {
	case p.Action == "delete":
		kind = "deleted"
	case p.Version == 1:
		kind = "created"
	}
	body, err := json.Marshal(map[string]any{"type": "page." + kind, "timestamp": p.UpdatedAt.Add(s.skew), "data": map[string]any{"id": p.ID, "version": p.Version, "title": p.Title}})
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return s.deliverRaw(fmt.Sprintf("msg_%d", messages.Add(1)), body)
}

// deliverRaw sends any body under an id until it is taken.
func (s sender) deliverRaw(id string, body []byte) (status int) {
	pause := s.pause
	for try := range max(1, s.tries) {
		if try > 0 {
			<-time.After(pause)
			pause = min(2*pause, time.Second)
		}
		var wait time.Duration
		if status, wait = s.once(id, body); status == http.StatusAccepted || status == http.StatusOK || (status >= 400 && status < 500 && status != http.StatusTooManyRequests) {
			break
		}
		if !s.deaf {
			pause = max(pause, wait)
		}
	}
	return status
}

// once sends one request; status 0: no answer.
func (s sender) once(id string, body []byte) (status int, retryAfter time.Duration) {
	stamp := strconv.FormatInt(time.Now().Add(s.skew).Unix(), 10)
	k := s.secret
	if k == nil {
		k = key
	}
	mac := hmac.New(sha256.New, k)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, stamp, body)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, s.url+"/webhooks/wiki", bytes.NewReader(body))
	if err != nil {
		panic(err) // the URL is ours
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("webhook-id", id)
	req.Header.Set("webhook-timestamp", stamp)
	req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	client := http.Client{Timeout: max(s.timeout, 0)}
	if client.Timeout == 0 {
		client.Timeout = 10 * time.Second
	}
	began := time.Now()
	res, err := client.Do(req)
	if err != nil {
		s.add(0, 0)
		return 0, 0
	}
	_, _ = io.Copy(io.Discard, res.Body)
	_ = res.Body.Close()
	s.add(res.StatusCode, time.Since(began))
	seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
	return res.StatusCode, time.Duration(seconds) * time.Second
}

// all delivers many webhooks side by side and returns when all have ended.
func (s sender) all(pages []page) {
	var wg sync.WaitGroup
	for _, p := range pages {
		wg.Go(func() { s.deliver(p) })
	}
	wg.Wait()
}

// edits changes n pages.
func (w *world) edits(prefix string, n int) []page {
	out := make([]page, n)
	for i := range out {
		out[i] = w.wiki.edit(fmt.Sprintf("%s-%d", prefix, i))
	}
	return out
}

type document struct {
	DocumentID, State, Version, Revision, Error string
}

// known is what the knowledge base has of a source, by id.
func (w *world) known(source string) (map[string]document, error) {
	out, token := map[string]document{}, ""
	for {
		var res struct {
			Documents     []document
			NextPageToken string
		}
		if err := w.mesh.GetJSON("/v1/documents?pageSize=1000&source="+source+"&pageToken="+url.QueryEscape(token), &res); err != nil {
			return nil, err
		}
		for _, d := range res.Documents {
			out[d.DocumentID] = d
		}
		if token = res.NextPageToken; token == "" {
			return out, nil
		}
	}
}

// differences compares wiki and knowledge base, both ways.
func (w *world) differences() error {
	known, err := w.known("wiki")
	if err != nil {
		return err
	}
	w.wiki.mu.Lock()
	defer w.wiki.mu.Unlock()
	var out []string
	for id, p := range w.wiki.pages {
		d := known[id]
		switch {
		case p.Action == "delete" && d.State == "DOCUMENT_STATE_CURRENT":
			out = append(out, id+" is deleted at its source and searchable")
		case p.Action != "delete" && (d.State != "DOCUMENT_STATE_CURRENT" || d.Version != strconv.FormatInt(p.Version, 10)):
			out = append(out, fmt.Sprintf("%s has version %d at its source and %q here (%s %s)", id, p.Version, d.Version, d.State, d.Error))
		}
	}
	for id, d := range known {
		if w.wiki.pages[id] == nil && d.State == "DOCUMENT_STATE_CURRENT" {
			out = append(out, id+" is searchable and not in the wiki")
		}
	}
	if len(out) > 0 {
		slices.Sort(out)
		return fmt.Errorf("%d differences, for example: %s", len(out), out[0])
	}
	return nil
}

// converged waits until wiki and knowledge base are equal, and returns how long that took since a moment.
func (w *world) converged(since time.Time) time.Duration {
	w.Helper()
	w.mesh.Until(w.patience, "the knowledge base is equal to the wiki", w.differences)
	return time.Since(since).Round(10 * time.Millisecond)
}

// outcomes counts the events of a source by what dedupe said.
func (w *world) outcomes(source string) map[string]int {
	w.Helper()
	var res struct{ Events []struct{ Outcome string } }
	if err := w.mesh.GetJSON("/v1/events?limit=1000&source="+source, &res); err != nil {
		w.Fatal(err)
	}
	out := map[string]int{}
	for _, e := range res.Events {
		out[strings.ToLower(strings.TrimPrefix(e.Outcome, "OUTCOME_"))]++
	}
	return out
}

// openLetters counts the dead letters that are open.
func (w *world) openLetters() int {
	w.Helper()
	var res struct{ DeadLetters []struct{ ID string } }
	if err := w.mesh.GetJSON("/v1/dead-letters?pageSize=1000&filter.state=DEAD_LETTER_STATE_OPEN", &res); err != nil {
		w.Fatal(err)
	}
	return len(res.DeadLetters)
}

// want fails the scenario unless the condition holds.
func (w *world) want(ok bool, format string, args ...any) {
	w.Helper()
	if !ok {
		w.Fatalf(format, args...)
	}
}

// cli runs a command of the program against it.
func (w *world) cli(args ...string) string {
	w.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, mesh.Binary(w), append(args, "--url", w.mesh.HTTP)...).CombinedOutput()
	if err != nil {
		w.Fatalf("hookmesh %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// revisions counts the documents of a source that were changed exactly so often, by what the knowledge base took in.
func (w *world) revisions(source string, n int) (count int) {
	known, err := w.known(source)
	if err != nil {
		return -1
	}
	for _, d := range known {
		if d.Revision == strconv.Itoa(n) && d.State == "DOCUMENT_STATE_CURRENT" {
			count++
		}
	}
	return count
}

// once says whether every document of a source was changed once.
func (w *world) once(source string) bool {
	known, err := w.known(source)
	return err == nil && w.revisions(source, 1) == len(known)
}

// text waits until a document's only chunk is a text.
func (w *world) text(source, id, want string) {
	w.Helper()
	w.mesh.Until(15*time.Second, id+" says "+want, func() error {
		var got struct{ Chunks []struct{ Text string } }
		if err := w.mesh.GetJSON("/v1/documents/"+source+"/"+id+"?includeChunks=true", &got); err != nil {
			return err
		}
		if len(got.Chunks) != 1 || got.Chunks[0].Text != want {
			return fmt.Errorf("it says %v", got.Chunks)
		}
		return nil
	})
}

// signed posts a body to the source "docs", signed with a secret, and returns the status.
func (w *world) signed(secret, body string) int {
	w.Helper()
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(body))
	status, _, err := w.mesh.SendRaw([]byte(body), "sha256="+hex.EncodeToString(mac.Sum(nil)))
	if err != nil {
		w.Fatal(err)
	}
	return status
}
