// Command mesh runs the whole topology on this machine until it is interrupted: two of every service, three Kafka nodes,
// PostgreSQL, a TLS proxy.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/hookmesh/hookmesh/e2e/topology"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mesh:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

func run(ctx context.Context) error {
	brokers := flag.Int("brokers", 3, "nodes of Kafka")
	replicas := flag.Int("replicas", 2, "processes of every service")
	flag.Parse()
	dir, err := os.MkdirTemp("", "hookmesh-mesh-")
	if err != nil {
		return err
	}
	opts := topology.Options{Dir: dir, Binary: filepath.Join(topology.Root(), "bin/hookmesh"), Brokers: *brokers, Replicas: map[string]int{}}
	for _, service := range topology.Services() {
		opts.Replicas[service] = *replicas
	}
	fmt.Println("starting; data, configurations and logs are in", dir)
	starting, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	m, err := topology.Start(starting, opts)
	if err != nil {
		return err
	}
	fmt.Printf("\n%-14s %-8s %-24s %-24s %s\n", "process", "pid", "http", "grpc", "admin")
	for _, in := range m.Instances {
		http := ""
		if in.Service == "gateway" {
			http = "http://" + in.HTTP
		}
		fmt.Printf("%-14s %-8d %-24s %-24s http://%s\n", in.Name, in.PID(), http, in.GRPC, in.Admin)
	}
	fmt.Printf("%-14s %v\n%-14s %s\n%-14s %s (a certificate of its own)\n", "kafka", m.Kafka.Brokers, "postgres", m.Postgres.DSN(m.Postgres.Addr), "proxy", m.Edge.URL)
	fmt.Printf("\nsend something:  bin/hookmesh send --url http://%s --source docs --preset generic-hmac --secret %s --file payload.json\nCtrl-C ends it.\n", m.Of("gateway")[0].HTTP, topology.Secret)
	<-ctx.Done()
	for name, took := range m.Stop() {
		fmt.Printf("%s drained in %.2fs\n", name, took.Seconds())
	}
	return nil
}
