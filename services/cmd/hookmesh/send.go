package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

// secretVariable holds the secret of `send`, so that it need not stand on the command line.
const secretVariable = "HOOKMESH_SECRET"

// sender is what `send` is asked to do.
type sender struct {
	base, source, preset, file, secret, publicURL, config, folder string
	headers, settings                                             []string
}

func sendCommand() *cobra.Command {
	s := sender{}
	cmd := &cobra.Command{
		Use:   "send --source NAME --file PAYLOAD",
		Short: "Send a webhook, signed as a real source would sign it",
		Long: "Send a webhook, signed as a real source would sign it. What is not given by flags is taken from the configuration file: preset, settings, secret,\n" +
			"public URL and address. The secret may also come from " + secretVariable + ".",
		Example: "  hookmesh send --config docs/example.yaml --source issues --file payload.json\n" +
			"  " + secretVariable + "=… hookmesh send --source docs --preset github --header 'X-GitHub-Event: push' --file push.json",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return s.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&s.base, "url", "", "address of the running hookmesh; default: the configuration's, else http://127.0.0.1:8080")
	f.StringVar(&s.config, "config", "", "configuration file in which the source stands")
	f.StringVar(&s.source, "source", "", "name of the source")
	f.StringVar(&s.preset, "preset", "", "how the source signs; `hookmesh presets` lists them")
	f.StringVar(&s.secret, "secret", "", "the source's secret; @FILE reads it from a file")
	f.StringArrayVar(&s.settings, "setting", nil, "name=value of the preset's settings")
	f.StringVar(&s.file, "file", "-", "file with the payload; - is standard input")
	f.StringVar(&s.publicURL, "public-url", "", "the URL that the signature covers, where it covers one")
	f.StringVar(&s.folder, "presets-dir", "", "folder with presets of your own")
	f.StringArrayVar(&s.headers, "header", nil, "'Name: value' to add, for example 'X-GitHub-Event: push'")
	return cmd
}

func (s *sender) run(cmd *cobra.Command) error {
	set, err := s.complete()
	if err != nil {
		return usageError{err}
	}
	p, err := verifier.PresetIn(s.folder, s.preset)
	if err != nil {
		return usageError{err}
	}
	if p, err = p.With(set); err != nil {
		return usageError{err}
	}
	key, err := secretValue(s.secret)
	if err != nil {
		return err
	}
	body, err := readFile(cmd, s.file)
	if err != nil {
		return err
	}
	a := newAPI(s.base)
	target := a.base + "/webhooks/" + url.PathEscape(s.source)
	d := preset.Delivery{Header: http.Header{"Content-Type": {"application/json"}}, Method: http.MethodPost, URL: target, Body: body}
	for _, h := range s.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return usageError{fmt.Errorf("--header %q is not 'Name: value'", name)}
		}
		d.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	if s.publicURL != "" {
		d.URL = s.publicURL
	}
	if err := p.Sign(&d, key, time.Now()); err != nil {
		return err
	}
	if _, query, ok := strings.Cut(d.URL, "?"); ok { // as the provider calls it, and where some presets have the credential
		target += "?" + query
	}
	req, err := http.NewRequestWithContext(cmd.Context(), d.Method, target, bytes.NewReader(d.Body))
	if err != nil {
		return usageError{fmt.Errorf("%s is not a URL: %w", s.base, err)}
	}
	req.Header = d.Header
	raw, err := a.do(req)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), strings.TrimSpace(string(raw)))
	return err
}

// complete fills what no flag says, and returns the settings of the preset.
func (s *sender) complete() (map[string]string, error) {
	if s.source == "" {
		return nil, errors.New("--source is missing: the name under which the source is configured")
	}
	set, err := pairs(s.settings, "=", "--setting")
	if err != nil {
		return nil, err
	}
	if s.config != "" {
		if err := s.fromConfig(set); err != nil {
			return nil, err
		}
	}
	def(&s.secret, os.Getenv(secretVariable))
	def(&s.base, "http://127.0.0.1:8080")
	switch {
	case s.preset == "":
		return nil, errors.New("--preset is missing (or --config with a file in which the source stands)")
	case s.secret == "":
		return nil, fmt.Errorf("no secret is given: set %s, or say --secret, or --config with a file in which the source stands", secretVariable)
	}
	return set, nil
}

// fromConfig takes what no flag says from the configuration file.
func (s *sender) fromConfig(set map[string]string) error {
	cfg, err := config.Load(s.config)
	if err != nil {
		return err
	}
	var known []string
	for _, src := range cfg.Sources {
		known = append(known, src.Name)
		if src.Name != s.source {
			continue
		}
		def(&s.preset, src.Preset)
		def(&s.folder, src.PresetsDir)
		def(&s.publicURL, src.PublicURL)
		for name, value := range src.Settings {
			if _, ok := set[name]; !ok {
				set[name] = value
			}
		}
		for _, secret := range src.Secrets {
			if secret.NotAfter.IsZero() || time.Now().Before(secret.NotAfter) {
				def(&s.secret, secret.Value)
			}
		}
		def(&s.base, reachable(cfg.HTTP.Listen))
		return nil
	}
	return fmt.Errorf("%s has no source %q; it has %s", s.config, s.source, strings.Join(known, ", "))
}

// reachable is the URL of a server that listens at addr, from this machine.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// def sets a text that is empty.
func def(value *string, d string) {
	if *value == "" {
		*value = d
	}
}
