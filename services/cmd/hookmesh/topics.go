package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/wiring"
)

func topicsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "topics", Short: "Create and check the topics in Kafka", Args: noArgs}
	cmd.AddCommand(
		topicsAction("apply", "Create the topics that are missing and change settings that differ", applyTopics),
		topicsAction("check", "Compare the topics with the configuration; exit code 1 if they differ", checkTopics),
	)
	return cmd
}

// topicsAction is a command that does something to the topics of the configured brokers.
func topicsAction(use, short string, do func(context.Context, *cobra.Command, *kafka.Log, kafka.Topics) error) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: use + " --config FILE", Short: short, Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return usageError{err}
			}
			if len(cfg.Kafka.Brokers) == 0 {
				return usageError{errors.New("kafka.brokers is empty: the broker inside the process makes its topics by itself")}
			}
			log, err := wiring.OpenLog(cfg.Kafka, telemetry.Nop())
			if err != nil {
				return err
			}
			defer log.Close()
			ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
			defer cancel()
			return do(ctx, cmd, log, wiring.Topics(cfg.Kafka))
		},
	}
	cmd.Flags().StringVar(&file, "config", "hookmesh.yaml", "configuration file (docs/example.yaml shows all of it)")
	return cmd
}

func applyTopics(ctx context.Context, cmd *cobra.Command, log *kafka.Log, topics kafka.Topics) error {
	changed, left, err := log.ApplyTopics(ctx, topics)
	if err != nil {
		return err
	}
	for _, f := range changed {
		_, _ = fmt.Fprintln(cmd.OutOrStdout(), "changed", f)
	}
	return findings(cmd, left)
}

func checkTopics(ctx context.Context, cmd *cobra.Command, log *kafka.Log, topics kafka.Topics) error {
	found, err := log.CheckTopics(ctx, topics)
	if err != nil {
		return err
	}
	return findings(cmd, found)
}

// findings prints what is wrong; exit code 1 if anything is.
func findings(cmd *cobra.Command, found []kafka.Finding) error {
	for _, f := range found {
		_, _ = fmt.Fprintln(cmd.OutOrStdout(), "wrong  ", f)
	}
	if len(found) > 0 {
		return exitError{1}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d topics are as they should be\n", len(kafka.Names()))
	return err
}
