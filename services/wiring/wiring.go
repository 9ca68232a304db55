// Package wiring alone knows all services: which there are, what each needs, and how a process that runs some of them is
// put together. `up` is nothing but all of them on the embedded defaults.
package wiring

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"google.golang.org/grpc"

	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/access"
	"github.com/hookmesh/hookmesh/services/internal/admin"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/kafka/embedded"
	"github.com/hookmesh/hookmesh/services/internal/pace"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/rpc"
	"github.com/hookmesh/hookmesh/services/internal/seal"
	"github.com/hookmesh/hookmesh/services/internal/sources"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// Options says what a process runs.
type Options struct {
	Config config.Config
	// Services are the names of those that run here.
	Services []string
	// Telemetry is where they report to.
	Telemetry *telemetry.Running
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Addresses are where a running process listens; empty: not served.
type Addresses struct {
	HTTP  string
	GRPC  string
	Admin string
}

// Mesh is a process that was put together.
type Mesh struct {
	opts  Options
	cfg   config.Config
	tel   telemetry.Telemetry
	log   *kafka.Log
	conns map[string]grpc.ClientConnInterface

	// keys open credentials; nil: this process has none.
	keys *seal.Ring
	// sources knows which there are, also those made at run time.
	sources *sources.Registry

	server *rpc.Server
	admin  *admin.Server
	// edge are the servers that stop first, so that nothing new comes in; work are the loops behind them.
	edge, work []task
	// readers are the consumer groups of each topic.
	readers map[string][]string
	// pacer makes the background give way to requests.
	pacer pace.Pacer
	// limits keep fetches and polls with one credential to one rate.
	limits rest.Limiters
	// healthy are asked at every readiness check.
	healthy []func() error
	// warnings say what is wrong without keeping the process from its work.
	warnings []func() []string
	// closers run in reverse at the very end.
	closers []func() error
	// order is the sequencer's store, if it runs here.
	order any
	// databaseAway: a service waited for PostgreSQL in vain.
	databaseAway bool
	listeners    struct{ http, grpc, admin net.Listener }
}

// task is something that runs until its context ends.
type task struct {
	name string
	run  func(context.Context) error
}

// Start puts a process together: it opens the stores, starts the embedded broker if there is no other, creates the topics
// and listens. On an error everything that was opened is closed again.
func Start(ctx context.Context, opts Options) (_ *Mesh, err error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	m := &Mesh{opts: opts, cfg: opts.Config, tel: opts.Telemetry.Telemetry, conns: map[string]grpc.ClientConnInterface{}, readers: map[string][]string{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, m.close())
		}
	}()
	if err := m.checkServices(); err != nil {
		return nil, err
	}
	for _, step := range []func(context.Context) error{m.lockData, m.listen, m.startLog, m.startRPC, m.startSources, m.startServices} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	m.admin = admin.New(opts.Telemetry, m.check, m.server.Introspection(), m.warnings...)
	return m, nil
}

// checkServices wants known names, and an address for every service that is needed but does not run here.
func (m *Mesh) checkServices() error {
	var errs []error
	for _, name := range m.opts.Services {
		if !slices.Contains(config.ServiceNames(), name) {
			errs = append(errs, fmt.Errorf("there is no service %q; there are %v", name, config.ServiceNames()))
			continue
		}
		for _, need := range modules[name].needs {
			if !m.here(need) && m.cfg.Services[need] == "" {
				errs = append(errs, fmt.Errorf("%s needs %s, which does not run in this process: say where it is with services.%s in the config file", name, need, need))
			}
		}
	}
	if len(m.cfg.Kafka.Brokers) == 0 && len(m.opts.Services) < len(config.ServiceNames()) {
		errs = append(errs, errors.New("the embedded broker serves one process: to run services apart, say kafka.brokers in the config file, or run all of them with `hookmesh up`"))
	}
	return errors.Join(errs...)
}

// here says whether a service runs in this process.
func (m *Mesh) here(name string) bool { return slices.Contains(m.opts.Services, name) }

// lockData keeps a second process off the data directory: the embedded broker and SQLite have one owner.
func (m *Mesh) lockData(context.Context) error {
	if err := os.MkdirAll(m.cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("create data_dir: %w", err)
	}
	name, take := "lock", (*flock.Flock).TryLock
	if len(m.opts.Services) < len(config.ServiceNames()) {
		name = "lock-" + m.opts.Services[0]
		if !m.here("gateway") {
			// Replicas of a service may share its database on one machine: their transactions are fenced. A spool has one owner.
			take = (*flock.Flock).TryRLock
		}
	}
	lock := flock.New(filepath.Join(m.cfg.DataDir, name))
	ok, err := take(lock)
	if err != nil {
		return fmt.Errorf("lock data_dir: %w", err)
	}
	if !ok {
		return fmt.Errorf("data_dir %s is in use by another hookmesh process; stop it, or choose another data_dir", m.cfg.DataDir)
	}
	m.closers = append(m.closers, lock.Unlock)
	return nil
}

// listen takes the ports first: if one is in use, nothing else was started in vain.
func (m *Mesh) listen(ctx context.Context) error {
	var lc net.ListenConfig
	for _, l := range []struct {
		key, addr string
		to        *net.Listener
	}{
		{"http.listen", m.httpAddr(), &m.listeners.http},
		{"grpc.listen", m.cfg.GRPC.Listen, &m.listeners.grpc},
		{"admin.listen", m.cfg.Admin.Listen, &m.listeners.admin},
	} {
		if l.addr == "" {
			continue
		}
		listener, err := lc.Listen(ctx, "tcp", l.addr)
		if err != nil {
			return fmt.Errorf("%s: %w", l.key, err)
		}
		*l.to = listener
		m.closers = append(m.closers, func() error {
			if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		})
	}
	return nil
}

