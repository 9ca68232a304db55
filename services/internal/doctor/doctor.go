// Package doctor looks for what goes wrong with webhooks in the field (clocks, certificates, addresses, secrets, disks, backlogs) and
// says what to do about it. What it is told is judged by pure functions; asking is the caller's part, or a function of a few lines here.
package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Status is how a check ended.
type Status string

const (
	// OK: nothing to do.
	OK Status = "ok"
	// Unknown: it could not be looked at; Message says why.
	Unknown Status = "unknown"
	// Warning: it works, and will not for ever.
	Warning Status = "warning"
	// Problem: deliveries are refused, lost or late because of it.
	Problem Status = "problem"
)

var order = []Status{OK, Unknown, Warning, Problem}

// Finding is the outcome of one check.
type Finding struct {
	// Check is what was looked at: clock, public-url, secrets, …
	Check string `json:"check"`
	// Subject is whose it is: a source, a topic; empty: the installation's.
	Subject string `json:"subject,omitempty"`
	Status  Status `json:"status"`
	// Message says what was found, Advice what to do. Neither holds a secret.
	Message string `json:"message"`
	Advice  string `json:"advice,omitempty"`
}

// Worst is the worst status of all findings.
func Worst(all []Finding) Status {
	worst := OK
	for _, f := range all {
		if slices.Index(order, f.Status) > slices.Index(order, worst) {
			worst = f.Status
		}
	}
	return worst
}

const (
	// clockWarning and clockProblem are how wrong our clock may be. Providers tolerate five minutes.
	clockWarning = 2 * time.Second
	clockProblem = time.Minute
)

// Clock is what is known of our clock.
type Clock struct {
	// NTP is how far the time server is before us, if it answered (NTPError is nil).
	NTP      time.Duration
	NTPError error
	// Sources is how far most sources are before us, if enough of them agree (Ours); Voices is how many providers said anything.
	Sources time.Duration
	Ours    bool
	Voices  int
	// SourcesError is why the sources' clocks are not known.
	SourcesError error
}

// CheckClock judges our clock: by NTP, else by the authentic deliveries of the sources.
func CheckClock(c Clock) Finding {
	const advice = "set the clock and keep it right: enable NTP (timedatectl set-ntp true, chrony)"
	f := Finding{Check: "clock"}
	judge := func(offset time.Duration, by string) Finding {
		switch {
		case offset.Abs() >= clockProblem:
			f.Status, f.Advice = Problem, advice
		case offset.Abs() >= clockWarning:
			f.Status, f.Advice = Warning, advice
		default:
			f.Status = OK
		}
		where := "behind"
		if offset < 0 {
			where = "ahead"
		}
		f.Message = fmt.Sprintf("our clock is %s %s, says %s", offset.Abs().Round(time.Millisecond), where, by)
		return f
	}
	switch {
	case c.NTPError == nil:
		return judge(c.NTP, "the time server")
	case c.SourcesError == nil && c.Ours:
		return judge(c.Sources, "most of the sources' authentic deliveries")
	case c.SourcesError == nil && c.Voices >= 2:
		f.Status, f.Message = OK, fmt.Sprintf("the authentic deliveries of %d providers agree with our clock (no time server answers)", c.Voices)
	default:
		f.Status, f.Message = Unknown, fmt.Sprintf("no time server answers (%v), and deliveries of %d providers are too few to tell", c.NTPError, c.Voices)
		f.Advice = "allow UDP port 123 out, or name a time server with --ntp"
	}
	return f
}

// Secret is what may be known of a secret.
type Secret struct {
	ID                          string
	AddedAt, NotAfter, LastUsed time.Time
}

// Source is a source with its secrets.
type Source struct {
	Name, Preset string
	// Confidence is how sure the facts of its preset are.
	Confidence string
	// State is enabled, disabled or pending.
	State   string
	Secrets []Secret
}

const (
	// expiring is how long before its end a secret is told of.
	expiring = 14 * 24 * time.Hour
	// unused is how long a secret may prove nothing while another does.
	unused = 7 * 24 * time.Hour
)

// CheckSecrets looks for secrets that end, have ended, or are no longer used.
func CheckSecrets(all []Source, now time.Time) (out []Finding) {
	for _, s := range all {
		if s.State == "disabled" {
			continue
		}
		if s.State == "pending" {
			out = append(out, Finding{"secrets", s.Name, Warning, "it has no secret yet: the provider's handshake has not come", "set up the webhook at the provider, or give the secret with `hookmesh sources rotate-secret " + s.Name + "`"})
			continue
		}
		out = append(out, secretsOf(s, now)...)
	}
	if len(out) == 0 {
		out = append(out, Finding{Check: "secrets", Status: OK, Message: "no secret ends soon, and none is left over"})
	}
	return out
}

