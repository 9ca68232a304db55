package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/beevik/ntp"
	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
	sourcev1 "github.com/hookmesh/hookmesh/gen/hookmesh/source/v1"
	"github.com/hookmesh/hookmesh/services/internal/config"
	"github.com/hookmesh/hookmesh/services/internal/doctor"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/wiring"
)

// examination is what `doctor` is asked to look at.
type examination struct {
	file, base, admin, ntp string
	asJSON, strict, local  bool
	cfg                    config.Config
}

func doctorCommand() *cobra.Command {
	e := examination{}
	cmd := &cobra.Command{
		Use: "doctor", Short: "Look for what is wrong or will be, and say what to do", Args: noArgs,
		Long: "Look for what is wrong or will be, and say what to do: the clock, public URLs and their certificates as the sources see them, secrets,\npresets, topics, backlogs, polls, subscriptions, disk.\n\nExit code 0: nothing that keeps deliveries from arriving. 1: a problem (with --strict also a warning). 2: wrong use.",
		RunE: func(cmd *cobra.Command, _ []string) error { return e.run(cmd) },
	}
	f := cmd.Flags()
	f.StringVar(&e.file, "config", "hookmesh.yaml", "configuration file of the installation")
	f.StringVar(&e.base, "url", "", "address of the running hookmesh; empty: as the configuration says")
	f.StringVar(&e.admin, "admin", "", "address of its admin server; empty: as the configuration says")
	f.StringVar(&e.ntp, "ntp", "pool.ntp.org", "time server to compare the clock with; empty: none")
	f.BoolVar(&e.asJSON, "json", false, "print as JSON")
	f.BoolVar(&e.strict, "strict", false, "exit with 1 for warnings, too")
	return cmd
}

func (e *examination) run(cmd *cobra.Command) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Minute)
	defer cancel()
	findings := e.examine(ctx)
	if err := e.print(cmd, findings); err != nil {
		return err
	}
	if worst := doctor.Worst(findings); worst == doctor.Problem || e.strict && worst != doctor.OK {
		return exitError{1}
	}
	return nil
}

// examine makes all checks. What cannot be looked at is a finding, too.
func (e *examination) examine(ctx context.Context) []doctor.Finding {
	findings := []doctor.Finding{e.configuration()}
	api := newAPI(e.base)
	running := doctor.Finding{Check: "running", Status: doctor.OK, Message: "hookmesh answers at " + e.base}
	var sources sourcev1.ListSourcesResponse
	listed := api.get(ctx, "/v1/sources:definitions", nil, &sources)
	if listed != nil {
		running.Status, running.Message, running.Advice = doctor.Problem, listed.Error(), "start it, or say where it is with --url; what only it knows was not looked at"
	}
	findings = append(findings, running, e.clock(ctx, api))
	if listed == nil {
		all := known(sources.GetSources())
		findings = append(findings, doctor.CheckSecrets(all, time.Now())...)
		findings = append(findings, doctor.CheckPresets(all)...)
		findings = append(findings, e.urls(ctx, sources.GetSources())...)
		findings = append(findings, e.polls(ctx, api)...)
		findings = append(findings, e.process(ctx)...)
	}
	if len(e.cfg.Kafka.Brokers) > 0 {
		findings = append(findings, e.topics(ctx))
	}
	return append(findings, e.disk()...)
}

// configuration reads the file, and takes from it where hookmesh is.
func (e *examination) configuration() doctor.Finding {
	cfg, err := config.Load(e.file, wiring.Check)
	f := doctor.Finding{Check: "configuration", Subject: e.file, Status: doctor.OK, Message: "it is as it should be"}
	switch {
	case errors.Is(err, os.ErrNotExist):
		f.Status, f.Message, f.Advice = doctor.Unknown, "there is no such file here", "name it with --config"
		cfg = config.Default()
	case err != nil:
		f.Status, f.Message, f.Advice = doctor.Problem, err.Error(), "mend it: hookmesh would not start with it"
		cfg = config.Default()
	default:
		e.local = true
	}
	e.cfg = cfg
	if e.base == "" {
		scheme := "http://"
		if cfg.HTTP.TLS.CertFile != "" {
			scheme = "https://"
		}
		e.base = scheme + cfg.HTTP.Listen
	}
	if e.admin == "" && cfg.Admin.Listen != "" {
		e.admin = "http://" + cfg.Admin.Listen
	}
	return f
}