// httpAddr is where the edge listens, if it runs here.
func (m *Mesh) httpAddr() string {
	if m.here("gateway") {
		return m.cfg.HTTP.Listen
	}
	return ""
}

// startLog connects to Kafka, or starts the broker inside, and creates the topics.
func (m *Mesh) startLog(ctx context.Context) error {
	if len(m.cfg.Kafka.Brokers) == 0 {
		broker, err := embedded.Start(filepath.Join(m.cfg.DataDir, "kafka"))
		if err != nil {
			return err
		}
		m.closers = append(m.closers, func() error { broker.Close(); return nil })
		m.cfg.Kafka.Brokers = broker.Addrs()
		m.cfg.Kafka.Retention, m.cfg.Kafka.DeadRetention = -1, -1 // trimmed by what was processed instead
		m.work = append(m.work, task{"trim", func(ctx context.Context) error { return m.log.KeepTrimmed(ctx, broker, m.readers, m.tel.Logger) }})
	}
	log, err := OpenLog(m.cfg.Kafka, m.tel)
	if err != nil {
		return err
	}
	m.log = log
	m.closers = append(m.closers, func() error { m.log.Close(); return nil })
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return m.log.EnsureTopics(ctx, Topics(m.cfg.Kafka))
}

// startRPC makes the server on which the services register, and the connections by which they find each other.
func (m *Mesh) startRPC(context.Context) error {
	files, err := m.mutualTLS()
	if err != nil {
		return err
	}
	gate, err := m.gate("grpc.listen", m.cfg.GRPC.Listen)
	if err != nil {
		return err
	}
	server, err := rpc.NewServer(files, gate, m.tel, postgres.Transient, sqlite.Busy)
	if err != nil {
		return err
	}
	m.server = server
	for _, name := range config.ServiceNames() {
		if m.here(name) {
			m.conns[name] = server.Local()
			continue
		}
		if addr := m.cfg.Services[name]; addr != "" {
			conn, err := rpc.Dial(addr, files, m.tel, access.AsService(string(m.cfg.Access.ServiceKey))...)
			if err != nil {
				return fmt.Errorf("services.%s: %w", name, err)
			}
			m.conns[name], m.closers = conn, append(m.closers, conn.Close)
		}
	}
	return nil
}

// startServices makes each service that runs here, in the order in which they need each other. What is wrong with the
// configuration of any of them is reported for all of them at once.
func (m *Mesh) startServices(ctx context.Context) error {
	var errs []error
	for _, name := range config.ServiceNames() {
		if m.here(name) {
			if err := modules[name].init(ctx, m); err != nil {
				errs = append(errs, err)
			}
		}
	}
	if len(errs) == 0 && len(m.readers) > 0 {
		errs = append(errs, m.log.MeasureLag(m.tel, m.readers))
	}
	errs = append(errs, m.tellServices())
	return errors.Join(errs...)
}

// Addresses are where the process listens.
func (m *Mesh) Addresses() Addresses {
	addr := func(l net.Listener) string {
		if l == nil {
			return ""
		}
		return l.Addr().String()
	}
	return Addresses{HTTP: addr(m.listeners.http), GRPC: addr(m.listeners.grpc), Admin: addr(m.listeners.admin)}
}

// Run serves until ctx ends, then stops in order: first the edge, so that nothing new comes in; then the loops; then the
// calls between services; the broker and the stores at last. It returns the first error that made it stop.
func (m *Mesh) Run(ctx context.Context) error {
	calls := []task{{"gRPC", func(ctx context.Context) error {
		var listeners []net.Listener
		if m.listeners.grpc != nil {
			listeners = append(listeners, m.listeners.grpc)
		}
		return m.server.Serve(ctx, listeners...)
	}}}
	if m.listeners.admin != nil {
		calls = append(calls, task{"admin", func(ctx context.Context) error { return m.admin.Serve(ctx, m.listeners.admin) }})
	}
	failed, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	layers := make([]layer, 0, 3)
	for _, tasks := range [][]task{calls, m.work, m.edge} {
		layers = append(layers, startLayer(ctx, tasks, fail))
	}
	m.admin.Ready(true)
	<-failed.Done()
	m.admin.Ready(false)
	var errs []error
	if cause := context.Cause(failed); ctx.Err() == nil && cause != nil {
		errs = append(errs, cause)
	}
	for _, l := range slices.Backward(layers) {
		l.stop()
	}
	return errors.Join(append(errs, m.close())...)
}

// layer is a group of tasks that stop together.
type layer struct {
	cancel context.CancelFunc
	tasks  *sync.WaitGroup
}

// startLayer starts tasks in a context that outlives ctx: layers are stopped one after the other, not all at once. A task
// that ends by itself makes everything stop.
func startLayer(ctx context.Context, tasks []task, fail context.CancelCauseFunc) layer {
	layerCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := layer{cancel: cancel, tasks: &sync.WaitGroup{}}
	for _, t := range tasks {
		l.tasks.Go(func() {
			err := t.run(layerCtx)
			if layerCtx.Err() != nil {
				return
			}
			if err == nil {
				err = errors.New("ended without being asked to")
			}
			fail(fmt.Errorf("%s: %w", t.name, err))
		})
	}
	return l
}

func (l layer) stop() {
	l.cancel()
	l.tasks.Wait()
}

// close closes what was opened, the newest first.
func (m *Mesh) close() error {
	var errs []error
	for _, fn := range slices.Backward(m.closers) {
		errs = append(errs, fn())
	}
	m.closers = nil
	return errors.Join(errs...)
}
