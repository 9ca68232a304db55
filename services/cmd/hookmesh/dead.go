package main

import (
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

// deadFilter are the flags that select dead letters.
type deadFilter struct {
	base, source, document, stage, code string
	since, until                        time.Duration
	all, dryRun                         bool
}

func (f *deadFilter) flags(cmd *cobra.Command) {
	urlFlag(cmd, &f.base)
	fl := cmd.Flags()
	fl.StringVar(&f.source, "source", "", "only of this source")
	fl.StringVar(&f.document, "document", "", "only of this document (with --source)")
	fl.StringVar(&f.stage, "stage", "", "only of the service that gave up: verifier, dedupe, sequencer, embedder")
	fl.StringVar(&f.code, "code", "", "only of this code")
	fl.DurationVar(&f.since, "since", 0, "only given up in this time until now, for example 24h")
	fl.DurationVar(&f.until, "until", 0, "only given up longer ago than this")
}

// changing adds the flags of commands that change something.
func (f *deadFilter) changing(cmd *cobra.Command) {
	f.flags(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "every open dead letter is meant")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "only say what would be done")
}

func (f *deadFilter) message(ids []string) *reconcilerv1.DeadLetterFilter {
	m := &reconcilerv1.DeadLetterFilter{Ids: ids, Source: f.source, DocumentId: f.document, Stage: f.stage, Code: f.code}
	if f.since > 0 {
		m.FailedAfter = timestamppb.New(time.Now().Add(-f.since))
	}
	if f.until > 0 {
		m.FailedBefore = timestamppb.New(time.Now().Add(-f.until))
	}
	return m
}

func deadCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "dead", Short: "List, inspect, replay and discard what could not be processed"}
	cmd.AddCommand(deadListCommand(), deadShowCommand(), deadReplayCommand(), deadDiscardCommand())
	return cmd
}

func deadListCommand() *cobra.Command {
	var f deadFilter
	var state string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, newest first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"pageSize": {strconv.Itoa(limit)}}
			m := f.message(nil)
			for name, value := range map[string]string{"source": m.GetSource(), "documentId": m.GetDocumentId(), "stage": m.GetStage(), "code": m.GetCode()} {
				if value != "" {
					query.Set("filter."+name, value)
				}
			}
			if state != "any" {
				query.Set("filter.state", "DEAD_LETTER_STATE_"+strings.ToUpper(state))
			}
			if m.GetFailedAfter() != nil {
				query.Set("filter.failedAfter", m.GetFailedAfter().AsTime().Format(time.RFC3339Nano))
			}
			if m.GetFailedBefore() != nil {
				query.Set("filter.failedBefore", m.GetFailedBefore().AsTime().Format(time.RFC3339Nano))
			}
			var res reconcilerv1.ListDeadLettersResponse
			if err := newAPI(f.base).get(cmd.Context(), "/v1/dead-letters", query, &res); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, &res)
			}
			out := cmd.OutOrStdout()
			if len(res.GetDeadLetters()) == 0 {
				_, _ = fmt.Fprintln(out, "there are none")
			}
			for i, d := range res.GetDeadLetters() {
				_, _ = fmt.Fprintf(out, "%s  %s  %-9s  %-9s %-18s %s  %s\n", d.GetId(), d.GetFailedAt().AsTime().Local().Format("2006-01-02 15:04:05"),
					enum(res.GetStatuses()[i].GetState().String(), "DEAD_LETTER_STATE_"), d.GetStage(), d.GetCode(), d.GetSource()+"/"+d.GetDocumentId(), clip(d.GetError(), 100))
			}
			return nil
		},
	}
	f.flags(cmd)
	cmd.Flags().StringVar(&state, "state", "open", "open, replayed, discarded or any")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at the most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func deadShowCommand() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: "show ID", Short: "Print one dead letter whole, with its payload", Args: exactly(1, "the dead letter's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var res reconcilerv1.GetDeadLetterResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/dead-letters/"+url.PathEscape(args[0]), nil, &res); err != nil {
				return err
			}
			d, out := res.GetDeadLetter(), cmd.OutOrStdout()
			_, _ = fmt.Fprintf(out, "%s: %s after %d tries in the %s (%s)\n%s\n", d.GetId(), enum(res.GetStatus().GetState().String(), "DEAD_LETTER_STATE_"), d.GetAttempts(), d.GetStage(), d.GetCode(), d.GetError())
			if d.GetTraceId() != "" {
				_, _ = fmt.Fprintf(out, "trace %s\n", d.GetTraceId())
			}
			printRequest(out, d)
			return printJSON(cmd, &res)
		},
	}
	urlFlag(cmd, &base)
	return cmd
}

