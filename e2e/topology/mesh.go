package topology

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Services are the services of the mesh, in the order in which they are started.
func Services() []string {
	return []string{"verifier", "dedupe", "sequencer", "embedder", "reconciler", "gateway"}
}

// Secret is the secret of the source "docs".
const Secret = "e2e-secret"

// Options say what to start.
type Options struct {
	// Dir holds data, configurations and logs.
	Dir string
	// Binary is the program.
	Binary string
	// Brokers is how many nodes Kafka has; 0: 1.
	Brokers int
	// Replicas is how many processes a service has; those not named have one.
	Replicas map[string]int
	// Partitions of every topic; 0: 6.
	Partitions int
	// Env is added to every process' environment.
	Env []string
	// Config is added to every configuration file.
	Config string
	// Sources stand in the place of the source "docs": a list in YAML, each of its lines indented by two spaces at least.
	Sources string
	// Direct lets the processes talk to each other, to Kafka and to PostgreSQL without links, which cannot be cut then but cost nothing either.
	Direct bool
	// Standby adds a second PostgreSQL that follows the first, and lets every service know both.
	Standby bool
	// Import is an archive of `hookmesh export` that is imported before the services start; empty: they begin with nothing.
	Import string
}

// Instance is one process of a service. Its gRPC port is reached through Link, and it reaches the database through Database.
type Instance struct {
	*Process
	Service           string
	HTTP, GRPC, Admin string
	// Link is the connection that the other services use; it can be cut.
	Link *Link
	// Database is its own connection to PostgreSQL; it can be cut too.
	Database *Link
}

// Mesh is a running topology.
type Mesh struct {
	Options
	Kafka     *Kafka
	Postgres  *Postgres
	Instances []*Instance
	// Standby, if there is one, streams from Postgres; the connection can be cut.
	Standby *Standby
	// Edge is the TLS proxy in front of the gateways.
	Edge *Edge
}

// Start starts everything and waits until every process is ready. What was started is stopped again if something fails.
func Start(ctx context.Context, opts Options) (_ *Mesh, err error) {
	m, err := Prepare(ctx, opts)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.Kill()
		}
	}()
	if err := m.serve(ctx); err != nil {
		return nil, err
	}
	var gateways []string
	for _, in := range m.Of("gateway") {
		gateways = append(gateways, in.HTTP)
	}
	m.Edge, err = StartEdge(gateways)
	return m, err
}

// Prepare starts Kafka and PostgreSQL only. Anew starts the rest, without a proxy.
func Prepare(ctx context.Context, opts Options) (_ *Mesh, err error) {
	opts.Brokers, opts.Partitions = max(1, opts.Brokers), orElse(opts.Partitions, 6)
	m := &Mesh{Options: opts}
	defer func() {
		if err != nil {
			m.Kill()
		}
	}()
	if m.Kafka, err = startKafka(ctx, filepath.Join(opts.Dir, "kafka"), opts.Brokers, !opts.Direct); err != nil {
		return nil, err
	}
	if m.Postgres, err = StartPostgres(ctx, opts.Dir); err != nil {
		return nil, err
	}
	if opts.Standby {
		if m.Standby, err = StartStandby(ctx, opts.Dir, m.Postgres); err != nil {
			return nil, err
		}
	}
	return m, m.plan()
}

// serve starts the services over what they find, and waits until every process is ready.
func (m *Mesh) serve(ctx context.Context) error {
	for _, in := range m.Instances {
		if err := os.WriteFile(filepath.Join(m.Dir, in.Name+".yaml"), []byte(m.config(in)), 0o600); err != nil {
			return err
		}
	}
	if err := m.applyTopics(ctx); err != nil {
		return err
	}
	if out, err := m.command(ctx, "migrate"); err != nil {
		return fmt.Errorf("migrate: %w\n%s", err, out)
	}
	if m.Import != "" {
		if out, err := m.command(ctx, "import", m.Import); err != nil {
			return fmt.Errorf("import: %w\n%s", err, out)
		}
	}
	return m.Up(ctx)
}

// Up starts the services, none of which runs, and waits until every process is ready.
func (m *Mesh) Up(ctx context.Context) error {
	for _, in := range m.Instances {
		if err := in.Start(); err != nil {
			return err
		}
	}
	return m.Ready(ctx)
}

// Anew makes a new mesh with other settings and sources on the same Kafka and PostgreSQL: the services start over topics, a database and disks that
// hold nothing.
func (m *Mesh) Anew(ctx context.Context, config, sources string) error {
	m.EndServices(syscall.SIGTERM, 10*time.Second) // in order, so that nobody waits for the members of their groups
	for _, in := range m.Instances {
		in.Link.Mend()
		in.Database.Mend()
		if err := errors.Join(os.RemoveAll(m.data(in)), os.RemoveAll(in.Log())); err != nil {
			return err
		}
	}
	if err := m.Kafka.DeleteTopics(ctx); err != nil {
		return err
	}
	if err := m.Postgres.NewDatabase(ctx); err != nil {
		return err
	}
	m.Config, m.Sources = config, sources
	return m.serve(ctx)
}

func orElse(n, other int) int {
	if n == 0 {
		return other
	}
	return n
}