// clock asks a time server, and how the sources' deliveries fit our clock.
func (e *examination) clock(ctx context.Context, api api) doctor.Finding {
	c := doctor.Clock{NTPError: errors.New("none was asked")}
	if e.ntp != "" {
		res, err := ntp.QueryWithOptions(e.ntp, ntp.QueryOptions{Timeout: 3 * time.Second})
		if err == nil {
			err = res.Validate()
		}
		if c.NTPError = err; err == nil {
			c.NTP = res.ClockOffset
		}
	}
	var clocks sourcev1.GetClocksResponse
	if c.SourcesError = api.get(ctx, "/v1/clocks", nil, &clocks); c.SourcesError == nil {
		c.Ours, c.Sources, c.Voices = clocks.GetOurs(), clocks.GetOffset().AsDuration(), int(clocks.GetVoices())
	}
	return doctor.CheckClock(c)
}

// known is what the checks want to know of the sources.
func known(all []*sourcev1.Source) []doctor.Source {
	out := make([]doctor.Source, len(all))
	for i, s := range all {
		out[i] = doctor.Source{Name: s.GetName(), Preset: s.GetDefinition().GetFields()["preset"].GetStringValue(), State: enum(s.GetState().String(), "STATE_")}
		if p, err := verifier.PresetNamed(out[i].Preset); err == nil {
			out[i].Confidence = p.Confidence
		}
		for _, secret := range s.GetSecrets() {
			known := doctor.Secret{ID: secret.GetId()}
			known.AddedAt, known.NotAfter, known.LastUsed = moment(secret.GetAddedAt()), moment(secret.GetNotAfter()), moment(secret.GetLastUsedAt())
			out[i].Secrets = append(out[i].Secrets, known)
		}
	}
	return out
}

// urls calls every public URL at once.
func (e *examination) urls(ctx context.Context, all []*sourcev1.Source) []doctor.Finding {
	found := make([][]doctor.Finding, len(all))
	var wg sync.WaitGroup
	asked := 0
	for i, s := range all {
		public := s.GetDefinition().GetFields()["public_url"].GetStringValue()
		if public == "" || s.GetState() == sourcev1.State_STATE_DISABLED {
			continue
		}
		asked++
		wg.Go(func() { found[i] = doctor.CheckURL(ctx, s.GetName(), public, nil, time.Now()) })
	}
	wg.Wait()
	if asked == 0 {
		return []doctor.Finding{{Check: "public-url", Status: doctor.Unknown, Message: "no source has a public_url", Advice: "say the address that each provider calls (public_url); then it is called as the provider does"}}
	}
	var out []doctor.Finding
	for _, f := range found {
		out = append(out, f...)
	}
	return out
}

func (e *examination) polls(ctx context.Context, api api) []doctor.Finding {
	var res reconcilerv1.ListSourcesResponse
	if err := api.get(ctx, "/v1/sources", nil, &res); err != nil {
		return []doctor.Finding{{Check: "polls", Status: doctor.Unknown, Message: err.Error()}}
	}
	var all []doctor.Poll
	var subscriptions []doctor.Subscription
	unsubscribed := map[string]string{}
	for _, s := range res.GetSources() {
		all = append(all, doctor.Poll{Source: s.GetName(), Error: s.GetError(), OpenDebts: s.GetOpenDebts()})
		if s.GetUnsubscribed() != "" {
			unsubscribed[s.GetName()] = s.GetUnsubscribed()
		}
		for _, sub := range s.GetSubscriptions() {
			subscriptions = append(subscriptions, doctor.Subscription{Source: s.GetName(), Resource: sub.GetResource(), Error: sub.GetError(), MadeAt: moment(sub.GetMadeAt()), ExpiresAt: moment(sub.GetExpiresAt())})
		}
	}
	return append(doctor.CheckPolls(all), doctor.CheckSubscriptions(subscriptions, unsubscribed, time.Now())...)
}

