package main

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

func debtsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "debts", Short: "List what was missed and is not fetched yet, and write off what cannot be"}
	cmd.AddCommand(debtsListCommand(), debtsWriteOffCommand())
	return cmd
}

func debtsListCommand() *cobra.Command {
	var base, source string
	var limit int
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List open debts, the oldest of each source first", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query := url.Values{"pageSize": {strconv.Itoa(limit)}}
			if source != "" {
				query.Set("source", source)
			}
			var res reconcilerv1.ListDebtsResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/debts", query, &res); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, &res)
			}
			out := cmd.OutOrStdout()
			for _, d := range res.GetDebts() {
				what := "the whole source"
				if id := d.GetDebt().GetDocumentId(); id != "" {
					what = strconv.Quote(id)
				}
				_, _ = fmt.Fprintf(out, "%s  %-24s %-16s %-8s %s\n", when(d.GetDebt().GetIncurredAt(), "at an unknown time"), d.GetDebt().GetSource(), d.GetDebt().GetReason(), debtWay(d.GetWay()), what)
			}
			switch more := res.GetTotal() - int64(len(res.GetDebts())); {
			case res.GetTotal() == 0:
				_, _ = fmt.Fprintln(out, "there are none")
			case more > 0:
				_, _ = fmt.Fprintf(out, "and %d more\n", more)
			}
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().StringVar(&source, "source", "", "only of this source")
	cmd.Flags().IntVar(&limit, "limit", 100, "how many at the most, up to 1000")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// debtWay says in a word how a debt can be paid.
func debtWay(w reconcilerv1.DebtWay) string {
	if w == reconcilerv1.DebtWay_DEBT_WAY_NONE {
		return "no way"
	}
	return enum(w.String(), "DEBT_WAY_")
}

func debtsWriteOffCommand() *cobra.Command {
	var base, reason string
	var all bool
	cmd := &cobra.Command{
		Use: "write-off SOURCE [DOCUMENT…]", Short: "End debts although nothing was fetched for them",
		Long: "End debts of the documents that are named, or with --all whatever a source owes, although nothing was fetched for them.\n\n" +
			"For what cannot be fetched in any way (`hookmesh debts list` says \"no way\"), once it came by other means: because its sender sent it again, or by hand.\n" +
			"What was missed and did not come stays missing. The reason goes to the reconciler's log.",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{fmt.Errorf("`%s` wants the name of a source", cmd.UseLine())}
			}
			if all == (len(args) > 1) {
				return usageError{errors.New("name the documents whose debts end, or say --all, but not both")}
			}
			if reason == "" {
				return usageError{errors.New("--reason is missing: who looks into the log later wants to know why")}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			req := &reconcilerv1.WriteOffDebtsRequest{Source: args[0], DocumentIds: args[1:], All: all, Reason: reason}
			var res reconcilerv1.WriteOffDebtsResponse
			if err := newAPI(base).post(cmd.Context(), "/v1/debts:writeOff", req, &res); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%d written off\n", res.GetWrittenOff())
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().BoolVar(&all, "all", false, "all debts of the source, also those of no document")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the log (required)")
	return cmd
}
