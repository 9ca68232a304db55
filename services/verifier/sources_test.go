package verifier_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/seal"
	"github.com/hookmesh/hookmesh/services/internal/sources"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/sqlitestore"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a verifier with its sources, on a clock that the test turns.
type bench struct {
	t        *testing.T
	path     string
	log      *logs
	mu       sync.Mutex
	at       time.Time
	declared []config.Source
	store    *sqlitestore.Store
	service  *verifier.Service
	api      *verifier.Sources
}

type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func newBench(t *testing.T, declared ...config.Source) *bench {
	b := &bench{t: t, path: filepath.Join(t.TempDir(), "sources.db"), log: &logs{}, at: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), declared: declared}
	if err := b.start(1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.store.Close() })
	return b
}

func (b *bench) now() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

func (b *bench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

func ring(t *testing.T, fills ...byte) *seal.Ring {
	var keys [][]byte
	for _, f := range fills {
		keys = append(keys, bytes.Repeat([]byte{f}, seal.KeySize))
	}
	r, err := seal.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// start begins anew on the same store with these keys.
func (b *bench) start(keys ...byte) (err error) {
	if b.store != nil {
		_ = b.store.Close()
	}
	tel := telemetry.Nop()
	tel.Logger = slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if b.store, err = sqlitestore.Open(b.t.Context(), b.path); err != nil {
		return err
	}
	if b.service, err = verifier.New(b.declared, tel, b.now); err != nil {
		return err
	}
	b.api, err = verifier.NewSources(b.t.Context(), verifier.SourcesDeps{
		Verifier: b.service, Store: b.store, Keys: ring(b.t, keys...), Declared: b.declared, Telemetry: tel, Now: b.now,
	})
	return err
}

func definition(t *testing.T, raw string) *structpb.Struct {
	t.Helper()
	s := &structpb.Struct{}
	if err := protojson.Unmarshal([]byte(raw), s); err != nil {
		t.Fatal(err)
	}
	return s
}

const wiki = `{"preset":"generic-hmac","content":{"fetch":"https://u:canary@wiki.example/{document_id}","headers":{"Authorization":"canary"}}}`

func (b *bench) create(name, def string, secrets ...string) (*sourcev1.Source, error) {
	req := &sourcev1.CreateSourceRequest{Name: name, Definition: definition(b.t, def)}
	for _, s := range secrets {
		req.Secrets = append(req.Secrets, &sourcev1.NewSecret{Value: s})
	}
	res, err := b.api.CreateSource(b.t.Context(), req)
	return res.GetSource(), err
}

// deliver signs a delivery, and says how it is judged.
func (b *bench) deliver(source, secret string) *verifierv1.VerifyResponse {
	b.t.Helper()
	body := []byte(`{"document_id":"page-1","action":"updated"}`)
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(body)
	res, err := b.service.VerifyBatch(b.t.Context(), &verifierv1.VerifyBatchRequest{Requests: []*verifierv1.VerifyRequest{{
		Source: source, Method: "POST", Url: "/webhooks/" + source, Body: body,
		Headers: []*eventv1.Header{{Name: "X-Signature", Value: []byte("sha256=" + hex.EncodeToString(mac.Sum(nil)))}},
	}}})
	if err != nil {
		b.t.Fatal(err)
	}
	return res.GetResponses()[0]
}

func (b *bench) want(source, secret string, verdict verifierv1.Verdict, code string) {
	b.t.Helper()
	if res := b.deliver(source, secret); res.GetVerdict() != verdict || code != "" && res.GetCode() != code {
		b.t.Errorf("%s: got %s %s (%s), want %s %s", source, res.GetVerdict(), res.GetCode(), res.GetReason(), verdict, code)
	}
}

func (b *bench) accepted(source, secret string) {
	b.t.Helper()
	b.want(source, secret, verifierv1.Verdict_VERDICT_ACCEPTED, "")
}

func code(err error) codes.Code { return status.Code(err) }

func TestASourceLivesFromItsMakingToItsDeletion(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	b.want("docs", "canary-1", verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE, "")
	src, err := b.create("docs", wiki, "canary-1")
	if err != nil || src.GetState() != sourcev1.State_STATE_ENABLED || src.GetOrigin() != sourcev1.Origin_ORIGIN_MANAGED {
		t.Fatalf("%v, %v", src, err)
	}
	b.accepted("docs", "canary-1")
	if _, err := b.create("docs", wiki, "canary-1"); code(err) != codes.AlreadyExists {
		t.Errorf("made twice: %v", err)
	}
	if _, err := b.api.DisableSource(ctx, &sourcev1.DisableSourceRequest{Name: "docs"}); err != nil {
		t.Fatal(err)
	}
	b.want("docs", "canary-1", verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE, "")
	if _, err := b.api.EnableSource(ctx, &sourcev1.EnableSourceRequest{Name: "docs"}); err != nil {
		t.Fatal(err)
	}
	b.accepted("docs", "canary-1")
	if err := b.start(1); err != nil { // it survives a restart
		t.Fatal(err)
	}
	b.accepted("docs", "canary-1")
	if _, err := b.api.DeleteSource(ctx, &sourcev1.DeleteSourceRequest{Name: "docs"}); err != nil {
		t.Fatal(err)
	}
	b.want("docs", "canary-1", verifierv1.Verdict_VERDICT_UNKNOWN_SOURCE, "")
	if _, err := b.api.DeleteSource(ctx, &sourcev1.DeleteSourceRequest{Name: "docs"}); code(err) != codes.NotFound {
		t.Errorf("deleted twice: %v", err)
	}
}

func TestARotationRefusesNoDelivery(t *testing.T) {
	b := newBench(t)
	if _, err := b.create("docs", wiki, "canary-1"); err != nil {
		t.Fatal(err)
	}
	b.accepted("docs", "canary-1")
	res, err := b.api.RotateSecret(t.Context(), &sourcev1.RotateSecretRequest{Name: "docs", Secret: &sourcev1.NewSecret{Value: "canary-2"}, Overlap: durationpb.New(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	secrets := res.GetSource().GetSecrets()
	if len(secrets) != 2 || !secrets[0].GetNotAfter().AsTime().Equal(b.now().Add(time.Hour)) || secrets[1].GetNotAfter() != nil {
		t.Fatalf("%v", secrets)
	}
	b.accepted("docs", "canary-1")
	b.pass(30 * time.Minute)
	b.accepted("docs", "canary-2")
	show, err := b.api.GetSource(t.Context(), &sourcev1.GetSourceRequest{Name: "docs"})
	if err != nil {
		t.Fatal(err)
	}
	if s := show.GetSource().GetSecrets(); !s[0].GetLastUsedAt().AsTime().Equal(b.now().Add(-30*time.Minute)) || !s[1].GetLastUsedAt().AsTime().Equal(b.now()) {
		t.Errorf("last used: %v", s)
	}
	b.pass(time.Hour)
	b.want("docs", "canary-1", verifierv1.Verdict_VERDICT_REJECTED, "SECRET_EXPIRED")
	b.accepted("docs", "canary-2")
	if _, err := b.api.RotateSecret(t.Context(), &sourcev1.RotateSecretRequest{Name: "docs", Secret: &sourcev1.NewSecret{Value: "canary-2"}}); code(err) != codes.AlreadyExists {
		t.Errorf("the same secret again: %v", err)
	}
}

func TestSourcesOfTheConfigurationFileAreShownAndReadOnly(t *testing.T) {
	declared := config.Source{Name: "file", Preset: "generic-hmac", Secrets: []config.Secret{{Value: "canary-f"}}, Content: config.Content{Fetch: "https://x.example/{document_id}", Headers: map[string]string{"A": "canary"}}}
	b := newBench(t, declared)
	ctx := t.Context()
	b.accepted("file", "canary-f")
	res, err := b.api.ListSources(ctx, &sourcev1.ListSourcesRequest{})
	if err != nil || len(res.GetSources()) != 1 {
		t.Fatalf("%v, %v", res, err)
	}
	if s := res.GetSources()[0]; s.GetOrigin() != sourcev1.Origin_ORIGIN_DECLARED || len(s.GetSecrets()) != 1 || s.GetSecrets()[0].GetLastUsedAt() == nil || s.GetDefinition().AsMap()["preset"] != "generic-hmac" {
		t.Errorf("%v", s)
	}
	if _, err := b.create("file", wiki, "canary-1"); code(err) != codes.AlreadyExists {
		t.Errorf("create: %v", err)
	}
	_, update := b.api.UpdateSource(ctx, &sourcev1.UpdateSourceRequest{Name: "file", Definition: definition(t, wiki)})
	_, disable := b.api.DisableSource(ctx, &sourcev1.DisableSourceRequest{Name: "file"})
	_, rotate := b.api.RotateSecret(ctx, &sourcev1.RotateSecretRequest{Name: "file", Secret: &sourcev1.NewSecret{Value: "x"}})
	_, remove := b.api.DeleteSource(ctx, &sourcev1.DeleteSourceRequest{Name: "file"})
	for _, err := range []error{update, disable, rotate, remove} {
		if code(err) != codes.FailedPrecondition || !strings.Contains(err.Error(), "configuration file") {
			t.Errorf("got %v", err)
		}
	}
	if _, err := b.create("docs", wiki, "canary-1"); err != nil {
		t.Fatal(err)
	}
	b.declared = append(b.declared, config.Source{Name: "docs", Preset: "generic-hmac", Secrets: []config.Secret{{Value: "canary-d"}}})
	if err := b.start(1); err == nil || !strings.Contains(err.Error(), "docs") {
		t.Errorf("one name twice: %v", err)
	}
}

func TestWrongDefinitionsAreRefusedAndNothingIsStored(t *testing.T) {
	b := newBench(t)
	for def, want := range map[string]string{
		`{"preset":"nope"}`: "nope", `{"preset":"generic-hmac","contents":{}}`: "contents", `{}`: "preset",
		`{"preset":"generic-hmac","settings":{"nope":"x"}}`: "nope", `{"preset":"generic-hmac","secrets":[{"value":"canary"}]}`: "secrets",
	} {
		if _, err := b.create("docs", def, "canary-1"); code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v", def, err)
		}
	}
	if records, rev, err := b.store.All(t.Context()); err != nil || len(records) != 0 || rev != 0 {
		t.Errorf("stored: %v at %d, %v", records, rev, err)
	}
}

func TestAnUpdateKeepsSecretsAndCredentialsAndSeesOthersChanges(t *testing.T) {
	b := newBench(t)
	src, err := b.create("docs", wiki, "canary-1")
	if err != nil {
		t.Fatal(err)
	}
	def := src.GetDefinition()
	def.Fields["rate"] = structpb.NewStructValue(definition(t, `{"per_second":7}`))
	res, err := b.api.UpdateSource(t.Context(), &sourcev1.UpdateSourceRequest{Name: "docs", Definition: def, Revision: src.GetRevision()})
	if err != nil || res.GetSource().GetRevision() <= src.GetRevision() {
		t.Fatal(err)
	}
	b.accepted("docs", "canary-1")
	if _, err := b.api.UpdateSource(t.Context(), &sourcev1.UpdateSourceRequest{Name: "docs", Definition: def, Revision: src.GetRevision()}); code(err) != codes.Aborted {
		t.Errorf("from an old revision: %v", err)
	}
	got := follow(t, b, ring(t, 1))
	if len(got) != 1 || got[0].Content.Headers["Authorization"] != "canary" || got[0].Content.Fetch != "https://u:canary@wiki.example/{document_id}" || got[0].Rate.PerSecond != 7 {
		t.Error("the other services see something else")
	}
}

// follow is what another process sees of the sources.
func follow(t *testing.T, b *bench, keys *seal.Ring) []sources.Source {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	server := grpc.NewServer()
	sourcev1.RegisterSourceServiceServer(server, b.api)
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	r := sources.New(nil, sourcev1.NewSourceServiceClient(conn), keys, slog.New(slog.NewTextHandler(b.log, nil)))
	seen := make(chan []sources.Source, 1)
	ctx, cancel := context.WithCancel(t.Context())
	r.Follow(func(all []sources.Source) { seen <- all; cancel() })
	wg.Go(func() { _ = r.Run(ctx) })
	all := <-seen
	server.Stop()
	_ = conn.Close()
	wg.Wait()
	return all
}

func TestWithoutKeysAServiceFollowsWithoutCredentials(t *testing.T) {
	b := newBench(t)
	if _, err := b.create("docs", wiki, "canary-1"); err != nil {
		t.Fatal(err)
	}
	got := follow(t, b, nil)
	if len(got) != 1 || got[0].Name != "docs" || strings.Contains(fmt.Sprintf("%#v", got[0].Content), "canary") || got[0].Rate.PerSecond != 100 {
		t.Errorf("got %d sources", len(got))
	}
	if got := follow(t, b, ring(t, 9)); len(got) != 0 {
		t.Error("opened with another key")
	}
}

func TestAKeyChangeEncryptsAnewAndTheOldKeyCanGo(t *testing.T) {
	b := newBench(t)
	if _, err := b.create("docs", wiki, "canary-1"); err != nil {
		t.Fatal(err)
	}
	if err := b.start(2); err == nil || !strings.Contains(err.Error(), "verifier.keys") {
		t.Fatalf("without its key: %v", err)
	}
	for _, keys := range [][]byte{{2, 1}, {2}} {
		if err := b.start(keys...); err != nil {
			t.Fatalf("keys %v: %v", keys, err)
		}
		b.accepted("docs", "canary-1")
	}
}

func TestAnotherProcessSeesASourceAtItsFirstDelivery(t *testing.T) {
	b := newBench(t)
	other := &bench{t: t, path: b.path, log: b.log, at: b.at}
	if err := other.start(1); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.store.Close() })
	if _, err := b.create("docs", wiki, "canary-1"); err != nil {
		t.Fatal(err)
	}
	other.accepted("docs", "canary-1")
}

func TestSecretsAndCredentialsAppearNowhere(t *testing.T) {
	b := newBench(t, config.Source{Name: "file", Preset: "generic-hmac", Secrets: []config.Secret{{Value: "canary-f"}}, Content: config.Content{Fetch: "https://x.example/{document_id}?token=canary", Headers: map[string]string{"A": "canary"}}})
	ctx := t.Context()
	var said []any
	src, err := b.create("docs", wiki, "canary-1")
	said = append(said, src, err)
	rotated, err := b.api.RotateSecret(ctx, &sourcev1.RotateSecretRequest{Name: "docs", Secret: &sourcev1.NewSecret{Value: "canary-2"}})
	said = append(said, rotated, err)
	all, err := b.api.ListSources(ctx, &sourcev1.ListSourcesRequest{})
	said = append(said, all, err)
	_, err = b.create("other", `{"preset":"canary-is-no-preset-but-this-is-no-secret"}`, "canary-3")
	said = append(said, strings.ReplaceAll(err.Error(), "canary-is-no-preset", ""))
	_, err = b.create("other", `{"preset":"generic-hmac","content":{"fetch":"canary","headers":["canary"]}}`, "canary-3")
	said = append(said, err, b.deliver("docs", "canary-1"), b.deliver("docs", "wrong"), b.api)
	if err := b.start(7); err == nil {
		t.Error("started without the key")
	} else {
		said = append(said, err)
	}
	for i, s := range said {
		for _, verb := range []string{"%v", "%+v", "%#v"} {
			if strings.Contains(fmt.Sprintf(verb, s), "canary") {
				t.Errorf("%d (%T) shows a secret with %s", i, s, verb)
			}
		}
	}
	if strings.Contains(b.log.String(), "canary") {
		t.Error("the log shows a secret")
	}
	files, err := filepath.Glob(b.path + "*")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(raw, []byte("canary")) {
			t.Errorf("%s holds a secret in the clear", filepath.Base(f))
		}
	}
}

func (b *bench) notion(source, token string) *verifierv1.VerifyResponse {
	b.t.Helper()
	res, err := b.service.Verify(b.t.Context(), &verifierv1.VerifyRequest{
		Source: source, Method: "POST", Url: "/webhooks/" + source, Body: fmt.Appendf(nil, `{"verification_token":%q}`, token),
		Headers: []*eventv1.Header{{Name: "Content-Type", Value: []byte("application/json")}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return res
}

func TestASecretThatAHandshakeBringsIsKeptOnlyWhileTheSourceHasNone(t *testing.T) {
	b := newBench(t, config.Source{Name: "declared", Preset: "notion"})
	if src, err := b.create("made", `{"preset":"notion"}`); err != nil || src.GetState() != sourcev1.State_STATE_PENDING {
		t.Fatalf("%v, %v", src, err)
	}
	for _, name := range []string{"declared", "made"} {
		if res := b.notion(name, "secret_canary-first"); res.GetVerdict() == verifierv1.Verdict_VERDICT_REJECTED {
			t.Fatalf("%s: %s %s", name, res.GetCode(), res.GetReason())
		}
		b.notion(name, "secret_canary-second")
		show, err := b.api.GetSource(t.Context(), &sourcev1.GetSourceRequest{Name: name})
		if err != nil || len(show.GetSource().GetSecrets()) != 1 || show.GetSource().GetState() != sourcev1.State_STATE_ENABLED {
			t.Errorf("%s: %v, %v", name, show, err)
		}
	}
	for _, keys := range [][]byte{{2, 1}, {2}} { // it survives restarts and a key change
		if err := b.start(keys...); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"declared", "made"} {
		for secret, want := range map[string]string{"secret_canary-first": "", "secret_canary-second": "SIGNATURE_MISMATCH"} {
			body := []byte(`{"id":"e1","type":"page.content_updated","timestamp":"2026-01-01T00:00:00.000Z","entity":{"id":"p1","type":"page"}}`)
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write(body)
			res, err := b.service.Verify(t.Context(), &verifierv1.VerifyRequest{Source: name, Method: "POST", Url: "/webhooks/" + name, Body: body,
				Headers: []*eventv1.Header{{Name: "X-Notion-Signature", Value: []byte("sha256=" + hex.EncodeToString(mac.Sum(nil)))}}})
			if err != nil || want == "" && res.GetVerdict() != verifierv1.Verdict_VERDICT_ACCEPTED || want != "" && res.GetCode() != want {
				t.Errorf("%s: %s %s, %v", name, res.GetVerdict(), res.GetReason(), err)
			}
		}
	}
	if strings.Contains(b.log.String(), "canary") {
		t.Error("the log shows a secret")
	}
}
