// Command hookmesh receives webhooks and keeps a knowledge base in step with their sources.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the build.
var version = "dev"

// exitError is an error with an exit code of its own; its text, if any, was already printed.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// usageError is a wrong use of a command: exit code 2.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes a command line and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var exit exitError
	var usage usageError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.code
	case errors.As(err, &usage):
		_, _ = fmt.Fprintln(stderr, "hookmesh:", err)
		return 2
	}
	_, _ = fmt.Fprintln(stderr, "hookmesh:", err)
	return 1
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "hookmesh",
		Short:         "Receives webhooks and keeps a knowledge base in step with their sources",
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(keysCommand())
	root.AddCommand(
		upCommand(), serveCommand(), demoCommand(), sendCommand(), verifyCommand(), presetsCommand(), searchCommand(),
		eventsCommand(), traceCommand(), deadCommand(), debtsCommand(), driftCommand(), backfillCommand(), topicsCommand(), migrateCommand(), healthCommand(), sourcesCommand(), doctorCommand(), listenCommand(), versionCommand(),
		orderCommand(), dedupeCommand(), backupCommand(), exportCommand(), importCommand(),
	)
	return root
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "hookmesh", version)
			return err
		},
	}
}

// noArgs refuses arguments with exit code 2.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}
