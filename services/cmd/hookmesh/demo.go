package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/wikisim"
)

// questions are asked at the end; their answers stand in the wiki in other words.
var questions = []string{"How do I get my hotel bill paid back?", "error E4711", "Who gets woken up at night?"}

func demoCommand() *cobra.Command {
	d := demo{}
	cmd := &cobra.Command{
		Use: "demo", Short: "Watch a wiki's bad webhooks become a right knowledge base", Args: noArgs,
		Long: "Starts everything in a temporary directory, and a simulated wiki whose webhooks are dropped, doubled, delayed, overtaken and forged.\n" +
			"At the end the knowledge base is compared with the wiki, page by page: equal, or the demo fails.",
		RunE: func(cmd *cobra.Command, _ []string) error { return d.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	cmd.Flags().IntVar(&d.changes, "changes", 300, "how many changes the wiki makes")
	cmd.Flags().IntVar(&d.rate, "rate", 40, "changes per second")
	cmd.Flags().Uint64Var(&d.seed, "seed", 1, "the same seed makes the same wiki and the same chaos")
	return cmd
}

type demo struct {
	changes, rate int
	seed          uint64

	out   io.Writer
	api   api
	wiki  *wikisim.Wiki
	hooks *wikisim.Deliverer
	tally *tally
}

// run starts the wiki and hookmesh, lets the wiki live, and compares.
func (d *demo) run(ctx context.Context, out io.Writer) (err error) {
	d.out = out
	dir, err := os.MkdirTemp("", "hookmesh-demo-")
	if err != nil {
		return fmt.Errorf("make a temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()

	d.wiki = wikisim.New(d.seed, time.Now)
	wikiURL, closeWiki, err := listenAndServe(ctx, d.wiki.Handler())
	if err != nil {
		return fmt.Errorf("start the wiki: %w", err)
	}
	defer closeWiki()
	key := make([]byte, 32)
	if _, err := rand.Read(key); err != nil {
		return fmt.Errorf("make a secret: %w", err)
	}
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	cfg, err := d.config(dir, wikiURL, secret)
	if err != nil {
		return err
	}
	logs, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return fmt.Errorf("create the log: %w", err)
	}
	defer func() { _ = logs.Close() }()
	mesh, tel, err := start(ctx, cfg, config.ServiceNames(), logs)
	if err != nil {
		return err
	}
	meshCtx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- stop(tel, mesh.Run(meshCtx)) }()
	defer func() {
		cancel()
		err = errors.Join(err, <-ended)
	}()
	base := "http://" + mesh.Addresses().HTTP
	d.api = newAPI(base)
	d.hooks = wikisim.NewDeliverer(d.seed, base+"/webhooks/wiki", secret,
		wikisim.Chaos{Drop: 0.15, Double: 0.15, Delay: 0.3, Forge: 0.1, MaxDelay: 800 * time.Millisecond})
	_, _ = fmt.Fprintf(out, "A wiki at %s, hookmesh at %s. 15 %% of the webhooks are dropped, 15 %% doubled, 30 %% delayed, 10 %% forged besides.\n\n", wikiURL, base)
	return d.live(ctx)
}

// config is what a user would write for this wiki.
func (d *demo) config(dir, wikiURL, secret string) (config.Config, error) {
	file := fmt.Sprintf(`
http: {listen: "127.0.0.1:0"}
grpc: {listen: "127.0.0.1:0"}
admin: {listen: "127.0.0.1:0"}
data_dir: %q
telemetry: {log_format: json}
sources:
  - name: wiki
    preset: standard-webhooks
    secrets: [{value: %q}]
    content: {fetch: "%s/pages/{document_id}", body: body, title: title, url: url, version: version}
    poll: {changes: "%s/changes?cursor={cursor}", interval: 2s}
    ordering: {mode: contiguous, gap_timeout: 2s}
`, filepath.Join(dir, "data"), secret, wikiURL, wikiURL)
	return config.Parse("the demo's configuration", []byte(file), os.LookupEnv)
}

// listenAndServe serves on a free port of the loopback interface.
func listenAndServe(ctx context.Context, h http.Handler) (string, func(), error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	return "http://" + l.Addr().String(), func() { _ = server.Close(); <-done }, nil
}

// live lets the wiki change, waits until the knowledge base has caught up, and asks it.
func (d *demo) live(ctx context.Context) error {
	began := time.Now()
	d.tally = newTally()
	d.tally.header(d.out)
	for _, page := range wikisim.Known {
		d.hooks.Deliver(ctx, d.wiki.Add(page.Title, page.Body))
	}
	tick := time.NewTicker(time.Second / time.Duration(max(1, d.rate)))
	defer tick.Stop()
	for i := range d.changes {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
		d.hooks.Deliver(ctx, d.wiki.Step())
		if i%d.rate == d.rate-1 {
			if err := d.show(ctx, time.Since(began)); err != nil {
				return err
			}
		}
	}
	d.hooks.Wait()
	differences, err := d.settle(ctx, 40*time.Second)
	if err != nil {
		return err
	}
	if err := d.show(ctx, time.Since(began)); err != nil {
		return err
	}
	if err := d.verdict(differences); err != nil {
		return err
	}
	return d.ask(ctx)
}

// settle waits until knowledge base and wiki agree; what is left when the patience ends are the differences.
func (d *demo) settle(ctx context.Context, patience time.Duration) ([]string, error) {
	for end := time.Now().Add(patience); ; {
		known, err := d.known(ctx)
		if err != nil {
			return nil, err
		}
		differences := wikisim.Compare(d.wiki.Snapshot(), known)
		if len(differences) == 0 || time.Now().After(end) {
			return differences, nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// known reads all documents through the API.
func (d *demo) known(ctx context.Context) (map[string]wikisim.KnownPage, error) {
	out := map[string]wikisim.KnownPage{}
	query := url.Values{"source": {"wiki"}, "pageSize": {"500"}}
	for {
		var page embedderv1.ListDocumentsResponse
		if err := d.api.get(ctx, "/v1/documents", query, &page); err != nil {
			return nil, err
		}
		for _, doc := range page.GetDocuments() {
			state := doc.GetState()
			out[doc.GetDocumentId()] = wikisim.KnownPage{
				ID: doc.GetDocumentId(), Title: doc.GetTitle(), Version: doc.GetVersion(), State: enum(state.String(), "DOCUMENT_STATE_"),
				Searchable: state == embedderv1.DocumentState_DOCUMENT_STATE_CURRENT,
			}
		}
		if page.GetNextPageToken() == "" {
			return out, nil
		}
		query.Set("pageToken", page.GetNextPageToken())
	}
}

// show brings the table up to date and prints a row of it.
func (d *demo) show(ctx context.Context, at time.Duration) error {
	if err := d.tally.update(ctx, d.api, "wiki"); err != nil {
		return err
	}
	d.tally.row(d.out, at, &d.hooks.Stats)
	return nil
}

// verdict says whether the promise was kept.
func (d *demo) verdict(differences []string) error {
	live, gone := 0, 0
	for _, p := range d.wiki.Snapshot() {
		if p.Deleted() {
			gone++
		} else {
			live++
		}
	}
	st := &d.hooks.Stats
	if n := st.ForgedAccepted.Load(); n > 0 {
		return fmt.Errorf("%d forged webhooks were accepted", n)
	}
	if n := st.Refused.Load(); n > 0 {
		return fmt.Errorf("%d authentic webhooks were refused", n)
	}
	if len(differences) > 0 {
		return fmt.Errorf("the knowledge base differs from the wiki in %d pages:\n  %s", len(differences), strings.Join(differences[:min(20, len(differences))], "\n  "))
	}
	_, _ = fmt.Fprintf(d.out, "\nEQUAL: %d pages of the wiki are searchable in their newest version, %d deleted ones are gone. %d webhooks never came, %d came twice, %d forgeries were refused.\n",
		live, gone, st.Dropped.Load(), st.Doubled.Load(), st.ForgedRefused.Load())
	return nil
}

// ask answers three questions.
func (d *demo) ask(ctx context.Context) error {
	for _, q := range questions {
		var res embedderv1.SearchResponse
		if err := d.api.get(ctx, "/v1/search", url.Values{"query": {q}, "limit": {strconv.Itoa(1)}}, &res); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(d.out, "\n? %s\n", q)
		if len(res.GetResults()) == 0 {
			return fmt.Errorf("nothing was found for %q", q)
		}
		r := res.GetResults()[0]
		_, _ = fmt.Fprintf(d.out, "  %s  (%.2f, %s)\n  %s\n", strings.Join(append([]string{r.GetTitle()}, r.GetHeadingPath()...), " › "), r.GetScore(), r.GetUrl(),
			clip(strings.Join(strings.Fields(r.GetText()), " "), 140))
	}
	return nil
}
