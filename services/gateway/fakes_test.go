package gateway_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// fakeVerifier answers with what the test says and remembers what it was asked.
type fakeVerifier struct {
	verifierv1.UnimplementedVerifierServiceServer
	mu     sync.Mutex
	verify func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error)
	asked  []*verifierv1.VerifyRequest
}

func (f *fakeVerifier) set(fn func(*verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.verify = fn
}

// hold makes the verifier wait for a gate before it answers as it did.
func (f *fakeVerifier) hold(gate <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before := f.verify
	f.verify = func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
		<-gate
		return before(req)
	}
}

func (f *fakeVerifier) last() *verifierv1.VerifyRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked) == 0 {
		return nil
	}
	return f.asked[len(f.asked)-1]
}

func (f *fakeVerifier) Verify(_ context.Context, req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
	f.mu.Lock()
	f.asked = append(f.asked, req)
	fn := f.verify
	f.mu.Unlock()
	return fn(req)
}

func (f *fakeVerifier) VerifyBatch(ctx context.Context, req *verifierv1.VerifyBatchRequest) (*verifierv1.VerifyBatchResponse, error) {
	out := &verifierv1.VerifyBatchResponse{}
	for _, r := range req.GetRequests() {
		res, err := f.Verify(ctx, r)
		if err != nil {
			return nil, err
		}
		out.Responses = append(out.Responses, res)
	}
	return out, nil
}

// acceptAll finds one event per delivery: the body is the document's id.
func acceptAll(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
	return accepted(event(string(req.GetBody()))), nil
}

func accepted(events ...*eventv1.Event) *verifierv1.VerifyResponse {
	return &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_ACCEPTED, Events: events, Preset: "github", SecretIndex: 1}
}

func event(document string) *eventv1.Event {
	return &eventv1.Event{DocumentId: document, Action: eventv1.Action_ACTION_UPDATED, IdempotencyKey: "key-" + document, Payload: []byte(document)}
}

// fakeDedupe knows the keys in seen.
type fakeDedupe struct {
	dedupev1.UnimplementedDedupeServiceServer
	mu     sync.Mutex
	seen   map[string]string // idempotency key → first event
	err    error
	events map[string]*dedupev1.EventRecord
}

func (f *fakeDedupe) Check(_ context.Context, req *dedupev1.CheckRequest) (*dedupev1.CheckResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	out := &dedupev1.CheckResponse{}
	for _, e := range req.GetEvents() {
		out.DuplicateOf = append(out.DuplicateOf, f.seen[e.GetIdempotencyKey()])
	}
	return out, nil
}

func (f *fakeDedupe) GetEvent(_ context.Context, req *dedupev1.GetEventRequest) (*dedupev1.GetEventResponse, error) {
	if e, ok := f.events[req.GetId()]; ok {
		return &dedupev1.GetEventResponse{Event: e}, nil
	}
	return nil, status.Error(codes.NotFound, "no such event")
}

func (f *fakeDedupe) ListEvents(_ context.Context, req *dedupev1.ListEventsRequest) (*dedupev1.ListEventsResponse, error) {
	out := &dedupev1.ListEventsResponse{}
	for _, e := range f.events {
		if req.GetSource() == "" || e.GetSource() == req.GetSource() {
			out.Events = append(out.Events, e)
		}
	}
	return out, nil
}

type fakeSequencer struct {
	sequencerv1.UnimplementedSequencerServiceServer
	events map[string]*sequencerv1.EventRecord
	err    error
}

func (f *fakeSequencer) GetEvent(_ context.Context, req *sequencerv1.GetEventRequest) (*sequencerv1.GetEventResponse, error) {
	if f.err != nil {
		return nil, f.err
	}
	if e, ok := f.events[req.GetId()]; ok {
		return &sequencerv1.GetEventResponse{Event: e}, nil
	}
	return nil, status.Error(codes.NotFound, "no such event")
}

type fakeEmbedder struct {
	embedderv1.UnimplementedEmbedderServiceServer
	events map[string]*embedderv1.EventRecord
}

func (f *fakeEmbedder) GetEvent(_ context.Context, req *embedderv1.GetEventRequest) (*embedderv1.GetEventResponse, error) {
	if e, ok := f.events[req.GetId()]; ok {
		return &embedderv1.GetEventResponse{Event: e}, nil
	}
	return nil, status.Error(codes.NotFound, "no such event")
}

// fakeKnowledge answers searches with the question and documents with their id.
type fakeKnowledge struct {
	embedderv1.UnimplementedKnowledgeServiceServer
}

func (fakeKnowledge) Search(_ context.Context, req *embedderv1.SearchRequest) (*embedderv1.SearchResponse, error) {
	switch req.GetQuery() {
	case "":
		return nil, status.Error(codes.InvalidArgument, "query must not be empty")
	case "broken":
		return nil, errors.New("password of the database is wrong")
	case "away":
		return nil, status.Error(codes.Unavailable, "connection to 10.0.0.1 refused")
	}
	return &embedderv1.SearchResponse{Results: []*embedderv1.SearchResult{{Text: req.GetQuery()}}}, nil
}

func (fakeKnowledge) GetDocument(_ context.Context, req *embedderv1.GetDocumentRequest) (*embedderv1.GetDocumentResponse, error) {
	return &embedderv1.GetDocumentResponse{Document: &embedderv1.Document{Source: req.GetSource(), DocumentId: req.GetDocumentId()}}, nil
}

type fakeReconciler struct {
	reconcilerv1.UnimplementedReconcilerServiceServer
	letters map[string]*eventv1.DeadLetter
}