func secretsOf(s Source, now time.Time) (out []Finding) {
	var last, lastUse time.Time
	forEver := len(s.Secrets) == 0
	for _, secret := range s.Secrets {
		forEver = forEver || secret.NotAfter.IsZero()
		last = later(last, secret.NotAfter)
		lastUse = later(lastUse, secret.LastUsed)
	}
	rotate := "give it a new one with `hookmesh sources rotate-secret " + s.Name + "` (or in the configuration file), then at the provider"
	switch {
	case forEver:
	case !last.After(now):
		out = append(out, Finding{"secrets", s.Name, Problem, "all its secrets have ended: every delivery is refused", rotate})
	case last.Sub(now) < expiring:
		out = append(out, Finding{"secrets", s.Name, Warning, "its last secret ends on " + last.UTC().Format(time.DateTime) + " UTC", rotate})
	}
	for _, secret := range s.Secrets {
		ended := !secret.NotAfter.IsZero() && !secret.NotAfter.After(now)
		idle := lastUse.Sub(later(secret.LastUsed, secret.AddedAt)) > unused
		if len(s.Secrets) > 1 && !ended && secret.NotAfter.IsZero() && !lastUse.IsZero() && idle {
			out = append(out, Finding{"secrets", s.Name, Warning, fmt.Sprintf("secret %s has proven nothing for more than %d days while another does", secret.ID, int(unused.Hours()/24)), "take it away: a secret that nobody needs only helps who stole it"})
		}
	}
	return out
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// CheckPresets tells of presets whose facts no public source confirms.
func CheckPresets(all []Source) (out []Finding) {
	for _, s := range all {
		if s.Confidence == "unconfirmed" {
			out = append(out, Finding{"presets", s.Name, Warning, fmt.Sprintf("preset %s is unconfirmed: how the provider signs could not be read in a public source", s.Preset), "try a real delivery with `hookmesh verify` before you rely on it"})
		}
	}
	if len(out) == 0 {
		out = append(out, Finding{Check: "presets", Status: OK, Message: fmt.Sprintf("the presets of %d sources are documented", len(all))})
	}
	return out
}

// Poll is how the last poll of a source ended.
type Poll struct {
	Source, Error string
	OpenDebts     int64
}

// CheckPolls looks at polls and debts.
func CheckPolls(all []Poll) (out []Finding) {
	for _, p := range all {
		if p.Error != "" {
			out = append(out, Finding{"polls", p.Source, Problem, "its last poll failed: " + p.Error, "check address and credentials of content, poll and connector; it is tried again by itself"})
		}
		if p.OpenDebts > 0 {
			out = append(out, Finding{"polls", p.Source, Warning, fmt.Sprintf("%d debts are open: what was missed is not fetched yet", p.OpenDebts), "a source without poll, fetch or connector cannot pay: give it one"})
		}
	}
	if len(out) == 0 {
		out = append(out, Finding{Check: "polls", Status: OK, Message: "no poll failed, and nothing is owed"})
	}
	return out
}

// Subscription is what a source was asked to call us for.
type Subscription struct {
	Source, Resource, Error string
	// MadeAt is when it was made or renewed last (zero: never), ExpiresAt when it ends (zero: never, or there is none because of Error).
	MadeAt, ExpiresAt time.Time
}

// unrenewed is how little of its life a subscription has left when it should have been renewed long before.
const unrenewed = 10 * time.Minute

// CheckSubscriptions looks at what the sources were asked to call us for. unsubscribed are the sources that should be asked and are
// not, with why.
func CheckSubscriptions(all []Subscription, unsubscribed map[string]string, now time.Time) (out []Finding) {
	for _, source := range slices.Sorted(maps.Keys(unsubscribed)) {
		out = append(out, Finding{"subscriptions", source, Problem, "it is never asked to call us: " + unsubscribed[source], "give the source public_url and a secret (and every reconciler the verifier's keys, if the source was made at run time); until then only polls find its changes"})
	}
	alive := 0
	for _, s := range all {
		if f := subscriptionOf(s, now); f.Status != OK {
			out = append(out, f)
			continue
		}
		alive++
	}
	if len(out) == 0 {
		out = append(out, Finding{Check: "subscriptions", Status: OK, Message: fmt.Sprintf("%d are alive, and renewed by themselves", alive)})
	}
	return out
}

func subscriptionOf(s Subscription, now time.Time) Finding {
	const (
		grant = "look whether the connector's credentials may subscribe, and whether the provider reaches public_url; it is tried again every five minutes, and what was missed is polled then"
		held  = "no reconciler takes care of it: see whether one runs, and held_by in /v1/sources"
	)
	f := Finding{Check: "subscriptions", Subject: s.Source, Status: Problem, Advice: grant}
	ends := s.ExpiresAt.UTC().Format(time.DateTime) + " UTC"
	switch {
	case s.Error != "" && s.MadeAt.IsZero():
		f.Message = fmt.Sprintf("the source was never got to call us for %s: %s", s.Resource, s.Error)
	case s.Error != "" && s.ExpiresAt.IsZero():
		f.Message = fmt.Sprintf("the source has lost our subscription to %s, and it cannot be made anew: %s", s.Resource, s.Error)
	case !s.ExpiresAt.IsZero() && !s.ExpiresAt.After(now):
		f.Message = fmt.Sprintf("the subscription to %s ended at %s", s.Resource, ends)
		if s.Error == "" {
			f.Advice = held
		} else {
			f.Message += ": " + s.Error
		}
	case s.Error != "":
		f.Status, f.Message = Warning, fmt.Sprintf("the subscription to %s ends at %s and cannot be renewed: %s", s.Resource, ends, s.Error)
	case !s.ExpiresAt.IsZero() && s.ExpiresAt.Sub(now) < unrenewed:
		f.Status, f.Message, f.Advice = Warning, fmt.Sprintf("the subscription to %s ends at %s and was not renewed", s.Resource, ends), held
	default:
		f.Status, f.Advice = OK, ""
	}
	return f
}

const (
	lagWarning = 10_000
	lagProblem = 1_000_000
)

// CheckLag judges backlogs, by consumer group.
func CheckLag(groups map[string]int64) (out []Finding) {
	for group, n := range groups {
		f := Finding{Check: "lag", Subject: group, Status: OK, Message: fmt.Sprintf("%d records wait", n)}
		if n >= lagWarning {
			f.Status, f.Advice = Warning, "look whether it falls; if not, the first group that lags (dedupe, sequencer, embedder) is the slow one: more replicas, up to the number of partitions"
		}
		if n >= lagProblem {
			f.Status = Problem
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b Finding) int { return cmp.Compare(a.Subject, b.Subject) })
	if len(out) == 0 {
		out = append(out, Finding{Check: "lag", Status: Unknown, Message: "no consumer reports how far it is behind", Advice: "is the process at --admin one that consumes?"})
	}
	return out
}

const (
	diskWarning = 2 << 30
	diskProblem = 256 << 20
)

// CheckDisk judges the free space where data lies, in bytes.
func CheckDisk(dir string, free, total uint64) Finding {
	f := Finding{Check: "disk", Subject: dir, Status: OK, Message: fmt.Sprintf("%s of %s are free", size(free), size(total))}
	const advice = "make room: when the disk is full, deliveries are answered with 503"
	switch {
	case free < diskProblem:
		f.Status, f.Advice = Problem, advice
	case free < diskWarning || free < total/20:
		f.Status, f.Advice = Warning, advice
	}
	return f
}

func size(n uint64) string {
	if n >= 1<<30 {
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	}
	return fmt.Sprintf("%d MiB", n>>20)
}

// ParseLag reads the backlog of each group from metrics in the text format: per topic and partition the greatest value counts, because
// every member of a group reports the whole group.
func ParseLag(metrics string) map[string]int64 {
	parts := map[[3]string]int64{}
	for line := range strings.Lines(metrics) {
		labels, ok := strings.CutPrefix(line, "hookmesh_kafka_lag")
		if !ok {
			continue
		}
		open, end := strings.IndexByte(labels, '{'), strings.LastIndexByte(labels, '}')
		if open < 0 || end < open {
			continue
		}
		var value float64
		if _, err := fmt.Sscan(labels[end+1:], &value); err != nil {
			continue
		}
		set := labels[open+1 : end]
		key := [3]string{label(set, "group"), label(set, "topic"), label(set, "partition")}
		parts[key] = max(parts[key], int64(value))
	}
	groups := map[string]int64{}
	for key, n := range parts {
		groups[key[0]] += n
	}
	return groups
}

func label(set, name string) string {
	for pair := range strings.SplitSeq(set, ",") {
		if value, ok := strings.CutPrefix(strings.TrimSpace(pair), name+`="`); ok {
			return strings.TrimSuffix(value, `"`)
		}
	}
	return ""
}
