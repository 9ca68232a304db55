package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/wiring"
)

func exportCommand() *cobra.Command {
	var file string
	var drain time.Duration
	cmd := &cobra.Command{
		Use: "export FILE --config FILE", Short: "Write the state under data_dir to a file that `hookmesh import` reads", Args: exactly(1, "a file to write"),
		Long: "Writes what the services know (SQLite under data_dir) to one file, for a move to PostgreSQL and Kafka. Stop hookmesh first.\n" +
			"The log of events does not move: what was accepted must have been processed. With --drain the services work for as long as\n" +
			"that takes, at most for the time given, and no delivery reaches them. The file holds documents and payloads; its secrets are encrypted.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return moving(cmd, file, func(ctx context.Context, opts wiring.Options) (map[string]int64, error) {
				if opts.Config.Store.DSN != "" || len(opts.Config.Kafka.Brokers) > 0 {
					return nil, usageError{errors.New("the state is exported from SQLite beside the embedded log, but store.dsn or kafka.brokers is set: give the old configuration. PostgreSQL moves with pg_dump")}
				}
				rows, err := wiring.Export(ctx, opts, args[0], version, drain)
				if errors.Is(err, wiring.ErrNotDrained) && drain == 0 {
					err = fmt.Errorf("%w: export with --drain 5m, which lets the services process what is left without taking deliveries", err)
				}
				return rows, err
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "hookmesh.yaml", "configuration file with the data_dir to export")
	cmd.Flags().DurationVar(&drain, "drain", 0, "how long to process what was accepted but not processed; 0: refuse to export then")
	return cmd
}

func importCommand() *cobra.Command {
	var file string
	var memory int64
	cmd := &cobra.Command{
		Use: "import FILE --config FILE", Short: "Read what `hookmesh export` wrote into an empty PostgreSQL (store.dsn)", Args: exactly(1, "a file that `hookmesh export` wrote"),
		Long: "Reads the file into the database of store.dsn, on which `hookmesh migrate` was run and nothing else. Everything is kept, or nothing:\n" +
			"an import that failed or was interrupted may simply be run again; services that start meanwhile wait for its end. kafka.partitions must be the number that the services will use,\n" +
			"and verifier.keys must hold the old secrets.key if sources were made at run time.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return moving(cmd, file, func(ctx context.Context, opts wiring.Options) (map[string]int64, error) {
				if opts.Config.Store.DSN == "" {
					return nil, usageError{errors.New("store.dsn is empty: give the new configuration. From SQLite to SQLite `hookmesh backup` moves everything")}
				}
				if memory < 64 {
					return nil, usageError{fmt.Errorf("--index-memory is %d, but an index wants 64 (megabytes) at least", memory)}
				}
				return wiring.Import(ctx, opts, args[0], wiring.Moving{IndexMemory: memory << 20, Report: newProgress(cmd.ErrOrStderr(), time.Now).report})
			})
		},
	}
	cmd.Flags().Int64Var(&memory, "index-memory", 1024, "megabytes of PostgreSQL's memory that an index may take while it is made")
	cmd.Flags().StringVar(&file, "config", "hookmesh.yaml", "configuration file with the store.dsn to import into")
	return cmd
}

// moving reads the configuration, moves, and prints how many rows of each table were moved.
func moving(cmd *cobra.Command, file string, move func(context.Context, wiring.Options) (map[string]int64, error)) error {
	cfg, err := config.Load(file, wiring.Check)
	if err != nil {
		return usageError{err}
	}
	logger, err := telemetry.NewLogger(cmd.ErrOrStderr(), "warn", cfg.Telemetry.LogFormat)
	if err != nil {
		return usageError{err}
	}
	tel, err := telemetry.Setup(cmd.Context(), telemetry.Options{Logger: logger, Service: "hookmesh-move", Version: version})
	if err != nil {
		return err
	}
	rows, err := move(cmd.Context(), wiring.Options{Config: cfg, Telemetry: tel})
	if err := stop(tel, err); err != nil {
		return err
	}
	return printRows(cmd.OutOrStdout(), rows)
}

func printRows(w io.Writer, rows map[string]int64) error {
	for _, table := range slices.Sorted(maps.Keys(rows)) {
		if _, err := fmt.Fprintf(w, "%-24s %d\n", table, rows[table]); err != nil {
			return err
		}
	}
	return nil
}
