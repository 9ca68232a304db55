package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

func backfillCommand() *cobra.Command {
	var base string
	var count, detach bool
	cmd := &cobra.Command{
		Use: "backfill SOURCE", Short: "Read a source from its beginning, beside live events",
		Long: "Read a source from its beginning, beside live events. It goes on in the server, also after a restart; this command only shows how far it is.",
		Args: exactly(1, "the source's name"),
		RunE: func(cmd *cobra.Command, args []string) error {
			a, path := newAPI(base), "/v1/sources/"+url.PathEscape(args[0])
			var res reconcilerv1.StartBackfillResponse
			if err := a.post(cmd.Context(), path+":backfill", &reconcilerv1.StartBackfillRequest{Count: count}, &res); err != nil {
				return err
			}
			if detach {
				return printJSON(cmd, &res)
			}
			return followBackfill(cmd.Context(), cmd.ErrOrStderr(), a, path)
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().BoolVar(&count, "count", true, "read the list once before, so that the bar knows its end")
	cmd.Flags().BoolVar(&detach, "detach", false, "only begin, and do not wait")
	return cmd
}

// followBackfill draws a bar until the backfill is done.
func followBackfill(ctx context.Context, out io.Writer, a api, path string) error {
	began, tick := time.Now(), time.NewTicker(250*time.Millisecond)
	defer tick.Stop()
	for {
		var res reconcilerv1.GetBackfillResponse
		if err := a.get(ctx, path+"/backfill", nil, &res); err != nil {
			return err
		}
		b := res.GetBackfill()
		_, _ = fmt.Fprintf(out, "\r\x1b[K%s", bar(b, time.Since(began)))
		if b.GetState() == reconcilerv1.BackfillState_BACKFILL_STATE_DONE {
			_, _ = fmt.Fprintln(out)
			return nil
		}
		select {
		case <-ctx.Done():
			_, _ = fmt.Fprintln(out, "\nit goes on in the server")
			return nil
		case <-tick.C:
		}
	}
}

// bar is one line of progress.
func bar(b *reconcilerv1.Backfill, took time.Duration) string {
	const width = 40
	rate := float64(b.GetRead()) / max(took.Seconds(), 0.001)
	text := ""
	switch total := b.GetTotal(); {
	case b.GetState() == reconcilerv1.BackfillState_BACKFILL_STATE_COUNTING:
		text = fmt.Sprintf("counting: %d", total)
	case total > 0:
		full := int(min(b.GetRead(), total) * width / total)
		text = fmt.Sprintf("[%s%s] %3d%%  %d of %d, %.0f/s", strings.Repeat("=", full), strings.Repeat(" ", width-full), min(100, b.GetRead()*100/total), b.GetRead(), total, rate)
	default:
		text = fmt.Sprintf("%d read, %.0f/s", b.GetRead(), rate)
	}
	if b.GetError() != "" {
		text += "  trying again: " + clip(b.GetError(), 80)
	}
	return text
}
