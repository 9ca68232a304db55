package gateway_test

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hookmesh/hookmesh/services/gateway"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// The clock goes back by an hour while Kafka takes what was spooled.
func TestAClockThatIsPutBackDoesNotHoldTheSpoolBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back atomic.Int64
		r := start(t, func(d *gateway.Deps, c *gateway.Config) {
			d.Now = func() time.Time { return time.Now().Add(-time.Duration(back.Load())) }
			c.Durability = gateway.DurabilitySpool
		})
		defer r.stop()
		r.kafka.fail = func([]stage.Output) error {
			back.Store(int64(time.Hour))
			return nil
		}
		for i := range 2 {
			if w := r.post("/webhooks/docs", "page"); w.Code != http.StatusAccepted {
				t.Fatal(w.Code, w.Body)
			}
			time.Sleep(time.Second)
			if n := len(r.kafka.of(kafka.TopicAccepted)); n != i+1 {
				t.Errorf("Kafka has %d of %d events", n, i+1)
			}
		}
	})
}