func (f *fakeReconciler) GetDeadLetter(_ context.Context, req *reconcilerv1.GetDeadLetterRequest) (*reconcilerv1.GetDeadLetterResponse, error) {
	if l, ok := f.letters[req.GetId()]; ok {
		return &reconcilerv1.GetDeadLetterResponse{DeadLetter: l}, nil
	}
	return nil, status.Error(codes.NotFound, "no such dead letter")
}

func (f *fakeReconciler) PollSource(_ context.Context, req *reconcilerv1.PollSourceRequest) (*reconcilerv1.PollSourceResponse, error) {
	return &reconcilerv1.PollSourceResponse{Listed: int64(len(req.GetSource()))}, nil
}

// fakeKafka keeps what was produced.
type fakeKafka struct {
	mu      sync.Mutex
	down    bool
	fail    func([]stage.Output) error // called without the lock, before records are kept
	outputs []stage.Output
	arrived chan struct{}
}

func newFakeKafka() *fakeKafka { return &fakeKafka{arrived: make(chan struct{}, 1)} }

func (f *fakeKafka) Produce(_ context.Context, outputs []stage.Output) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down {
		return errors.New("no broker answers")
	}
	f.outputs = append(f.outputs, outputs...)
	if f.fail != nil {
		if err := f.fail(outputs); err != nil {
			return err
		}
	}
	select {
	case f.arrived <- struct{}{}:
	default:
	}
	return nil
}

func (f *fakeKafka) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// of returns the records of a topic.
func (f *fakeKafka) of(topic string) []stage.Output {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.outputs), func(o stage.Output) bool { return o.Topic != topic })
}

// await waits until n records of a topic have come.
func (f *fakeKafka) await(t testing.TB, topic string, n int) []stage.Output {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		if got := f.of(topic); len(got) >= n {
			return got
		}
		select {
		case <-f.arrived:
		case <-deadline:
			t.Fatalf("%d records in %s, want %d", len(f.of(topic)), topic, n)
		}
	}
}

func decode[M proto.Message](t testing.TB, into M, out stage.Output) M {
	t.Helper()
	if err := proto.Unmarshal(out.Value, into); err != nil {
		t.Fatal(err)
	}
	return into
}

// rig is a gateway with fakes around it.
type rig struct {
	verifier   *fakeVerifier
	dedupe     *fakeDedupe
	sequencer  *fakeSequencer
	embedder   *fakeEmbedder
	reconciler *fakeReconciler
	kafka      *fakeKafka
	service    *gateway.Service
	handler    http.Handler
	stop       func()
}

type option func(*gateway.Deps, *gateway.Config)

// start builds a gateway and runs it until the test ends.
func start(t testing.TB, opts ...option) *rig {
	t.Helper()
	r := build(t, opts...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.service.Run(ctx) }()
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
	t.Cleanup(r.stop)
	return r
}

// build builds a gateway that does not run.
func build(t testing.TB, opts ...option) *rig {
	t.Helper()
	r := &rig{
		verifier: &fakeVerifier{verify: acceptAll}, dedupe: &fakeDedupe{seen: map[string]string{}, events: map[string]*dedupev1.EventRecord{}},
		sequencer: &fakeSequencer{}, embedder: &fakeEmbedder{}, reconciler: &fakeReconciler{}, kafka: newFakeKafka(),
	}
	conn := serve(t, func(s *grpc.Server) {
		verifierv1.RegisterVerifierServiceServer(s, r.verifier)
		dedupev1.RegisterDedupeServiceServer(s, r.dedupe)
		sequencerv1.RegisterSequencerServiceServer(s, r.sequencer)
		embedderv1.RegisterEmbedderServiceServer(s, r.embedder)
		embedderv1.RegisterKnowledgeServiceServer(s, fakeKnowledge{})
		reconcilerv1.RegisterReconcilerServiceServer(s, r.reconciler)
	})
	deps := gateway.Deps{
		Verifier: verifierv1.NewVerifierServiceClient(conn), Dedupe: dedupev1.NewDedupeServiceClient(conn),
		Sequencer: sequencerv1.NewSequencerServiceClient(conn), Embedder: embedderv1.NewEmbedderServiceClient(conn),
		Knowledge: embedderv1.NewKnowledgeServiceClient(conn), Reconciler: reconcilerv1.NewReconcilerServiceClient(conn),
		Producer: r.kafka, Telemetry: telemetry.Nop(), OpenAPI: []byte(`{"swagger":"2.0"}`),
	}
	cfg := gateway.Config{
		Sources: []gateway.Source{{Name: "docs", PerSecond: -1}}, SpoolDir: t.TempDir(),
		// Generous, because the machine may be busy.
		VerifyTimeout: 10 * time.Second, CheckTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
	}
	for _, o := range opts {
		o(&deps, &cfg)
	}
	var err error
	if r.service, err = gateway.New(deps, cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.service.Close() })
	if r.handler, err = gateway.Handler(r.service); err != nil {
		t.Fatal(err)
	}
	return r
}

// serve runs a gRPC server in memory.
func serve(t testing.TB, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	listener := bufconn.Listen(1 << 20)
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxSendMsgSize(64<<20))
	register(server)
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:///mesh", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(); server.Stop(); <-done })
	return conn
}

// do sends a request through the handler.
func (r *rig) do(req *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	r.handler.ServeHTTP(w, req)
	return w
}

func (r *rig) post(path, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Add(name, value)
	}
	return r.do(req)
}

// silentVerifier answers nothing until the caller gives up.
type silentVerifier struct {
	verifierv1.VerifierServiceClient
}

func (silentVerifier) Verify(ctx context.Context, _ *verifierv1.VerifyRequest, _ ...grpc.CallOption) (*verifierv1.VerifyResponse, error) {
	<-ctx.Done()
	return nil, status.FromContextError(ctx.Err()).Err()
}

// syncBuffer is a log that several goroutines write.
type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
