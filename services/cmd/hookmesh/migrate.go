package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/wiring"
)

func migrateCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "migrate --config FILE", Short: "Bring the schemas in PostgreSQL (store.dsn) up to date", Args: noArgs,
		Long: "Creates the services' schemas in the database of store.dsn, or brings them up to date. It may run again, and from several\n" +
			"places at once. Services check their schema when they start and refuse to run over another version.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return usageError{err}
			}
			if cfg.Store.DSN == "" {
				return usageError{errors.New("store.dsn is empty: SQLite under data_dir brings itself up to date")}
			}
			return wiring.Migrate(cmd.Context(), cfg.Store.DSN, func(schema string, from, to int) {
				state := "was up to date"
				if from != to {
					state = fmt.Sprintf("went from version %d", from)
				}
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%-22s version %d, %s\n", schema, to, state)
			})
		},
	}
	cmd.Flags().StringVar(&file, "config", "hookmesh.yaml", "configuration file (docs/example.yaml shows all of it)")
	return cmd
}
