package doctor_test

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/doctor"
)

var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func TestTheClockIsJudgedByNTPElseByTheSources(t *testing.T) {
	silent := errors.New("no answer")
	tests := []struct {
		name  string
		clock doctor.Clock
		want  doctor.Status
		says  string
	}{
		{"right", doctor.Clock{NTP: 3 * time.Millisecond}, doctor.OK, "time server"},
		{"a little off", doctor.Clock{NTP: -3 * time.Second}, doctor.Warning, "3s ahead"},
		{"far off", doctor.Clock{NTP: 10 * time.Minute}, doctor.Problem, "10m0s behind"},
		{"no NTP, the sources say it is ours", doctor.Clock{NTPError: silent, Ours: true, Sources: 5 * time.Minute, Voices: 3}, doctor.Problem, "5m0s behind"},
		{"no NTP, the sources agree with us", doctor.Clock{NTPError: silent, Voices: 2}, doctor.OK, "2 providers"},
		{"nobody to ask", doctor.Clock{NTPError: silent, Voices: 1}, doctor.Unknown, "no answer"},
		{"not even hookmesh answers", doctor.Clock{NTPError: silent, SourcesError: silent, Voices: 9}, doctor.Unknown, "no answer"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := doctor.CheckClock(tt.clock)
			if f.Status != tt.want || !strings.Contains(f.Message, tt.says) || f.Status != doctor.OK && f.Advice == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

func TestSecretsThatEndOrAreLeftOverAreToldOf(t *testing.T) {
	at := now.Add
	secret := func(id string, added, until, used time.Time) doctor.Secret {
		return doctor.Secret{ID: id, AddedAt: added, NotAfter: until, LastUsed: used}
	}
	var never time.Time
	tests := []struct {
		name    string
		state   string
		secrets []doctor.Secret
		want    doctor.Status
		says    string
	}{
		{"one for ever", "enabled", []doctor.Secret{secret("a", never, never, at(-time.Hour))}, doctor.OK, "no secret"},
		{"a rotation under way", "enabled", []doctor.Secret{secret("a", never, at(day), at(-time.Hour)), secret("b", at(-day), never, never)}, doctor.OK, "no secret"},
		{"the last one ends soon", "enabled", []doctor.Secret{secret("a", never, at(3*day), at(-time.Hour))}, doctor.Warning, "ends on 2026-01-04"},
		{"all have ended", "enabled", []doctor.Secret{secret("a", never, at(-day), never)}, doctor.Problem, "every delivery is refused"},
		{"an old one that nobody uses", "enabled", []doctor.Secret{secret("old", at(-90*day), never, at(-30*day)), secret("new", at(-40*day), never, at(-time.Hour))}, doctor.Warning, "secret old"},
		{"a new one that is not used yet", "enabled", []doctor.Secret{secret("a", at(-90*day), never, at(-time.Hour)), secret("new", at(-2*day), never, never)}, doctor.OK, "no secret"},
		{"pending", "pending", nil, doctor.Warning, "handshake"},
		{"unsigned on purpose", "enabled", nil, doctor.OK, "no secret"},
		{"disabled", "disabled", []doctor.Secret{secret("a", never, at(-day), never)}, doctor.OK, "no secret"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := doctor.CheckSecrets([]doctor.Source{{Name: "s", State: tt.state, Secrets: tt.secrets}}, now)
			if len(got) != 1 || got[0].Status != tt.want || !strings.Contains(got[0].Message, tt.says) || tt.want != doctor.OK && got[0].Advice == "" {
				t.Errorf("%+v", got)
			}
		})
	}
}

func TestBacklogsDisksPollsAndPresetsAreJudged(t *testing.T) {
	metrics := `# TYPE hookmesh_kafka_lag gauge
hookmesh_kafka_lag{group="hookmesh-dedupe",otel_scope_name="x",partition="0",topic="a"} 7
hookmesh_kafka_lag{group="hookmesh-dedupe",otel_scope_name="y",partition="0",topic="a"} 9
hookmesh_kafka_lag{group="hookmesh-dedupe",partition="1",topic="a"} 1
hookmesh_kafka_lag{group="hookmesh-embedder",partition="0",topic="b"} 2e+06
hookmesh_kafka_lag broken
`
	lag := doctor.CheckLag(doctor.ParseLag(metrics))
	if len(lag) != 2 || lag[0].Message != "10 records wait" || lag[0].Status != doctor.OK || lag[1].Status != doctor.Problem {
		t.Errorf("%+v", lag)
	}
	if got := doctor.CheckLag(nil); got[0].Status != doctor.Unknown {
		t.Errorf("%+v", got)
	}
	for free, want := range map[uint64]doctor.Status{100 << 30: doctor.OK, 1 << 30: doctor.Warning, 1 << 20: doctor.Problem} {
		if f := doctor.CheckDisk("d", free, 200<<30); f.Status != want {
			t.Errorf("%d free: %+v", free, f)
		}
	}
	polls := doctor.CheckPolls([]doctor.Poll{{Source: "a"}, {Source: "b", Error: "HTTP 401"}, {Source: "c", OpenDebts: 2}})
	if len(polls) != 2 || doctor.Worst(polls) != doctor.Problem {
		t.Errorf("%+v", polls)
	}
	presets := doctor.CheckPresets([]doctor.Source{{Name: "a", Confidence: "verified"}, {Name: "b", Preset: "p", Confidence: "unconfirmed"}})
	if len(presets) != 1 || presets[0].Status != doctor.Warning {
		t.Errorf("%+v", presets)
	}
}

func TestSubscriptionsThatDoNotCallAreTold(t *testing.T) {
	in := now.Add
	for name, tt := range map[string]struct {
		s            doctor.Subscription
		want         doctor.Status
		says, advice string
	}{
		"alive":                      {doctor.Subscription{MadeAt: in(-time.Hour), ExpiresAt: in(time.Hour)}, doctor.OK, "1 are alive", ""},
		"without an end":             {doctor.Subscription{MadeAt: in(-time.Hour)}, doctor.OK, "1 are alive", ""},
		"never made":                 {doctor.Subscription{Error: "HTTP 403"}, doctor.Problem, "never got to call us for feed: HTTP 403", "credentials"},
		"lost":                       {doctor.Subscription{Error: "HTTP 500", MadeAt: in(-time.Hour)}, doctor.Problem, "has lost", "every five minutes"},
		"it cannot be renewed":       {doctor.Subscription{Error: "HTTP 500", MadeAt: in(-time.Hour), ExpiresAt: in(time.Hour)}, doctor.Warning, "cannot be renewed: HTTP 500", "credentials"},
		"it ended":                   {doctor.Subscription{Error: "HTTP 500", MadeAt: in(-3 * time.Hour), ExpiresAt: in(-time.Hour)}, doctor.Problem, "ended at", "credentials"},
		"it ended and nobody looked": {doctor.Subscription{MadeAt: in(-3 * time.Hour), ExpiresAt: in(-time.Hour)}, doctor.Problem, "ended at", "no reconciler"},
		"nobody renews it":           {doctor.Subscription{MadeAt: in(-3 * time.Hour), ExpiresAt: in(time.Minute)}, doctor.Warning, "was not renewed", "no reconciler"},
	} {
		tt.s.Source, tt.s.Resource = "drive", "feed"
		got := doctor.CheckSubscriptions([]doctor.Subscription{tt.s}, nil, now)
		if len(got) != 1 || got[0].Status != tt.want || !strings.Contains(got[0].Message, tt.says) || !strings.Contains(got[0].Advice, tt.advice) || (tt.want != doctor.OK) != (got[0].Advice != "") {
			t.Errorf("%s: %+v", name, got)
		}
	}
	got := doctor.CheckSubscriptions(nil, map[string]string{"b": "it has no public_url", "a": "it has no secret"}, now)
	if len(got) != 2 || got[0].Subject != "a" || got[1].Status != doctor.Problem || !strings.Contains(got[1].Message, "it has no public_url") {
		t.Errorf("%+v", got)
	}
}

func TestAPublicURLIsCalledAsAProviderCallsIt(t *testing.T) {
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodPost {
				t.Errorf("%s", r.Method)
			}
			w.Header().Set("Location", "https://elsewhere.example/")
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, body)
		})
	}
	tests := []struct {
		name    string
		handler http.Handler
		trusted bool
		now     time.Time
		want    []doctor.Status
		says    string
	}{
		{"hookmesh refuses", answer(403, `{"code":"SIGNATURE_MISSING"}`), true, time.Now(), []doctor.Status{doctor.OK, doctor.OK}, "reaches hookmesh"},
		{"a certificate that ends soon", answer(403, `{"code":"SIGNATURE_MISSING"}`), true, time.Date(2084, 1, 25, 0, 0, 0, 0, time.UTC), []doctor.Status{doctor.OK, doctor.Warning}, "reaches hookmesh"},
		{"another path", answer(404, `{"code":"UNKNOWN_SOURCE"}`), true, time.Now(), []doctor.Status{doctor.Problem, doctor.OK}, "no source"},
		{"somebody else", answer(404, `<html>`), true, time.Now(), []doctor.Status{doctor.Problem, doctor.OK}, "not hookmesh"},
		{"a redirect", answer(308, ``), true, time.Now(), []doctor.Status{doctor.Problem, doctor.OK}, "redirects"},
		{"anything is taken", answer(200, `ok`), true, time.Now(), []doctor.Status{doctor.Warning, doctor.OK}, "without a signature"},
		{"hookmesh in trouble", answer(503, `{"code":"VERIFIER_UNAVAILABLE"}`), true, time.Now(), []doctor.Status{doctor.Problem, doctor.OK}, "VERIFIER_UNAVAILABLE"},
		{"a chain that nobody trusts", answer(403, `{"code":"X"}`), false, time.Now(), []doctor.Status{doctor.Problem}, "chain"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewTLSServer(tt.handler)
			defer server.Close()
			roots := x509.NewCertPool()
			if tt.trusted {
				roots.AddCert(server.Certificate())
			}
			got := doctor.CheckURL(t.Context(), "s", server.URL+"/webhooks/s", roots, tt.now)
			var statuses []doctor.Status
			for _, f := range got {
				statuses = append(statuses, f.Status)
			}
			if fmt.Sprint(statuses) != fmt.Sprint(tt.want) || !strings.Contains(got[0].Message, tt.says) {
				t.Errorf("%+v", got)
			}
		})
	}
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	for url, says := range map[string]string{closed.URL: "no connection", "https://nowhere.invalid/x": "", "::": "not a URL"} {
		if got := doctor.CheckURL(t.Context(), "s", url, nil, now); len(got) != 1 || got[0].Status != doctor.Problem || !strings.Contains(got[0].Message, says) {
			t.Errorf("%s: %+v", url, got)
		}
	}
	plain := httptest.NewServer(answer(403, `{"code":"SIGNATURE_MISSING"}`))
	defer plain.Close()
	if got := doctor.CheckURL(t.Context(), "s", plain.URL, nil, now); len(got) != 2 || got[1].Status != doctor.Warning {
		t.Errorf("plain HTTP: %+v", got)
	}
}
