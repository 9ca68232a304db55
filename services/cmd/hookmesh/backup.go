package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/wiring"
)

func backupCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "backup DIR --config FILE", Short: "Copy the SQLite databases under data_dir, also while hookmesh runs", Args: exactly(1, "an empty folder"),
		Long: "Copies each database as it is at one moment, in the order in which the copies fit together, and the key of the secrets.\n" +
			"docs/operations.md says how to restore them. PostgreSQL (store.dsn) has tools of its own.",
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return usageError{err}
			}
			if cfg.Store.DSN != "" {
				return usageError{errors.New("store.dsn is set: back up that database with pg_dump")}
			}
			return wiring.Backup(cmd.Context(), cfg.DataDir, args[0], func(name string) { _, _ = fmt.Fprintln(cmd.OutOrStdout(), name) })
		},
	}
	cmd.Flags().StringVar(&file, "config", "hookmesh.yaml", "configuration file (docs/example.yaml shows all of it)")
	return cmd
}