// plan gives every instance its ports and its links.
func (m *Mesh) plan() error {
	for _, service := range Services() {
		for i := range max(1, m.Replicas[service]) {
			in := &Instance{Service: service}
			for _, addr := range []*string{&in.HTTP, &in.GRPC, &in.Admin} {
				free, err := FreePort()
				if err != nil {
					return err
				}
				*addr = free
			}
			name := fmt.Sprintf("%s-%d", service, i+1)
			if err := m.link(in); err != nil {
				return err
			}
			in.Process = &Process{Name: name, Dir: m.Dir, Env: m.Env, Args: []string{m.Binary, "serve", service, "--config", filepath.Join(m.Dir, name+".yaml")}}
			m.Instances = append(m.Instances, in)
		}
	}
	return nil
}

// link gives an instance its links, unless the processes talk directly.
func (m *Mesh) link(in *Instance) (err error) {
	if m.Direct {
		return nil
	}
	if in.Link, err = NewLink(in.GRPC); err != nil {
		return err
	}
	in.Database, err = NewLink(m.Postgres.Addr)
	return err
}

// reach is where an address is reached: through the link, if there is one.
func reach(l *Link, direct string) string {
	if l == nil {
		return direct
	}
	return l.Addr()
}

// dsn is how an instance reaches the database: with a standby, whichever server may be written to.
func (m *Mesh) dsn(in *Instance) string {
	addr := reach(in.Database, m.Postgres.Addr)
	if m.Standby == nil {
		return m.Postgres.DSN(addr)
	}
	return m.Postgres.DSN(addr+","+m.Standby.Addr) + "&target_session_attrs=read-write"
}

// config is the configuration file of an instance.
func (m *Mesh) config(in *Instance) string {
	var services strings.Builder
	for _, service := range Services() {
		var addrs []string
		for _, other := range m.Of(service) {
			addrs = append(addrs, reach(other.Link, other.GRPC))
		}
		fmt.Fprintf(&services, "  %s: %q\n", service, strings.Join(addrs, ","))
	}
	return fmt.Sprintf(`http: {listen: %q}
grpc: {listen: %q}
admin: {listen: %q}
data_dir: %q
store: {dsn: %q}
kafka: {brokers: ["%s"], partitions: %d, replication_factor: %d, instance_id: %q}
verifier: {keys: [{value: "%064d"}]}
services:
%s%s
sources:
%s`, in.HTTP, in.GRPC, in.Admin, m.data(in), m.dsn(in), strings.Join(m.Kafka.Brokers, `", "`), m.Partitions, min(3, m.Brokers), in.Name, 7, services.String(), m.Config, cmp.Or(m.Sources, Docs))
}

// Docs is the source that a mesh has if it was not given others.
const Docs = `  - name: docs
    preset: generic-hmac
    settings: {ordering: monotonic}
    secrets: [{value: ` + Secret + `}]
    content: {inline: content, title: title}
    rate: {per_second: -1}
`

// data is an instance's own disk.
func (m *Mesh) data(in *Instance) string { return filepath.Join(m.Dir, "data-"+in.Name) }

// applyTopics creates the topics as an operator would. A young cluster may need a moment until it can.
func (m *Mesh) applyTopics(ctx context.Context) error {
	var err error
	for range 30 {
		var out []byte
		if out, err = m.command(ctx, "topics", "apply"); err == nil {
			return nil
		}
		err = fmt.Errorf("topics apply: %w\n%s", err, out)
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Second):
		}
	}
	return err
}

// command runs the program with the configuration of an instance.
func (m *Mesh) command(ctx context.Context, args ...string) ([]byte, error) {
	args = append(args, "--config", filepath.Join(m.Dir, m.Instances[0].Name+".yaml"))
	return exec.CommandContext(ctx, m.Binary, args...).CombinedOutput()
}

// Of returns the instances of a service.
func (m *Mesh) Of(service string) (found []*Instance) {
	for _, in := range m.Instances {
		if in.Service == service {
			found = append(found, in)
		}
	}
	return found
}

// Ready waits until every process says so.
func (m *Mesh) Ready(ctx context.Context) error {
	for _, in := range m.Instances {
		if err := in.Await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Await waits until the process is ready.
func (in *Instance) Await(ctx context.Context) error {
	for {
		err := in.ready(ctx)
		if err == nil {
			return nil
		}
		if !in.Running() {
			return fmt.Errorf("%s ended by itself:\n%s", in.Name, in.Tail())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", in.Name, err, in.Tail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (in *Instance) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+in.Admin+"/readyz", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	return nil
}

// Stop ends everything in order and says how long each process took to drain.
func (m *Mesh) Stop() map[string]time.Duration {
	took := m.EndServices(syscall.SIGTERM, 30*time.Second)
	m.Kill()
	return took
}

// EndServices sends a signal that ends them to all services and waits until they have; those that do not are killed. It says how long each took.
func (m *Mesh) EndServices(sig syscall.Signal, patience time.Duration) map[string]time.Duration {
	took := map[string]time.Duration{}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, in := range m.Instances {
		wg.Go(func() {
			d := in.End(sig, patience)
			mu.Lock()
			took[in.Name] = d
			mu.Unlock()
		})
	}
	wg.Wait()
	return took
}

// Kill ends everything at once.
func (m *Mesh) Kill() {
	if m.Edge != nil {
		m.Edge.Close()
	}
	m.EndServices(syscall.SIGKILL, 0)
	for _, in := range m.Instances {
		in.Link.Close()
		in.Database.Close()
	}
	if m.Standby != nil {
		m.Standby.Kill()
	}
	if m.Postgres != nil {
		m.Postgres.Kill()
	}
	if m.Kafka != nil {
		m.Kafka.Kill()
	}
}
