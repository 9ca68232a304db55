package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	gatewayv1 "github.com/hookmesh/hookmesh/gen/hookmesh/gateway/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

func traceCommand() *cobra.Command {
	var base, admin string
	cmd := &cobra.Command{
		Use: "trace EVENT", Short: "Print what happened to an event, hop by hop, as a waterfall",
		Long: "Print what happened to an event, hop by hop, as a waterfall.\n\nThe last spans of a running hookmesh are kept in memory; older ones are where OTEL_EXPORTER_OTLP_ENDPOINT sent them.",
		Args: exactly(1, "the event's id, from the answer to its webhook"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var story gatewayv1.GetEventResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/events/"+url.PathEscape(args[0]), nil, &story); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "event %s: %s\n%s\ntrace %s\n\n", story.GetId(), story.GetState(), story.GetSummary(), story.GetTraceId())
			spans := newAPI(admin)
			spans.flag = "--admin-url"
			raw, err := spans.getRaw(cmd.Context(), "/debug/traces/"+story.GetTraceId(), nil)
			if err != nil {
				return err
			}
			var kept struct{ Spans []telemetry.Span }
			if err := json.Unmarshal(raw, &kept); err != nil {
				return fmt.Errorf("read the spans: %w", err)
			}
			if len(kept.Spans) == 0 {
				return fmt.Errorf("no span of trace %s is kept: it was not sampled (telemetry.traces_per_second), or newer ones took its place", story.GetTraceId())
			}
			waterfall(cmd.OutOrStdout(), kept.Spans)
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().StringVar(&admin, "admin-url", "http://127.0.0.1:9100", "admin address of the running hookmesh")
	return cmd
}

// waterfall prints spans as a tree with bars on a common time axis.
func waterfall(w io.Writer, spans []telemetry.Span) {
	const width = 40
	byID, children := map[string]telemetry.Span{}, map[string][]telemetry.Span{}
	for _, s := range spans {
		byID[s.SpanID] = s
	}
	first, last := spans[0].Start, spans[0].End
	for _, s := range spans {
		parent := s.ParentID
		if _, ok := byID[parent]; !ok {
			parent = ""
		}
		children[parent] = append(children[parent], s)
		if s.Start.Before(first) {
			first = s.Start
		}
		if s.End.After(last) {
			last = s.End
		}
	}
	total := max(last.Sub(first), time.Microsecond)
	var draw func(parent string, depth int)
	draw = func(parent string, depth int) {
		slices.SortStableFunc(children[parent], func(a, b telemetry.Span) int { return a.Start.Compare(b.Start) })
		for _, s := range children[parent] {
			from := int(s.Start.Sub(first) * width / total)
			length := max(1, int(s.End.Sub(s.Start)*width/total))
			from = min(from, width-1)
			bar := strings.Repeat(" ", from) + strings.Repeat("█", min(length, width-from))
			name := strings.Repeat("  ", depth) + s.Name
			mark := ""
			if s.Error != "" {
				mark = "  ! " + s.Error
			}
			_, _ = fmt.Fprintf(w, "%-52s %9s %9s |%-*s|%s\n", clip(name, 52), "+"+short(s.Start.Sub(first)), short(s.End.Sub(s.Start)), width, bar, mark)
			for _, e := range s.Events {
				_, _ = fmt.Fprintf(w, "%-52s %9s\n", clip(strings.Repeat("  ", depth+1)+"· "+e.Name+attributes(e.Attributes), 90), "+"+short(e.Time.Sub(first)))
			}
			draw(s.SpanID, depth+1)
		}
	}
	draw("", 0)
	_, _ = fmt.Fprintf(w, "\n%d spans in %s\n", len(spans), short(total))
}

func attributes(m map[string]string) string {
	if len(m) == 0 {
		return ""
	}
	parts := make([]string, 0, len(m))
	for k, v := range m {
		parts = append(parts, k+"="+v)
	}
	slices.Sort(parts)
	return " (" + strings.Join(parts, ", ") + ")"
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// short writes a duration with about three digits.
func short(d time.Duration) string {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond).String()
	case d >= time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	}
	return d.Round(time.Microsecond).String()
}