// process asks the admin server: is it ready, what does it warn of, how far is it behind?
func (e *examination) process(ctx context.Context) []doctor.Finding {
	if e.admin == "" {
		return []doctor.Finding{{Check: "lag", Status: doctor.Unknown, Message: "the admin server is not served", Advice: "set admin.listen, or name one with --admin"}}
	}
	admin := newAPI(e.admin)
	admin.flag = "--admin"
	ready := doctor.Finding{Check: "ready", Status: doctor.OK, Message: "it can do its work"}
	if _, err := admin.getRaw(ctx, "/readyz", nil); err != nil {
		ready.Status, ready.Message, ready.Advice = doctor.Problem, err.Error(), "its log says what it waits for"
	}
	out := []doctor.Finding{ready}
	metrics, err := admin.getRaw(ctx, "/metrics", nil)
	if err != nil {
		return append(out, doctor.Finding{Check: "lag", Status: doctor.Unknown, Message: err.Error()})
	}
	return append(out, doctor.CheckLag(doctor.ParseLag(string(metrics)))...)
}

// topics compares the topics of real brokers with the configuration.
func (e *examination) topics(ctx context.Context) doctor.Finding {
	f := doctor.Finding{Check: "topics", Status: doctor.OK, Message: "they are as they should be"}
	log, err := wiring.OpenLog(e.cfg.Kafka, telemetry.Nop())
	if err != nil {
		f.Status, f.Message = doctor.Problem, err.Error()
		return f
	}
	defer log.Close()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	found, err := log.CheckTopics(ctx, wiring.Topics(e.cfg.Kafka))
	if err != nil {
		f.Status, f.Message, f.Advice = doctor.Problem, err.Error(), "are kafka.brokers reachable from here?"
		return f
	}
	if len(found) > 0 {
		texts := make([]string, len(found))
		for i, one := range found {
			texts[i] = fmt.Sprint(one)
		}
		f.Status, f.Message, f.Advice = doctor.Problem, strings.Join(texts, "; "), "`hookmesh topics apply` mends what can be mended"
	}
	return f
}

// disk looks at the disk of data_dir, if the configuration is that of this machine.
func (e *examination) disk() []doctor.Finding {
	if !e.local {
		return nil
	}
	free, size, err := doctor.Free(e.cfg.DataDir)
	if err != nil {
		return []doctor.Finding{{Check: "disk", Subject: e.cfg.DataDir, Status: doctor.Unknown, Message: err.Error(), Advice: "run doctor on the machine where hookmesh runs"}}
	}
	return []doctor.Finding{doctor.CheckDisk(e.cfg.DataDir, free, size)}
}

func (e *examination) print(cmd *cobra.Command, findings []doctor.Finding) error {
	out := cmd.OutOrStdout()
	if e.asJSON {
		enc := json.NewEncoder(out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(map[string]any{"status": doctor.Worst(findings), "findings": findings})
	}
	for _, f := range findings {
		_, _ = fmt.Fprintf(out, "%-8s %-14s %s", f.Status, f.Check, f.Message)
		if f.Subject != "" {
			_, _ = fmt.Fprintf(out, " [%s]", f.Subject)
		}
		_, _ = fmt.Fprintln(out)
		if f.Advice != "" {
			_, _ = fmt.Fprintf(out, "         %-14s → %s\n", "", f.Advice)
		}
	}
	return nil
}

// moment is a time, zero if there is none.
func moment(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime()
}
