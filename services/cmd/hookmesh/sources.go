package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
)

func sourcesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "sources", Short: "Set up sources while hookmesh runs",
		Long: "Set up sources while hookmesh runs. Those of the configuration file are shown, and changed there.\n\nA definition is the source's part of a configuration file, as YAML or JSON, without name and secrets. A secret is read from\nstandard input or " + secretVariable + ", never from the command line.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return usageError{fmt.Errorf("`%s` wants one of list, show, create, update, disable, enable, delete, rotate-secret", cmd.CommandPath())}
		},
	}
	cmd.AddCommand(sourcesListCommand(), sourcesShowCommand(), sourcesCreateCommand(), sourcesUpdateCommand(),
		sourcesSwitchCommand("disable", "Take no more deliveries from a source, and poll it no more"), sourcesSwitchCommand("enable", "Take deliveries again"),
		sourcesDeleteCommand(), rotateSecretCommand())
	return cmd
}

// call sends a message to a path and reads the answer.
func (a api) call(ctx context.Context, method, path string, in, out proto.Message) error {
	var body io.Reader
	if in != nil {
		raw, err := protojson.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the request: %w", err)
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.base+path, body)
	if err != nil {
		return usageError{fmt.Errorf("%s is not a URL: %w", a.base, err)}
	}
	req.Header.Set("Content-Type", "application/json")
	raw, err := a.do(req)
	if err != nil {
		return err
	}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(raw, out); err != nil {
		return fmt.Errorf("read the answer of %s%s: %w", a.base, path, err)
	}
	return nil
}

func sourcePath(name, verb string) string { return "/v1/sources/" + url.PathEscape(name) + verb }

func sourcesListCommand() *cobra.Command {
	var base string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list", Short: "List all sources", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var res sourcev1.ListSourcesResponse
			if err := newAPI(base).get(cmd.Context(), "/v1/sources:definitions", nil, &res); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, &res)
			}
			for _, s := range res.GetSources() {
				_, _ = fmt.Fprintf(cmd.OutOrStdout(), "%-24s %-9s %-9s %-20v %d secret(s)\n", s.GetName(), enum(s.GetOrigin().String(), "ORIGIN_"), enum(s.GetState().String(), "STATE_"),
					s.GetDefinition().GetFields()["preset"].GetStringValue(), len(s.GetSecrets()))
			}
			return nil
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

func sourcesShowCommand() *cobra.Command {
	var base string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "show NAME", Short: "Show a source: its definition, and when its secrets were last used", Args: exactly(1, "the name of a source"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var res sourcev1.GetSourceResponse
			if err := newAPI(base).get(cmd.Context(), sourcePath(args[0], ""), nil, &res); err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd, res.GetSource())
			}
			return showSource(cmd, res.GetSource())
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print as JSON")
	return cmd
}

// showSource prints a source as a person reads it. The definition is what `update` takes.
func showSource(cmd *cobra.Command, s *sourcev1.Source) error {
	out := cmd.OutOrStdout()
	_, _ = fmt.Fprintf(out, "# %s: %s, %s, revision %d\n", s.GetName(), enum(s.GetOrigin().String(), "ORIGIN_"), enum(s.GetState().String(), "STATE_"), s.GetRevision())
	for i, secret := range s.GetSecrets() {
		_, _ = fmt.Fprintf(out, "# secret %d (%s): added %s, valid until %s, last used %s\n", i, secret.GetId(), when(secret.GetAddedAt(), "with the file"), when(secret.GetNotAfter(), "for ever"), when(secret.GetLastUsedAt(), "never"))
	}
	raw, err := yaml.Marshal(s.GetDefinition().AsMap())
	if err != nil {
		return fmt.Errorf("print the definition: %w", err)
	}
	_, err = out.Write(raw)
	return err
}

func when(t *timestamppb.Timestamp, otherwise string) string {
	if t == nil {
		return otherwise
	}
	return t.AsTime().Local().Format("2006-01-02 15:04:05")
}

// readDefinition reads a definition, YAML or JSON.
func readDefinition(cmd *cobra.Command, file string) (*structpb.Struct, error) {
	if file == "" {
		return nil, usageError{errors.New("--file is missing: a file with the definition; - is standard input")}
	}
	raw, err := readFile(cmd, file)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := yaml.Unmarshal(raw, &tree); err != nil {
		return nil, usageError{errors.New("the definition is neither YAML nor JSON")} // the library's error quotes what may be a credential
	}
	encoded, err := json.Marshal(tree)
	if err != nil {
		return nil, usageError{errors.New("the definition holds keys that are no texts")}
	}
	d := &structpb.Struct{}
	if err := protojson.Unmarshal(encoded, d); err != nil {
		return nil, usageError{errors.New("the definition wants keys with values")}
	}
	return d, nil
}

// readSecret takes a secret from the environment or from standard input. Command lines stay in histories and process lists.
func readSecret(cmd *cobra.Command, stdin bool) (string, error) {
	if !stdin {
		value, ok := os.LookupEnv(secretVariable)
		if !ok || value == "" {
			return "", usageError{fmt.Errorf("there is no secret: set %s, or pipe it in with --secret-stdin", secretVariable)}
		}
		return value, nil
	}
	raw, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), 1<<20))
	if err != nil {
		return "", fmt.Errorf("read the secret: %w", err)
	}
	if value := strings.TrimRight(string(raw), "\r\n"); value != "" {
		return value, nil
	}
	return "", usageError{errors.New("standard input holds no secret")}
}

