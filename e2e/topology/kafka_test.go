//go:build kafka

package topology_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
	"github.com/hookmesh/hookmesh/e2e/topology"
)

func TestTheProgramMakesAWebhookSearchableOverApacheKafka(t *testing.T) {
	kafka, err := topology.StartKafka(t.Context(), t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(kafka.Kill)
	m := mesh.Start(t, fmt.Sprintf("kafka: {brokers: [%q], partitions: 4, replication_factor: 1}\n", kafka.Brokers[0]))
	status, raw, err := m.Send(map[string]any{"document_id": "d", "event_id": "e", "action": "created", "sequence": 1, "title": "VPN", "content": "The tunnel stops with error E4711."})
	var ans struct{ Events []struct{ ID string } }
	if err != nil || status != http.StatusAccepted || json.Unmarshal(raw, &ans) != nil || len(ans.Events) != 1 {
		t.Fatalf("%d %s %v", status, raw, err)
	}
	m.Until(60*time.Second, "the page is searchable", func() error {
		var found struct{ Results []struct{ Text string } }
		if err := m.GetJSON("/v1/search?query=E4711", &found); err != nil {
			return err
		}
		if len(found.Results) == 0 || !strings.Contains(found.Results[0].Text, "E4711") {
			return fmt.Errorf("found %+v", found)
		}
		return nil
	})
}
