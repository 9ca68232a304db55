package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier"
)

func verifyCommand() *cobra.Command {
	var preset, method, target, bodyFile, publicURL, folder string
	var secrets, kinds, headers, settings []string
	var at int64
	var anyTime, unsigned bool
	cmd := &cobra.Command{
		Use:   "verify --preset PRESET --secret SECRET --body FILE [--header 'Name: value']…",
		Short: "Say why a webhook is accepted or refused, by exactly the verifier's code",
		Long:  "Say why a webhook is accepted or refused, by exactly the verifier's code.\n\nExit code 0: authentic. 1: refused. 2: wrong use. A SECRET of @FILE is read from a file.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			src := config.Source{Name: "verify", Preset: preset, PublicURL: publicURL, PresetsDir: folder, Unsigned: unsigned}
			var err error
			if src.Settings, err = pairs(settings, "=", "--setting"); err != nil {
				return err
			}
			for _, s := range secrets {
				value, err := secretValue(s)
				if err != nil {
					return err
				}
				src.Secrets = append(src.Secrets, config.Secret{Value: value})
			}
			for _, s := range kinds {
				kind, value, ok := strings.Cut(s, "=")
				if !ok {
					return usageError{fmt.Errorf("--secret-of %q is not KIND=SECRET", kind)}
				}
				if value, err = secretValue(value); err != nil {
					return err
				}
				src.Secrets = append(src.Secrets, config.Secret{Value: value, Kind: kind})
			}
			if len(src.Secrets) == 0 && !unsigned {
				return usageError{fmt.Errorf("--secret is missing")}
			}
			body, err := readFile(cmd, bodyFile)
			if err != nil {
				return err
			}
			req := &verifierv1.VerifyRequest{Source: "verify", Method: strings.ToUpper(method), Url: target, Body: body}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok || strings.TrimSpace(name) == "" {
					return usageError{fmt.Errorf("--header %q is not 'Name: value'", name)}
				}
				req.Headers = append(req.Headers, &eventv1.Header{Name: strings.TrimSpace(name), Value: []byte(strings.TrimSpace(value))})
			}
			when := time.Now()
			switch {
			case anyTime:
				when = time.Time{}
			case cmd.Flags().Changed("at"):
				when = time.Unix(at, 0)
			}
			out, err := verifier.Explain(src, req, when)
			if err != nil {
				return usageError{err}
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(out); err != nil {
				return fmt.Errorf("print the verdict: %w", err)
			}
			if out.Verdict == "rejected" {
				return exitError{1}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&preset, "preset", "", "how the provider signs; `hookmesh presets` lists them")
	f.StringArrayVar(&secrets, "secret", nil, "secret to try; may be given several times")
	f.StringArrayVar(&kinds, "secret-of", nil, "KIND=SECRET, where the preset has several kinds; may be given several times")
	f.BoolVar(&unsigned, "unsigned", false, "accept what nothing proves, as a source with unsigned: true does")
	f.StringVar(&folder, "presets-dir", "", "folder with presets of your own")
	f.StringArrayVar(&settings, "setting", nil, "name=value of the preset's settings")
	f.StringVar(&method, "method", "POST", "HTTP method")
	f.StringVar(&target, "url", "/", "request target or URL that was called")
	f.StringVar(&publicURL, "public-url", "", "the source's public_url, for signatures over the URL")
	f.StringArrayVar(&headers, "header", nil, "'Name: value'; may be given several times")
	f.StringVar(&bodyFile, "body", "", "file with the exact body; - is standard input; empty: no body")
	f.Int64Var(&at, "at", 0, "judge as at this Unix time instead of now")
	f.BoolVar(&anyTime, "any-time", false, "do not look at the age of timestamps")
	return cmd
}

// secretValue reads a secret that is given as @FILE, so that it stands in no shell history.
func secretValue(s string) (string, error) {
	name, ok := strings.CutPrefix(s, "@")
	if !ok {
		return s, nil
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return "", usageError{fmt.Errorf("read the secret: %w", err)}
	}
	return strings.TrimRight(string(raw), "\r\n"), nil
}

// readFile reads a file, standard input (-) or nothing ("").
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	switch name {
	case "":
		return nil, nil
	case "-":
		return io.ReadAll(cmd.InOrStdin())
	}
	raw, err := os.ReadFile(name)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the body: %w", err)}
	}
	return raw, nil
}

// pairs reads name=value flags.
func pairs(in []string, sep, flag string) (map[string]string, error) {
	out := map[string]string{}
	for _, s := range in {
		k, v, ok := strings.Cut(s, sep)
		if !ok {
			return nil, usageError{fmt.Errorf("%s %q is not name%svalue", flag, k, sep)}
		}
		out[k] = v
	}
	return out, nil
}