// secretKind adds the flags that say which of a provider's secrets one is.
func secretKind(cmd *cobra.Command, kind, subscription *string) {
	cmd.Flags().StringVar(kind, "kind", "", "what the secret is, where the preset has several kinds")
	cmd.Flags().StringVar(subscription, "for", "", "the subscription or channel that it is good for; empty: all")
}

func sourcesCreateCommand() *cobra.Command {
	var base, file, kind, subscription string
	var stdin, pending bool
	cmd := &cobra.Command{
		Use: "create NAME --file DEFINITION", Short: "Make a source", Args: exactly(1, "the name of the new source"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if stdin && file == "-" {
				return usageError{errors.New("standard input cannot be the definition and the secret")}
			}
			d, err := readDefinition(cmd, file)
			if err != nil {
				return err
			}
			req := &sourcev1.CreateSourceRequest{Name: args[0], Definition: d}
			if !pending {
				secret, err := readSecret(cmd, stdin)
				if err != nil {
					return err
				}
				req.Secrets = append(req.Secrets, &sourcev1.NewSecret{Value: secret, Kind: kind, For: subscription})
			}
			var res sourcev1.CreateSourceResponse
			if err := newAPI(base).call(cmd.Context(), http.MethodPost, "/v1/sources", req, &res); err != nil {
				return err
			}
			return showSource(cmd, res.GetSource())
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().StringVar(&file, "file", "", "file with the definition; - is standard input")
	cmd.Flags().BoolVar(&stdin, "secret-stdin", false, "read the secret from standard input instead of "+secretVariable)
	secretKind(cmd, &kind, &subscription)
	cmd.Flags().BoolVar(&pending, "no-secret", false, "wait for the secret that the provider's handshake brings, or prove nothing if the definition allows it")
	return cmd
}

func sourcesUpdateCommand() *cobra.Command {
	var base, file string
	var revision int64
	cmd := &cobra.Command{
		Use: "update NAME --file DEFINITION", Short: "Replace a source's definition; what reads [redacted] stays what it was", Args: exactly(1, "the name of a source"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := readDefinition(cmd, file)
			if err != nil {
				return err
			}
			var res sourcev1.UpdateSourceResponse
			req := &sourcev1.UpdateSourceRequest{Name: args[0], Definition: d, Revision: revision}
			if err := newAPI(base).call(cmd.Context(), http.MethodPut, sourcePath(args[0], ""), req, &res); err != nil {
				return err
			}
			return showSource(cmd, res.GetSource())
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().StringVar(&file, "file", "", "file with the definition; - is standard input")
	cmd.Flags().Int64Var(&revision, "revision", 0, "refuse if the source is no longer at this revision")
	return cmd
}

func sourcesSwitchCommand(verb, short string) *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: verb + " NAME", Short: short, Args: exactly(1, "the name of a source"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var res sourcev1.EnableSourceResponse // both answers have the same fields
			if err := newAPI(base).call(cmd.Context(), http.MethodPost, sourcePath(args[0], ":"+verb), &sourcev1.EnableSourceRequest{}, &res); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is %s\n", args[0], enum(res.GetSource().GetState().String(), "STATE_"))
			return err
		},
	}
	urlFlag(cmd, &base)
	return cmd
}

func sourcesDeleteCommand() *cobra.Command {
	var base string
	cmd := &cobra.Command{
		Use: "delete NAME", Short: "Remove a source with its secrets; its documents stay", Args: exactly(1, "the name of a source"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := newAPI(base).call(cmd.Context(), http.MethodDelete, sourcePath(args[0], ""), nil, &sourcev1.DeleteSourceResponse{}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s is deleted\n", args[0])
			return err
		},
	}
	urlFlag(cmd, &base)
	return cmd
}

func rotateSecretCommand() *cobra.Command {
	var base, kind, subscription string
	var stdin bool
	var overlap time.Duration
	cmd := &cobra.Command{
		Use: "rotate-secret NAME", Short: "Add a secret; the old ones stay valid for the overlap", Args: exactly(1, "the name of a source"),
		Long: "Add a secret; the old ones stay valid for the overlap.\n\nWhere a provider has several kinds of secrets, --kind says which this is, as `hookmesh presets show` names it; where it has one for each\nsubscription or channel, --for says which. Only secrets of the same kind and for the same subscription are replaced.",
		RunE: func(cmd *cobra.Command, args []string) error {
			secret, err := readSecret(cmd, stdin)
			if err != nil {
				return err
			}
			var res sourcev1.RotateSecretResponse
			req := &sourcev1.RotateSecretRequest{Secret: &sourcev1.NewSecret{Value: secret, Kind: kind, For: subscription}, Overlap: durationpb.New(overlap)}
			if err := newAPI(base).call(cmd.Context(), http.MethodPost, sourcePath(args[0], ":rotateSecret"), req, &res); err != nil {
				return err
			}
			return showSource(cmd, res.GetSource())
		},
	}
	urlFlag(cmd, &base)
	cmd.Flags().BoolVar(&stdin, "secret-stdin", false, "read the secret from standard input instead of "+secretVariable)
	secretKind(cmd, &kind, &subscription)
	cmd.Flags().DurationVar(&overlap, "overlap", 7*24*time.Hour, "how long the old secrets stay valid")
	return cmd
}
