// Package connectortest holds the suite that every connector passes, and what simulated provider APIs are made of.
package connectortest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// Secret is the credential that tests give to connectors. It must appear in no error.
const Secret = "hush-hush-token"

// Fault is what the API answers instead of working.
type Fault struct {
	Status int
	Header map[string]string
	// Body; empty: a short JSON object.
	Body string
	// Times is how many requests get it; 0: all until the next fault is set.
	Times int
	// After is how many requests are answered as usual before.
	After int
}

// API is a simulated provider: an HTTP server with a clock of its own, faults, and a check of credentials.
type API struct {
	*httptest.Server

	mu       sync.Mutex
	clock    time.Time
	fault    *Fault
	requests int
	seen     []string
}

// NewAPI serves handler until the test ends. authorized says whether a request bears the credential; nil: any does.
func NewAPI(t testing.TB, authorized func(*http.Request) bool, handler http.Handler) *API {
	a := &API{clock: time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)}
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", a.Now().Format(http.TimeFormat))
		if f := a.next(r); f != nil {
			for k, v := range f.Header {
				w.Header().Set(k, v)
			}
			w.WriteHeader(f.Status)
			body := f.Body
			if body == "" {
				body = `{"message":"` + http.StatusText(f.Status) + `"}`
			}
			_, _ = w.Write([]byte(body))
			return
		}
		if authorized != nil && !authorized(r) {
			Answer(w, http.StatusUnauthorized, map[string]string{"message": "Bad credentials"})
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

// Bearer is the check of an Authorization header with a token.
func Bearer(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer "+Secret }

// next counts the request and returns the fault that is its answer, if it is.
func (a *API) next(r *http.Request) *Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	a.seen = append(a.seen, r.Method+" "+r.URL.RequestURI())
	f := a.fault
	if f == nil {
		return nil
	}
	if f.After > 0 {
		f.After--
		return nil
	}
	if f.Times > 0 {
		if f.Times--; f.Times == 0 {
			a.fault = nil
		}
	}
	return f
}

// Now is the API's clock.
func (a *API) Now() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.clock
}

// Tick moves the clock by a second and returns it: no two changes have one time.
func (a *API) Tick() time.Time {
	a.Advance(time.Second)
	return a.Now()
}

// Advance moves the clock.
func (a *API) Advance(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.clock = a.clock.Add(d)
}

// Break makes the API answer with a fault from now on.
func (a *API) Break(f Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = &f
}

// Mend takes the fault away.
func (a *API) Mend() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fault = nil
}

// Requests is how many came, of those that contain a text.
func (a *API) Requests(containing string) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.seen {
		if strings.Contains(r, containing) {
			n++
		}
	}
	return n
}

// Answer writes JSON.
func Answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// NotFound is the answer for what is not there.
func NotFound(w http.ResponseWriter) {
	Answer(w, http.StatusNotFound, map[string]string{"message": "Not Found"})
}