// printRequest prints what is kept of the request that told of a dead letter, as a person reads it. What is no text is in the JSON alone.
func printRequest(out io.Writer, d *eventv1.DeadLetter) {
	if d.GetMethod() != "" {
		_, _ = fmt.Fprintf(out, "%s %s\n", d.GetMethod(), d.GetUrl())
	}
	for _, h := range d.GetHeaders() {
		_, _ = fmt.Fprintf(out, "%s: %s\n", h.GetName(), strings.ToValidUTF8(string(h.GetValue()), "\uFFFD"))
	}
	if p := d.GetPayload(); len(p) > 0 && utf8.Valid(p) {
		_, _ = fmt.Fprintf(out, "\n%s\n\n", clip(string(p), 2000))
	}
}

func deadReplayCommand() *cobra.Command {
	var f deadFilter
	var limit int
	cmd := &cobra.Command{
		Use: "replay [ID…]", Short: "Send open dead letters through the mesh again",
		Long: "Send open dead letters through the mesh again: the ones that are named, or those that the flags select.\n\nAn older letter never overwrites a newer state; a letter that was replayed is left alone unless it came back.",
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &reconcilerv1.ReplayDeadLettersRequest{Filter: f.message(args), DryRun: f.dryRun, All: f.all, Limit: int32(limit)} //nolint:gosec // the server bounds it
			var res reconcilerv1.ReplayDeadLettersResponse
			if err := newAPI(f.base).post(cmd.Context(), "/v1/dead-letters:replay", req, &res); err != nil {
				return err
			}
			out, sent := cmd.OutOrStdout(), 0
			for _, r := range res.GetResults() {
				if r.GetAction() != reconcilerv1.ReplayAction_REPLAY_ACTION_IMPOSSIBLE {
					sent++
				}
				_, _ = fmt.Fprintf(out, "%s  %-10s  %s %s\n", r.GetId(), enum(r.GetAction().String(), "REPLAY_ACTION_"), r.GetReason(), r.GetTraceId())
			}
			verb := "replayed"
			if f.dryRun {
				verb = "would be replayed"
			}
			_, _ = fmt.Fprintf(out, "%d %s, %d cannot be\n", sent, verb, len(res.GetResults())-sent)
			if res.GetMore() {
				_, _ = fmt.Fprintln(out, "there are more: run it again, or raise --limit")
			}
			return nil
		},
	}
	f.changing(cmd)
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many at the most")
	return cmd
}

func deadDiscardCommand() *cobra.Command {
	var f deadFilter
	cmd := &cobra.Command{
		Use: "discard [ID…]", Short: "Close open dead letters without replaying them",
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &reconcilerv1.DiscardDeadLettersRequest{Filter: f.message(args), DryRun: f.dryRun, All: f.all}
			var res reconcilerv1.DiscardDeadLettersResponse
			if err := newAPI(f.base).post(cmd.Context(), "/v1/dead-letters:discard", req, &res); err != nil {
				return err
			}
			verb := "discarded"
			if f.dryRun {
				verb = "would be discarded"
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%d %s\n", res.GetDiscarded(), verb)
			return nil
		},
	}
	f.changing(cmd)
	return cmd
}
