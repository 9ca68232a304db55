package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
	"github.com/hookmesh/hookmesh/services/verifier/presets"
)

// vectorsSuffix is what a preset's tests are called, beside its file.
const vectorsSuffix = ".vectors.yaml"

func presetsCommand() *cobra.Command {
	var folder string
	cmd := &cobra.Command{
		Use: "presets", Short: "List, show and check the descriptions of providers", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listPresets(cmd, folder) },
	}
	cmd.PersistentFlags().StringVar(&folder, "presets-dir", "", "folder with presets of your own")
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the presets, with how sure their facts are", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error { return listPresets(cmd, folder) },
		},
		&cobra.Command{
			Use: "show NAME", Short: "Print a preset", Args: exactly(1, "the name of a preset"),
			RunE: func(cmd *cobra.Command, args []string) error {
				all, err := presets.Load(folder)
				if err != nil {
					return err
				}
				text, err := all.Source(args[0])
				if err != nil {
					return usageError{err}
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			},
		},
		&cobra.Command{
			Use: "lint FILE…", Short: "Say what is wrong with presets of your own", Args: cobra.MinimumNArgs(1),
			Long: "Say what is wrong with presets of your own, or likely to surprise. Exit code 0: nothing. 1: something.",
			RunE: lintPresets,
		},
		&cobra.Command{
			Use: "test FILE…", Short: "Run the vectors that stand beside presets of your own (NAME" + vectorsSuffix + ")", Args: cobra.MinimumNArgs(1),
			Long: "Run the vectors that stand beside presets of your own (NAME" + vectorsSuffix + ") by exactly the verifier's code.\n\nExit code 0: all are as expected. 1: some are not.",
			RunE: testPresets,
		},
		&cobra.Command{
			Use: "schema", Short: "Print the JSON Schema of presets, for editors", Args: noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				schema, err := preset.Schema()
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(schema)
				return err
			},
		},
	)
	return cmd
}

func listPresets(cmd *cobra.Command, folder string) error {
	all, err := presets.Load(folder)
	if err != nil {
		return err
	}
	for _, name := range all.Names() {
		p, err := all.Get(name)
		if err != nil {
			return err
		}
		own := ""
		if all.Own(name) {
			own = " (your own)"
		}
		if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%-20s %-12s %s%s\n", name, p.Confidence, p.Description, own); err != nil {
			return err
		}
	}
	return nil
}

// presetFile reads one preset of the user's own.
func presetFile(name string) (*preset.Preset, error) {
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the preset: %w", err)}
	}
	return preset.Parse(raw)
}

func lintPresets(cmd *cobra.Command, names []string) error {
	bad := 0
	for _, name := range names {
		p, err := presetFile(name)
		var problems []string
		if err != nil {
			problems = []string{err.Error()}
		} else {
			problems = p.Lint()
		}
		for _, problem := range problems {
			bad++
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", name, problem)
		}
	}
	if bad > 0 {
		return exitError{1}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d preset(s), nothing is wrong\n", len(names))
	return err
}

func testPresets(cmd *cobra.Command, names []string) error {
	failed, ran := 0, 0
	for _, name := range names {
		p, err := presetFile(name)
		if err != nil {
			return err
		}
		file := strings.TrimSuffix(strings.TrimSuffix(name, ".yaml"), ".yml") + vectorsSuffix
		raw, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			return usageError{fmt.Errorf("%s has no vectors: write %s (docs/presets.md says how)", name, filepath.Base(file))}
		} else if err != nil {
			return fmt.Errorf("read the vectors: %w", err)
		}
		set, err := presets.With(p)
		if err != nil {
			return err
		}
		results, err := verifier.TestVectors(set, p.Name, raw)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		for _, r := range results {
			ran++
			verdict := "ok  "
			if r.Problem != "" {
				failed++
				verdict = "FAIL"
			}
			_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%s %s: %s %s\n", verdict, p.Name, r.Name, r.Problem)
		}
	}
	if failed > 0 {
		_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%d of %d vectors are not as expected\n", failed, ran)
		return exitError{1}
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d vectors are as expected\n", ran)
	return err
}
