package wiring

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/hookmesh/hookmesh/gen"
	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/embedder/embedding"
	"github.com/hookmesh/hookmesh/services/embedder/embedding/openai"
	"github.com/hookmesh/hookmesh/services/embedder/embedding/static"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/alert"
	"github.com/hookmesh/hookmesh/services/sequencer"
	"github.com/hookmesh/hookmesh/services/verifier"
)

// module is a service as a process is put together from it.
type module struct {
	// needs are the services that it calls.
	needs []string
	// init makes it and registers what it serves and runs.
	init func(context.Context, *Mesh) error
}

// modules is the one table of all services.
var modules = map[string]module{
	"gateway":    {needs: []string{"verifier", "dedupe", "sequencer", "embedder", "reconciler"}, init: initGateway},
	"verifier":   {init: initVerifier},
	"dedupe":     {init: initDedupe},
	"sequencer":  {init: initSequencer},
	"embedder":   {init: initEmbedder},
	"reconciler": {needs: []string{"embedder"}, init: initReconciler},
}

const (
	// remoteLanes is how many batched calls of the gateway are under way at once to services in other processes, at most: enough that one
	// slow instance does not hold up everybody.
	remoteLanes = 4
	// askPatience is how long deliveries wait for such a call before they open another lane: a call costs both sides as much as ten deliveries in
	// it, and takes one or two milliseconds.
	askPatience = 10 * time.Millisecond
)

func initGateway(_ context.Context, m *Mesh) error {
	conn := m.conns
	cfg := gateway.Config{
		Durability: gateway.Durability(m.cfg.Gateway.Durability), SpoolDir: filepath.Join(m.cfg.DataDir, "spool"), SpoolBytes: m.cfg.Gateway.SpoolBytes,
		MaxBodyBytes: m.cfg.HTTP.MaxBodyBytes, MaxRecordBytes: kafka.MaxRecordBytes - 1<<20, MaxInFlight: m.cfg.Gateway.MaxInFlight,
		TargetLatency: m.cfg.Gateway.TargetLatency, Replicas: m.cfg.Gateway.Replicas,
	}
	if !m.here("verifier") || !m.here("dedupe") {
		cfg.Lanes, cfg.AskPatience = remoteLanes, askPatience
	}
	var err1, err2 error
	cfg.MoreSources = true
	cfg.Sources, err1 = edgeSources(m.cfg.Sources)
	cfg.Proxies, err2 = proxies(m.cfg.HTTP)
	secure, err3 := m.edgeTLS()
	gate, err := m.gate("http.listen", m.cfg.HTTP.Listen)
	if err := errors.Join(err, err1, err2, err3); err != nil {
		return err
	}
	service, err := gateway.New(gateway.Deps{
		Access:   gate,
		Verifier: verifierv1.NewVerifierServiceClient(conn["verifier"]), Dedupe: dedupev1.NewDedupeServiceClient(conn["dedupe"]),
		Sequencer: sequencerv1.NewSequencerServiceClient(conn["sequencer"]), Embedder: embedderv1.NewEmbedderServiceClient(conn["embedder"]),
		Knowledge: embedderv1.NewKnowledgeServiceClient(conn["embedder"]), Reconciler: reconcilerv1.NewReconcilerServiceClient(conn["reconciler"]),
		Sources:  sourcev1.NewSourceServiceClient(conn["verifier"]),
		Producer: m.log, Telemetry: m.tel, OpenAPI: gen.OpenAPI, Rest: m.pacer.Rest, Now: m.opts.Now,
	}, cfg)
	if err != nil {
		return err
	}
	handler, err := gateway.Handler(service)
	if err != nil {
		return err
	}
	gatewayv1.RegisterGatewayServiceServer(m.server, service)
	gatewayv1.RegisterEventServiceServer(m.server, service)
	m.followSources(service)
	m.healthy = append(m.healthy, service.Healthy)
	m.work = append(m.work, task{"gateway", service.Run})
	server := gateway.NewHTTPServer(m.pacer.Handler(handler, gateway.IsDelivery), gateway.ServerConfig{ReadTimeout: m.cfg.HTTP.ReadTimeout, Logger: m.tel.Logger})
	server.TLSConfig = secure
	m.edge = append(m.edge, task{"http", func(ctx context.Context) error { return serveHTTP(ctx, server, m.listeners.http) }})
	return nil
}

