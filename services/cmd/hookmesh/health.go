package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

func healthCommand() *cobra.Command {
	var admin string
	var alive bool
	cmd := &cobra.Command{
		Use: "health", Short: "Ask a running process whether it is ready; exit code 1 if not", Args: noArgs,
		Long: "Ask a running process whether it is ready; exit code 1 if not. For the health checks of containers that hold nothing but this program.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			path := "/readyz"
			if alive {
				path = "/healthz"
			}
			a := api{base: admin, client: &http.Client{Timeout: 3 * time.Second}}
			text, err := a.getRaw(cmd.Context(), path, nil)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), string(text))
			return err
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "http://127.0.0.1:9100", "address of its admin port")
	cmd.Flags().BoolVar(&alive, "alive", false, "only ask whether it runs")
	return cmd
}
