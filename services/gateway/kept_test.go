package gateway_test

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/spool"
)

// brokenDisk has no room for a file's bytes.
type brokenDisk struct{ spool.Disk }

// brokenFile takes nothing.
type brokenFile struct{ spool.File }

func (brokenDisk) List() ([]string, error)                { return nil, nil }
func (brokenDisk) Create(string) (spool.File, error)      { return brokenFile{}, nil }
func (brokenDisk) Open(string) (spool.File, int64, error) { return brokenFile{}, 0, nil }
func (brokenDisk) Remove(string) error                    { return nil }
func (brokenDisk) SyncDir() error                         { return nil }
func (brokenFile) ReadAt([]byte, int64) (int, error)      { return 0, nil }
func (brokenFile) WriteAt([]byte, int64) (int, error) {
	return 0, errors.New("no space left on device")
}
func (brokenFile) Sync() error          { return nil }
func (brokenFile) Truncate(int64) error { return nil }
func (brokenFile) Close() error         { return nil }

func TestASenderHears202OnlyIfSomethingTookItsEvent(t *testing.T) {
	for _, durability := range []gateway.Durability{gateway.DurabilityBroker, gateway.DurabilitySpool} {
		t.Run(string(durability), func(t *testing.T) {
			r := start(t, func(d *gateway.Deps, c *gateway.Config) { d.Disk, c.Durability = brokenDisk{}, durability })
			if w := r.post("/webhooks/docs", "one"); w.Code != http.StatusAccepted || len(r.kafka.of(kafka.TopicAccepted)) != 1 {
				t.Errorf("Kafka takes it, the disk does not: %d %s", w.Code, w.Body)
			}
			r.kafka.setDown(true)
			if w := r.post("/webhooks/docs", "two"); w.Code != http.StatusServiceUnavailable || parse(t, w.Body.Bytes()).Code != "STORAGE_UNAVAILABLE" {
				t.Errorf("nothing takes it: %d %s", w.Code, w.Body)
			}
			r.kafka.setDown(false)
		})
	}
}

func TestDebtsThatNothingTakesAreKeptUntilSomethingDoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(d *gateway.Deps, c *gateway.Config) {
			d.Disk, c.Durability = brokenDisk{}, gateway.DurabilityBroker
			c.Sources = []gateway.Source{{Name: "docs", PerSecond: 0.001, Burst: 1}}
		})
		defer r.stop()
		if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusAccepted {
			t.Fatal(w.Code, w.Body)
		}
		r.kafka.setDown(true)
		if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusTooManyRequests {
			t.Fatal(w.Code, w.Body)
		}
		time.Sleep(30 * time.Second) // neither Kafka nor the spool takes the debt
		r.kafka.setDown(false)
		time.Sleep(10 * time.Second)
		owed := r.kafka.of(kafka.TopicDebts)
		if len(owed) != 1 || decode(t, &eventv1.Debt{}, owed[0]).GetReason() != "SHED" {
			t.Errorf("owed are %v", owed)
		}
	})
}

func TestDeliveriesThatAreVerifiedTogetherGetEachItsOwnVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := start(t, func(_ *gateway.Deps, c *gateway.Config) { c.Lanes = 1 })
		defer r.stop()
		r.verifier.set(func(req *verifierv1.VerifyRequest) (*verifierv1.VerifyResponse, error) {
			if string(req.GetBody()) == "forged" {
				return &verifierv1.VerifyResponse{Verdict: verifierv1.Verdict_VERDICT_REJECTED, Code: "SIGNATURE_MISMATCH"}, nil
			}
			return acceptAll(req)
		})
		gate := make(chan struct{})
		r.verifier.hold(gate)
		var wg sync.WaitGroup
		// The first is verified alone. The others come meanwhile, and are verified together.
		for _, body := range []string{"first", "a", "forged", "b"} {
			wg.Go(func() {
				w := r.post("/webhooks/docs", body)
				got := fmt.Sprint(w.Code)
				for _, ev := range parse(t, w.Body.Bytes()).Events {
					got += " " + ev.DocumentID
				}
				if want := map[string]string{"first": "202 first", "a": "202 a", "b": "202 b", "forged": "403"}[body]; got != want {
					t.Errorf("%s is answered with %s, want %s", body, got, want)
				}
			})
			synctest.Wait()
		}
		close(gate)
		wg.Wait()
	})
}
