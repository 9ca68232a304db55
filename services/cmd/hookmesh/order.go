package main

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
)

func orderCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "order", Short: "Look at the order of events, and decide on gaps by hand", Args: noArgs, RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(orderShowCommand(), orderGapsCommand(), orderSkipCommand(), orderWaitCommand())
	return cmd
}

func orderShowCommand() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: "show SOURCE DOCUMENT", Short: "Show what the sequencer knows of a document", Args: exactly(2, "a source and a document's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var res sequencerv1.GetDocumentResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/order", url.Values{"source": {args[0]}, "documentId": {args[1]}}, &res); err != nil {
				return err
			}
			return printJSON(cmd, &res)
		},
	}
	urlFlag(cmd, &base)
	return cmd
}

func orderGapsCommand() *cobra.Command {
	var base, source string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "gaps", Short: "List what is waited for, the gap that ends first first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var res sequencerv1.ListGapsResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/gaps", url.Values{"source": {source}, "limit": {strconv.Itoa(limit)}}, &res); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, &res)
			}
			out := cmd.OutOrStdout()
			if len(res.GetGaps()) == 0 {
				_, _ = fmt.Fprintln(out, "nothing is waited for")
			}
			for _, g := range res.GetGaps() {
				what := g.GetSource() + "/" + g.GetDocumentId()
				if g.GetDocumentId() == "" {
					what = g.GetSource() + " (the whole source)"
				}
				missing := strconv.FormatInt(g.GetMissing(), 10)
				if g.GetMissingUntil() > g.GetMissing() {
					missing += "-" + strconv.FormatInt(g.GetMissingUntil(), 10)
				}
				_, _ = fmt.Fprintf(out, "%s  missing %s, %d wait until %s\n", what, missing, g.GetHeld(), g.GetDeadline().AsTime().Local().Format("2006-01-02 15:04:05"))
			}
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().StringVar(&source, "source", "", "only this source")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at the most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func orderSkipCommand() *cobra.Command {
	var base string
	var missing int64
	cmd := &cobra.Command{
		Use: "skip SOURCE [DOCUMENT]", Short: "Stop waiting for a missing event; without a document: for the oldest hole of a source",
		Args: between(1, 2, "a source, and a document's id unless the gap is in the numbers of the whole source"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &sequencerv1.SkipGapRequest{Source: args[0], Missing: missing}
			if len(args) == 2 {
				req.DocumentId = args[1]
			}
			if err := newAPI(base).post(cmd.Context(), "/v1/gaps:skip", req, &sequencerv1.SkipGapResponse{}); err != nil {
				return err
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "the command is on its way; `hookmesh order gaps` shows when it is carried out")
			return err
		},
	}
	urlFlag(cmd, &base)
	missingFlag(cmd, &missing)
	return cmd
}

func orderWaitCommand() *cobra.Command {
	var base string
	var missing int64
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "wait SOURCE DOCUMENT", Short: "Go on waiting for a missing event", Args: exactly(2, "a source and a document's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if wait <= 0 {
				return usageError{fmt.Errorf("--for must be more than 0, for example 10m")}
			}
			until := time.Now().Add(wait)
			req := &sequencerv1.WaitForGapRequest{Source: args[0], DocumentId: args[1], Missing: missing, Until: timestamppb.New(until)}
			if err := newAPI(base).post(cmd.Context(), "/v1/gaps:wait", req, &sequencerv1.WaitForGapResponse{}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "the command is on its way: waits until %s\n", until.Format("2006-01-02 15:04:05"))
			return err
		},
	}
	urlFlag(cmd, &base)
	missingFlag(cmd, &missing)
	cmd.Flags().DurationVar(&wait, "for", 10*time.Minute, "how long from now on; at most 720h")
	return cmd
}

// missingFlag is the gap that a command is meant for: by the time that it is carried out there may be another.
func missingFlag(cmd *cobra.Command, missing *int64) {
	cmd.Flags().Int64Var(missing, "missing", 0, "the number that is missing, as `order gaps` prints it (required)")
	if err := cmd.MarkFlagRequired("missing"); err != nil {
		panic(err) // the flag was made the line before
	}
}

// between wants some arguments.
func between(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return usageError{fmt.Errorf("`%s` wants %s", cmd.UseLine(), what)}
		}
		return nil
	}
}