// serveHTTP serves until ctx ends, then lets requests in work end.
func serveHTTP(ctx context.Context, server *http.Server, l net.Listener) error {
	done := make(chan error, 1)
	go func() {
		if server.TLSConfig != nil {
			done <- server.ServeTLS(l, "", "")
			return
		}
		done <- server.Serve(l)
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := server.Shutdown(stop); err != nil {
		_ = server.Close()
	}
	if err := <-done; err != nil && !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func initVerifier(ctx context.Context, m *Mesh) error {
	service, err := verifier.New(m.cfg.Sources, m.tel.Named("verifier"), m.opts.Now, verifier.PresetsFolder(m.cfg.PresetsDir))
	if err != nil {
		return err
	}
	verifierv1.RegisterVerifierServiceServer(m.server, service)
	return initSources(ctx, m, service)
}

// consume adds a stage to what runs.
func consume[T any](m *Mesh, cfg stage.Config, store stage.Store[T], handler stage.Handler[T]) error {
	cfg.Now, cfg.Rest = m.opts.Now, m.pacer.Rest
	runner, err := stage.New(cfg, store, m.log, handler, m.tel)
	if err != nil {
		return err
	}
	m.readers[cfg.Topic] = append(m.readers[cfg.Topic], cfg.Name)
	m.work = append(m.work, task{cfg.Name, func(ctx context.Context) error { return m.log.Consume(ctx, runner, m.tel.Logger) }})
	return nil
}

func initDedupe(ctx context.Context, m *Mesh) error {
	store, err := m.dedupeStore(ctx)
	if err != nil {
		return err
	}
	service, err := dedupe.New(store, dedupe.Config{}, m.tel.Named("dedupe"), m.opts.Now)
	if err != nil {
		return err
	}
	dedupev1.RegisterDedupeServiceServer(m.server, service)
	return consume(m, stage.Config{Name: "hookmesh-dedupe", Topic: kafka.TopicAccepted}, store, service)
}

func initSequencer(ctx context.Context, m *Mesh) error {
	store, err := m.sequencerStore(ctx)
	if err != nil {
		return err
	}
	m.order = store
	if !m.here("embedder") {
		if err := runAlone(ctx, store); err != nil {
			return err
		}
	}
	service, err := sequencer.New(store, m.log, sequencer.Config{
		MaxHeld: m.cfg.Sequencer.MaxHeld, MaxHeldTotal: m.cfg.Sequencer.MaxHeldTotal, TombstoneTTL: m.cfg.Sequencer.TombstoneTTL,
	}, m.tel.Named("sequencer"), m.opts.Now)
	if err != nil {
		return err
	}
	sequencerv1.RegisterSequencerServiceServer(m.server, service)
	return consume(m, stage.Config{Name: "hookmesh-sequencer", Topic: kafka.TopicUnique}, store, service)
}

func initEmbedder(ctx context.Context, m *Mesh) error {
	model, err := m.model()
	if err != nil {
		return err
	}
	store, err := m.embedderStore(ctx)
	if err != nil {
		return err
	}
	if err := m.compareRevisions(ctx, store, m.order); err != nil {
		return err
	}
	fetchers, err := m.fetchers(m.cfg.Sources)
	if err != nil {
		return err
	}
	service, err := embedder.New(embedder.Deps{Store: store, Model: model, Fetchers: fetchers, Producer: m.log, Telemetry: m.tel.Named("embedder"), Rest: m.pacer.Rest, Now: m.opts.Now},
		embedder.Config{Workers: m.cfg.Embedder.Workers, Retries: m.retries(m.cfg.Sources), Breaker: embedder.BreakerConfig(m.cfg.Embedder.Breaker)})
	if err != nil {
		return err
	}
	embedderv1.RegisterKnowledgeServiceServer(m.server, service)
	embedderv1.RegisterEmbedderServiceServer(m.server, service)
	m.followDocuments(service)
	m.work = append(m.work, task{"embedder", m.informed(service.Run)})
	return consume(m, stage.Config{Name: "hookmesh-embedder", Topic: kafka.TopicChanged, Gate: service.Gate}, store, service)
}

// retries are the policies of the sources. Those that were made at run time leave it to embedder.tries unless they say something else.
func (m *Mesh) retries(sources []config.Source) map[string]embedder.Policy {
	out := map[string]embedder.Policy{}
	for _, src := range sources {
		if src.Retry.Tries == 0 {
			src.Retry.Tries = m.cfg.Embedder.Tries
		}
		out[src.Name] = embedder.Policy(src.Retry)
	}
	return out
}

// model is the embedding model that the configuration chooses.
func (m *Mesh) model() (embedding.Model, error) {
	if e := m.cfg.Embedding; e.Provider == "openai" {
		return openai.New(openai.Config{BaseURL: e.BaseURL, Model: e.Model, Dimensions: e.Dimensions, APIKey: e.APIKey}), nil
	}
	return static.New()
}

var orderings = map[string]eventv1.OrderingMode{
	"contiguous": eventv1.OrderingMode_ORDERING_MODE_CONTIGUOUS, "source-contiguous": eventv1.OrderingMode_ORDERING_MODE_SOURCE_CONTIGUOUS,
	"monotonic": eventv1.OrderingMode_ORDERING_MODE_MONOTONIC, "arrival": eventv1.OrderingMode_ORDERING_MODE_ARRIVAL, "": eventv1.OrderingMode_ORDERING_MODE_ARRIVAL,
}

func initReconciler(ctx context.Context, m *Mesh) error {
	store, err := m.reconcilerStore(ctx)
	if err != nil {
		return err
	}
	declared, err := m.reconciled(plain(m.cfg.Sources))
	if err != nil {
		return err
	}
	cfg, err := m.reconcilerConfig()
	if err != nil {
		return err
	}
	var verifies verifierv1.VerifierServiceClient
	if conn := m.conns["verifier"]; conn != nil { // without it, dead letters are replayed by asking their sources alone
		verifies = verifierv1.NewVerifierServiceClient(conn)
	}
	service, err := reconciler.New(reconciler.Deps{
		Verifier: verifies, Store: store, Producer: m.log, Telemetry: m.tel.Named("reconciler"), Knowledge: embedderv1.NewKnowledgeServiceClient(m.conns["embedder"]),
		Embedder: embedderv1.NewEmbedderServiceClient(m.conns["embedder"]), Notify: alert.NewSender(m.opts.Now).Send, Now: m.opts.Now,
	}, cfg, declared)
	if err != nil {
		return err
	}
	reconcilerv1.RegisterReconcilerServiceServer(m.server, service)
	m.followPolls(service)
	m.work = append(m.work, task{"reconciler", m.informed(service.Run)})
	return errors.Join(
		consume(m, stage.Config{Name: "hookmesh-reconciler-debts", Topic: kafka.TopicDebts}, store, service.Debts()),
		consume(m, stage.Config{Name: "hookmesh-reconciler-dead", Topic: kafka.TopicDead}, store, service.DeadLetters()),
	)
}

// check says whether the process can do its work: Kafka answers, and nothing that runs here is broken.
func (m *Mesh) check(ctx context.Context) error {
	for _, healthy := range m.healthy {
		if err := healthy(); err != nil {
			return err
		}
	}
	if err := m.log.Ping(ctx); err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	for _, groups := range m.readers {
		for _, group := range groups {
			if !m.log.Joined(group) {
				return fmt.Errorf("not ready: not a member of consumer group %s yet", group)
			}
		}
	}
	return nil
}
