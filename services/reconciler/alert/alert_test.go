package alert

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var (
	noon   = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	policy = Policy{Group: 30 * time.Second, Repeat: 4 * time.Hour, Settle: 2 * time.Minute, PerHour: 6}
	wrong  = func(source string, n int64) Condition {
		return Condition{Kind: "dead-letters", Source: source, Count: n, Text: fmt.Sprintf("%d could not be processed", n)}
	}
)

// watch observes every ten seconds what holds at each time, and returns what was told.
func watch(t *testing.T, until time.Duration, holds func(at time.Duration) []Condition) (told []Message, at []time.Duration) {
	t.Helper()
	var b Book
	for d := time.Duration(0); d <= until; d += 10 * time.Second {
		raw, err := json.Marshal(b) // a restart between any two observations changes nothing
		if err != nil {
			t.Fatal(err)
		}
		b = Book{}
		if err := json.Unmarshal(raw, &b); err != nil {
			t.Fatal(err)
		}
		var m Message
		if b, m = b.Observe(holds(d), policy, noon.Add(d)); !m.Empty() {
			told, at = append(told, m), append(at, d)
		}
	}
	return told, at
}

func TestAThousandDeadLettersAreOneIncident(t *testing.T) {
	told, _ := watch(t, time.Hour, func(d time.Duration) []Condition { return []Condition{wrong("wiki", 1000+int64(d/time.Second))} })
	if len(told) != 1 || len(told[0].Opened) != 1 || told[0].Opened[0].Count < 1000 {
		t.Errorf("%+v", told)
	}
}

func TestWhatBeginsTogetherIsToldTogether(t *testing.T) {
	told, at := watch(t, 10*time.Minute, func(d time.Duration) []Condition {
		out := []Condition{wrong("a", 1)}
		if d >= 20*time.Second {
			out = append(out, wrong("b", 1), Condition{Kind: "breaker", Source: "b"})
		}
		return out
	})
	if len(told) != 1 || len(told[0].Opened) != 3 || at[0] != 30*time.Second {
		t.Errorf("%+v at %v", told, at)
	}
}

func TestAConditionThatComesAndGoesIsOneIncident(t *testing.T) {
	told, at := watch(t, 30*time.Minute, func(d time.Duration) []Condition {
		if d < 20*time.Minute && (d/time.Minute)%2 == 0 {
			return []Condition{wrong("a", 1)}
		}
		return nil
	})
	if len(told) != 2 || len(told[0].Opened) != 1 || len(told[1].Resolved) != 1 || at[1] < 20*time.Minute || at[1] > 22*time.Minute {
		t.Errorf("%+v at %v", told, at)
	}
}

func TestWhatIsOverBeforeAnybodyWasToldIsNotTold(t *testing.T) {
	if told, _ := watch(t, 30*time.Minute, func(d time.Duration) []Condition {
		if d < 20*time.Second {
			return []Condition{wrong("a", 1)}
		}
		return nil
	}); len(told) != 0 {
		t.Errorf("%+v", told)
	}
}

func TestWhatGoesOnOrGrowsIsToldAgain(t *testing.T) {
	told, at := watch(t, 9*time.Hour, func(d time.Duration) []Condition {
		n := int64(5)
		if d >= time.Hour {
			n = 60
		}
		return []Condition{wrong("a", n)}
	})
	if len(told) != 4 || len(told[1].Ongoing) != 1 || at[1] != time.Hour || at[2] != 5*time.Hour {
		t.Errorf("%+v at %v", told, at)
	}
}

// Whatever happens, the messages of any hour stay within the bound, and everything that holds for long enough is told at last.
func TestMessagesStayWithinTheirBoundAndNothingIsForgotten(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var b Book
		var sent []time.Time
		told := map[string]bool{}
		now := noon
		step := func(holding []Condition) {
			now = now.Add(time.Duration(rapid.IntRange(1, 300).Draw(rt, "seconds")) * time.Second)
			var m Message
			if b, m = b.Observe(holding, policy, now); m.Empty() {
				return
			}
			sent = append(sent, now)
			for _, in := range m.Opened {
				told[in.Source] = true
			}
		}
		for range rapid.IntRange(0, 60).Draw(rt, "steps") {
			var holding []Condition
			for i := range 20 {
				if rapid.IntRange(0, 3).Draw(rt, "holds") == 0 {
					holding = append(holding, wrong(fmt.Sprint("s", i), int64(rapid.IntRange(1, 1000).Draw(rt, "count"))))
				}
			}
			step(holding)
		}
		for range 3600 / 150 * 3 {
			step([]Condition{wrong("last", 1)})
		}
		for i, from := range sent {
			n := 0
			for _, at := range sent[i:] {
				if at.Sub(from) < time.Hour {
					n++
				}
			}
			if n > policy.PerHour {
				rt.Fatalf("%d messages within an hour", n)
			}
		}
		if in := b.Incidents["dead-letters/last"]; !told["last"] || in.Told.IsZero() {
			rt.Fatalf("what holds for hours was not told")
		}
	})
}

func TestAWebhookIsSignedAndATextIsReadable(t *testing.T) {
	key := []byte("0123456789abcdef0123456789abcdef")
	secret := "whsec_" + base64.StdEncoding.EncodeToString(key)
	var header http.Header
	var body []byte
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header = r.Header
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(status)
	}))
	defer srv.Close()
	s := NewSender(func() time.Time { return noon })
	s.Client = srv.Client()
	m := Message{Opened: []Incident{{Condition: wrong("wiki", 3), Since: noon.Add(-time.Minute)}}}
	if err := s.Send(t.Context(), Target{Name: "ops", URL: srv.URL, Format: FormatWebhook, Secret: secret}, m); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", header.Get("webhook-id"), header.Get("webhook-timestamp"), body)
	if header.Get("webhook-signature") != "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)) || !strings.Contains(string(body), `"kind":"dead-letters"`) {
		t.Errorf("%v %s", header, body)
	}
	m.Opened[0].Text = "<script> & more"
	if err := s.Send(t.Context(), Target{Name: "chat", URL: srv.URL, Format: FormatSlack}, m); err != nil {
		t.Fatal(err)
	}
	var slack struct{ Text string }
	if err := json.Unmarshal(body, &slack); err != nil || slack.Text != ":red_circle: new *dead-letters wiki*: &lt;script&gt; &amp; more (since 1m0s)" {
		t.Errorf("%q, %v", slack.Text, err)
	}
	status = http.StatusInternalServerError
	if err := s.Send(t.Context(), Target{Name: "chat", URL: srv.URL + "/T0/secret", Format: FormatSlack}, m); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
	srv.Close()
	if err := s.Send(t.Context(), Target{Name: "chat", URL: srv.URL + "/T0/secret", Format: FormatSlack}, m); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}
