package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/verifier"
)

func sendCommand() *cobra.Command {
	var base, source, presetName, file, secret, target string
	var headers, settings []string
	cmd := &cobra.Command{
		Use:   "send --source NAME --preset PRESET --secret SECRET --file PAYLOAD",
		Short: "Send a webhook, signed as a real source would sign it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if source == "" || presetName == "" || secret == "" {
				return usageError{fmt.Errorf("--source, --preset and --secret must be given")}
			}
			p, err := verifier.PresetNamed(presetName)
			if err != nil {
				return usageError{err}
			}
			set, err := pairs(settings, "=", "--setting")
			if err != nil {
				return err
			}
			if p, err = p.With(set); err != nil {
				return usageError{err}
			}
			key, err := secretValue(secret)
			if err != nil {
				return err
			}
			body, err := readFile(cmd, file)
			if err != nil {
				return err
			}
			a := newAPI(base)
			path := a.base + "/webhooks/" + url.PathEscape(source)
			req, err := http.NewRequestWithContext(cmd.Context(), http.MethodPost, path, bytes.NewReader(body))
			if err != nil {
				return usageError{fmt.Errorf("%s is not a URL: %w", base, err)}
			}
			req.Header.Set("Content-Type", "application/json")
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return usageError{fmt.Errorf("--header %q is not 'Name: value'", name)}
				}
				req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			if target == "" {
				target = path
			}
			if err := p.Sign(req.Header, key, http.MethodPost, target, body, time.Now()); err != nil {
				return err
			}
			raw, err := a.do(req)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(raw)))
			return err
		},
	}
	urlFlag(cmd, &base)
	f := cmd.Flags()
	f.StringVar(&source, "source", "", "name of the source")
	f.StringVar(&presetName, "preset", "", "how the source signs; `hookmesh presets` lists them")
	f.StringVar(&secret, "secret", "", "the source's secret; @FILE reads it from a file")
	f.StringArrayVar(&settings, "setting", nil, "name=value of the preset's settings")
	f.StringVar(&file, "file", "-", "file with the payload; - is standard input")
	f.StringVar(&target, "public-url", "", "the URL that the signature covers, where it covers one")
	f.StringArrayVar(&headers, "header", nil, "'Name: value' to add, for example 'X-GitHub-Event: push'")
	return cmd
}
