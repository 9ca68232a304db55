package reconciler_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
	"github.com/hookmesh/hookmesh/services/reconciler"
	"github.com/hookmesh/hookmesh/services/reconciler/alert"
	"github.com/hookmesh/hookmesh/services/reconciler/sqlitestore"
)

// broken is an embedder whose model is left alone.
type broken struct {
	embedderv1.EmbedderServiceClient
}

func (broken) GetBacklog(context.Context, *embedderv1.GetBacklogRequest, ...grpc.CallOption) (*embedderv1.GetBacklogResponse, error) {
	return &embedderv1.GetBacklogResponse{Breakers: []*embedderv1.BreakerStatus{{Endpoint: "embedding model", Model: true, Cause: "HTTP 401"}}}, nil
}

// People are told once of all that is wrong, and once more if the first message did not arrive.
func TestPeopleAreToldOncePerIncident(t *testing.T) {
	store, err := sqlitestore.Open(context.Background(), filepath.Join(t.TempDir(), "r.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	var told []alert.Message
	fail := true
	now := time.Now()
	s, err := reconciler.New(reconciler.Deps{
		Store: store, Producer: &kept{}, Telemetry: telemetry.Nop(), Embedder: broken{}, Now: func() time.Time { return now },
		Notify: func(_ context.Context, target alert.Target, m alert.Message) error {
			if fail || target.Name != "ops" {
				return errors.New("no answer")
			}
			told = append(told, m)
			return nil
		},
	}, reconciler.Config{Alerts: []alert.Target{{Name: "ops"}}, AlertPolicy: alert.Policy{Repeat: time.Hour, Settle: time.Minute, PerHour: 10}}, sources(t, "http://127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 22 {
		feed(t, store, s.DeadLetters(), encode(t, letter(fmt.Sprint("l", i), "wiki", "d", 0)))
	}
	feed(t, store, s.Debts(), encode(t, &eventv1.Debt{Source: "deaf", Reason: "SHED", IncurredAt: timestamppb.New(now.Add(-time.Hour))}))
	if err := s.TellAll(t.Context()); err == nil {
		t.Error("a message that did not arrive counts as told")
	}
	fail = false
	for range 3 {
		now = now.Add(time.Second)
		if err := s.TellAll(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	kinds := map[string]int64{}
	for _, m := range told {
		for _, in := range m.Opened {
			kinds[in.Kind+" "+in.Source] = in.Count
		}
	}
	if len(told) != 1 || len(kinds) != 3 || kinds["dead-letters wiki"] != 22 {
		t.Errorf("%d messages, %v", len(told), kinds)
	}
	if _, ok := kinds["breaker embedding model"]; !ok {
		t.Errorf("nobody was told of the breaker: %v", kinds)
	}
}
