package main

import (
	"fmt"
	"io"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

func driftCommand() *cobra.Command {
	var base string
	var now, dryRun, confirm, asJSON bool
	cmd := &cobra.Command{
		Use: "drift [SOURCE]", Short: "Say how far the knowledge base and its sources are apart",
		Long: "Say how far the knowledge base and its sources are apart: the last report of each source, or with --now a comparison of one source.\n\nExit code 0: everything is right. 1: something differs.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 || now && len(args) == 0 {
				return usageError{fmt.Errorf("`%s` wants one source at the most, and one with --now", cmd.UseLine())}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			a := newAPI(base)
			a.client.Timeout = 30 * time.Minute // a source of a million documents takes its time
			res := &reconcilerv1.ListDriftResponse{}
			var err error
			if now {
				var swept reconcilerv1.SweepSourceResponse
				err = a.post(cmd.Context(), "/v1/sources/"+url.PathEscape(args[0])+":sweep", &reconcilerv1.SweepSourceRequest{DryRun: dryRun, ConfirmDeletions: confirm}, &swept)
				res.Reports = append(res.Reports, swept.GetReport())
			} else {
				query := url.Values{}
				if len(args) == 1 {
					query.Set("source", args[0])
				}
				err = a.get(cmd.Context(), "/v1/drift", query, res)
			}
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, res)
			}
			if !printDrift(cmd.OutOrStdout(), res.GetReports()) {
				return exitError{1}
			}
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().BoolVar(&now, "now", false, "compare and heal now instead of telling the last report")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "with --now: heal nothing")
	cmd.Flags().BoolVar(&confirm, "confirm-deletions", false, "with --now: carry out deletions however many they are")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// printDrift prints a table and says whether everything is right.
func printDrift(out io.Writer, reports []*reconcilerv1.DriftReport) (good bool) {
	if len(reports) == 0 {
		_, _ = fmt.Fprintln(out, "no source was compared yet; `hookmesh drift SOURCE --now` does it")
		return true
	}
	good = true
	_, _ = fmt.Fprintf(out, "%-20s %-16s %9s %9s %9s %9s %9s %9s %9s %9s\n", "source", "compared", "right", "listed", "known", "missing", "extra", "stale", "pending", "healed")
	for _, r := range reports {
		_, _ = fmt.Fprintf(out, "%-20s %-16s %8.3f%% %9d %9d %9d %9d %9d %9d %9d\n", r.GetSource(), r.GetFinishedAt().AsTime().Local().Format("2006-01-02 15:04"), 100*r.GetRight(),
			r.GetListed(), r.GetKnown(), r.GetMissing(), r.GetExtra(), r.GetStale(), r.GetPending(), r.GetHealed())
		for _, s := range r.GetSamples() {
			_, _ = fmt.Fprintf(out, "  %-8s %s (source %q, known %q)\n", enum(s.GetKind().String(), "DRIFT_KIND_"), s.GetDocumentId(), s.GetSourceVersion(), s.GetKnownVersion())
		}
		if r.GetWithheld() > 0 {
			_, _ = fmt.Fprintf(out, "  %d deletions are withheld, because they are so many: `hookmesh drift %s --now --confirm-deletions` carries them out\n", r.GetWithheld(), r.GetSource())
		}
		if r.GetError() != "" {
			_, _ = fmt.Fprintf(out, "  not completed, so nothing was removed: %s\n", r.GetError())
		}
		good = good && r.GetError() == "" && r.GetMissing()+r.GetExtra()+r.GetStale() == 0
	}
	return good
}
