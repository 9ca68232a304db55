package wikisim

import (
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func clock() time.Time { return time.Unix(1_700_000_000, 0) }

func TestSignaturesAreThoseOfTheSpecification(t *testing.T) {
	// The example of the Standard Webhooks libraries.
	got, err := Sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if err != nil || got != "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=" {
		t.Errorf("%s, %v", got, err)
	}
}

func TestTheSameSeedMakesTheSameWiki(t *testing.T) {
	run := func(seed uint64) (changes []Change) {
		w := New(seed, clock)
		for range 200 {
			changes = append(changes, w.Step())
		}
		return changes
	}
	if !reflect.DeepEqual(run(7), run(7)) || reflect.DeepEqual(run(7), run(8)) {
		t.Error("the seed does not decide")
	}
}

func TestCompareFindsEveryKindOfDifference(t *testing.T) {
	wiki := map[string]Page{"a": {Version: 2, Title: "A"}, "b": {Version: 1, deleted: true}, "c": {Version: 1}}
	known := map[string]KnownPage{"a": {Version: "1", Title: "A", Searchable: true}, "b": {Version: "1", Searchable: true}, "x": {Searchable: true}}
	if got := Compare(wiki, known); len(got) != 4 {
		t.Errorf("%v", got)
	}
	if got := Compare(map[string]Page{"a": {Version: 2, Title: "A"}}, map[string]KnownPage{"a": {Version: "2", Title: "A", Searchable: true}, "b": {}}); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestDeliveriesAreCountedForWhatTheyBecame(t *testing.T) {
	first := true
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case first:
			first = false
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.Header.Get("webhook-signature") == "":
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusAccepted)
		}
	}))
	defer srv.Close()
	w := New(1, clock)
	d := NewDeliverer(1, srv.URL, "whsec_AAAA", Chaos{})
	d.Deliver(t.Context(), w.Step())
	d.Wait()
	d.Chaos.Drop = 1
	d.Deliver(t.Context(), w.Step())
	d.forge(t.Context(), w.Step(), plan{id: "m", forgery: 0})
	d.Wait()
	if s := &d.Stats; s.Accepted.Load() != 1 || s.Dropped.Load() != 1 || s.ForgedRefused.Load() != 1 || s.Lost.Load() != 0 {
		t.Errorf("%+v", s)
	}
}
