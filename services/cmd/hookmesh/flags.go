package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// urlFlag adds --url.
func urlFlag(cmd *cobra.Command, base *string) {
	cmd.Flags().StringVar(base, "url", "http://127.0.0.1:8080", "address of the running hookmesh")
}

// exactly wants n arguments and says what they are.
func exactly(n int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != n {
			return usageError{fmt.Errorf("`%s` wants %s", cmd.UseLine(), what)}
		}
		return nil
	}
}
