package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
)

func searchCommand() *cobra.Command {
	var base, source string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "search QUESTION…", Short: "Ask the knowledge base",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("`%s` wants a question", cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			query := url.Values{"query": {strings.Join(args, " ")}, "limit": {strconv.Itoa(limit)}}
			if source != "" {
				query.Set("source", source)
			}
			var res embedderv1.SearchResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/search", query, &res); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, &res)
			}
			out := cmd.OutOrStdout()
			if len(res.GetResults()) == 0 {
				_, _ = fmt.Fprintln(out, "nothing found")
			}
			for i, r := range res.GetResults() {
				_, _ = fmt.Fprintf(out, "%d. %.3f  %s  [%s/%s v%s]\n", i+1, r.GetScore(), strings.Join(append([]string{r.GetTitle()}, r.GetHeadingPath()...), " › "), r.GetSource(), r.GetDocumentId(), r.GetVersion())
				_, _ = fmt.Fprintf(out, "   %s\n", clip(strings.Join(strings.Fields(r.GetText()), " "), 160))
				if r.GetUrl() != "" {
					_, _ = fmt.Fprintf(out, "   %s\n", r.GetUrl())
				}
			}
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().StringVar(&source, "source", "", "only this source")
	cmd.Flags().IntVar(&limit, "limit", 5, "how many results at the most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the answer as JSON")
	return cmd
}

func eventsCommand() *cobra.Command {
	var base, source, document string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "events [EVENT]", Short: "List the last events, or tell the whole story of one",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError{fmt.Errorf("`%s` wants one event at the most", cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				var story gatewayv1.GetEventResponse
				if err := newAPI(base).get(cmd.Context(), "/v1/events/"+url.PathEscape(args[0]), nil, &story); err != nil {
					return err
				}
				if !asJSON {
					_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n%s\n", story.GetId(), story.GetState(), story.GetSummary())
				}
				return printJSON(cmd, &story)
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}, "source": {source}, "documentId": {document}}
			var res gatewayv1.ListEventsResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/events", query, &res); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, &res)
			}
			for _, e := range res.GetEvents() {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %-9s  %-15s  %s/%s\n", e.GetId(), e.GetReceivedAt().AsTime().Local().Format("2006-01-02 15:04:05.000"),
					enum(e.GetOutcome().String(), "OUTCOME_"), enum(e.GetAction().String(), "ACTION_"), e.GetSource(), e.GetDocumentId())
			}
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().StringVar(&source, "source", "", "only this source")
	cmd.Flags().StringVar(&document, "document", "", "only this document (with --source)")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many at the most")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// enum writes an enum's value as people do.
func enum(name, prefix string) string {
	return strings.ReplaceAll(strings.ToLower(strings.TrimPrefix(name, prefix)), "_", "-")
}

func printJSON(cmd *cobra.Command, m proto.Message) error {
	raw, err := protojson.MarshalOptions{Multiline: true, Indent: "  "}.Marshal(m)
	if err != nil {
		return fmt.Errorf("write the answer: %w", err)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), string(raw))
	return err
}
