package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/wiring"
)

// keptSpans is how many finished spans are kept in memory.
const keptSpans = 20_000

func upCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "up --config FILE", Short: "Run all services in this process", Args: noArgs,
		Long: "Run all services in this process, on the embedded defaults: broker, databases and model need nothing else.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), file, config.ServiceNames(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "hookmesh.yaml", "configuration file (docs/example.yaml shows all of it)")
	return cmd
}

func serveCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "serve SERVICE…", Short: "Run some services in this process", ValidArgs: config.ServiceNames(),
		Long: "Run some services in this process. The others are found through `services` in the configuration file.\n\nServices: " + strings.Join(config.ServiceNames(), ", "),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("`%s` wants at least one of %s", cmd.UseLine(), strings.Join(config.ServiceNames(), ", "))}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return serve(cmd.Context(), file, args, cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&file, "config", "hookmesh.yaml", "configuration file (docs/example.yaml shows all of it)")
	return cmd
}

// serve runs services until ctx ends.
func serve(ctx context.Context, file string, services []string, logs io.Writer) error {
	cfg, err := config.Load(file, wiring.Check)
	if err != nil {
		return usageError{err}
	}
	mesh, tel, err := start(ctx, cfg, services, logs)
	if err != nil {
		return err
	}
	addr := mesh.Addresses()
	tel.Logger.Info("hookmesh is up", "version", version, "http", addr.HTTP, "grpc", addr.GRPC, "admin", addr.Admin, "services", strings.Join(services, ","))
	return stop(tel, mesh.Run(ctx))
}

// start sets up telemetry and puts the services together.
func start(ctx context.Context, cfg config.Config, services []string, logs io.Writer) (*wiring.Mesh, *telemetry.Running, error) {
	logger, err := telemetry.NewLogger(logs, cfg.Telemetry.LogLevel, cfg.Telemetry.LogFormat)
	if err != nil {
		return nil, nil, usageError{err}
	}
	tel, err := telemetry.Setup(ctx, telemetry.Options{Logger: logger, Service: serviceName(services), Version: version, TracesPerSecond: cfg.Telemetry.TracesPerSecond, KeepSpans: keptSpans})
	if err != nil {
		return nil, nil, err
	}
	mesh, err := wiring.Start(ctx, wiring.Options{Config: cfg, Services: services, Telemetry: tel})
	if err != nil {
		return nil, nil, stop(tel, err)
	}
	return mesh, tel, nil
}

// stop ends telemetry, and returns why the services ended.
func stop(tel *telemetry.Running, err error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(err, tel.Shutdown(ctx))
}

// serviceName is how a process is called in traces: after its service, if it runs only one.
func serviceName(services []string) string {
	if len(services) == 1 {
		return "hookmesh-" + services[0]
	}
	return "hookmesh"
}
