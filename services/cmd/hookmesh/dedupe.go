package main

import (
	"fmt"
	"net/url"

	"github.com/spf13/cobra"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
)

func dedupeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "dedupe", Short: "Look up the first delivery of a provider's event, or forget it", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(dedupeLookupCommand(), dedupeForgetCommand())
	return cmd
}

func dedupeLookupCommand() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: "lookup SOURCE KEY", Short: "Show the first delivery under a provider's event id", Args: exactly(2, "a source and the provider's event id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var res dedupev1.LookupKeyResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/dedupe/keys", url.Values{"source": {args[0]}, "idempotencyKey": {args[1]}}, &res); err != nil {
				return err
			}
			return printJSON(cmd, &res)
		},
	}
	urlFlag(cmd, &base)
	return cmd
}

func dedupeForgetCommand() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: "forget SOURCE KEY", Short: "Forget a provider's event id, so that its next delivery is processed again", Args: exactly(2, "a source and the provider's event id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var res dedupev1.ForgetKeyResponse
			if err := newAPI(base).post(cmd.Context(), "/v1/dedupe/keys:forget", &dedupev1.ForgetKeyRequest{Source: args[0], IdempotencyKey: args[1]}, &res); err != nil {
				return err
			}
			text := "forgotten: its next delivery is processed"
			if !res.GetForgotten() {
				text = "it was not known"
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), text)
			return err
		},
	}
	urlFlag(cmd, &base)
	return cmd
}
