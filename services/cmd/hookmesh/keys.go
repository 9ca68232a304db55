package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/internal/access"
)

// apiKeyVariable is where the commands find the key for the API.
const apiKeyVariable = "HOOKMESH_API_KEY"

func keysCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "Make API keys", Args: noArgs}
	cmd.AddCommand(newKeyCommand())
	return cmd
}

func newKeyCommand() *cobra.Command {
	var name string
	var scopes []string
	var lasts time.Duration
	cmd := &cobra.Command{
		Use:   "new",
		Short: "Make an API key and print what the configuration holds of it",
		Long: "Makes a key of 256 random bits. The key is printed once and kept nowhere; the configuration holds its hash.\n" +
			"Commands use the key from " + apiKeyVariable + ", other programs send it as `Authorization: Bearer KEY`.",
		Example: "  hookmesh keys new --name dashboards --scope read\n  hookmesh keys new --name on-call --scope operate --lasts 2160h",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usageError{fmt.Errorf("say with --name what the audit log shall call the key")}
			}
			for _, s := range scopes {
				if !slices.Contains(access.Scopes(), access.Scope(s)) {
					return usageError{fmt.Errorf("there is no scope %q; there are %v", s, access.Scopes())}
				}
			}
			key := access.NewKey()
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "key (shown once): %s\n\nfor the configuration:\naccess:\n  keys:\n    - name: %q\n      hash: %q\n      scopes: [%s]\n", key, name, access.HashOf(key), strings.Join(scopes, ", "))
			if lasts > 0 {
				fmt.Fprintf(out, "      not_after: %s\n", time.Now().Add(lasts).UTC().Format(time.RFC3339))
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "what the audit log calls the key")
	cmd.Flags().StringSliceVar(&scopes, "scope", []string{string(access.Read)}, "what its holder may do: read, operate, ingest-admin; may be repeated")
	cmd.Flags().DurationVar(&lasts, "lasts", 0, "how long it is good for, for example 2160h; 0: until it is taken out of the configuration")
	return cmd
}
