package reconciler_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	reconcilerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/reconciler/v1"
)

// What was sent away from a source that has no list, and no document that could be fetched, is seen until somebody says that it is settled.
func TestADebtThatNothingCanPayStaysOpenUntilItIsWrittenOff(t *testing.T) {
	s, store := open(t, filepath.Join(t.TempDir(), "r.db"), "http://127.0.0.1:1", &kept{})
	defer func() { _ = store.Close() }()
	owed := func(source, document string) []byte {
		return encode(t, &eventv1.Debt{Source: source, DocumentId: document, Reason: "SHED", IncurredAt: timestamppb.New(time.Now().Add(-time.Hour))})
	}
	feed(t, store, s.Debts(), owed("deaf", ""), owed("deaf", "inline"), owed("list", "page"), owed("list", ""), owed("wiki", "page"))
	debts := func(req *reconcilerv1.ListDebtsRequest) (lines []string, total int64) {
		t.Helper()
		res, err := s.ListDebts(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range res.GetDebts() {
			lines = append(lines, fmt.Sprintf("%s/%s %s", d.GetDebt().GetSource(), d.GetDebt().GetDocumentId(), strings.TrimPrefix(d.GetWay().String(), "DEBT_WAY_")))
		}
		return lines, res.GetTotal()
	}
	want := []string{"deaf/ NONE", "deaf/inline NONE", "list/page POLL", "list/ POLL", "wiki/page FETCH"}
	if got, total := debts(&reconcilerv1.ListDebtsRequest{}); !slices.Equal(got, want) || total != 5 {
		t.Errorf("%q, %d in total", got, total)
	}
	if got, total := debts(&reconcilerv1.ListDebtsRequest{PageSize: 3}); !slices.Equal(got, want[:3]) || total != 5 {
		t.Errorf("%q, %d in total", got, total)
	}
	if got, total := debts(&reconcilerv1.ListDebtsRequest{Source: "deaf", PageSize: 1}); !slices.Equal(got, want[:1]) || total != 2 {
		t.Errorf("%q, %d in total", got, total)
	}
	told := func() string {
		t.Helper()
		holding, err := s.Conditions(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range holding {
			if c.Kind == "debts" && c.Source == "deaf" {
				return c.Text
			}
		}
		return ""
	}
	if text := told(); !strings.Contains(text, "hookmesh debts list --source deaf") {
		t.Errorf("people are told %q", text)
	}
	for _, req := range []*reconcilerv1.WriteOffDebtsRequest{{Source: "deaf", Reason: "x"}, {Source: "deaf", Reason: "x", All: true, DocumentIds: []string{"inline"}}} {
		if _, err := s.WriteOffDebts(t.Context(), req); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", req, err)
		}
	}
	for _, req := range []*reconcilerv1.WriteOffDebtsRequest{{Source: "deaf", Reason: "sent again", DocumentIds: []string{"inline"}}, {Source: "deaf", Reason: "sent again", All: true}} {
		if res, err := s.WriteOffDebts(t.Context(), req); err != nil || res.GetWrittenOff() != 1 {
			t.Errorf("%v: %v, %v", req, res, err)
		}
	}
	if got, _ := debts(&reconcilerv1.ListDebtsRequest{}); !slices.Equal(got, want[2:]) {
		t.Errorf("after the write-off %q are open", got)
	}
	if text := told(); text != "" {
		t.Errorf("people are still told %q", text)
	}
	list, err := s.ListSources(t.Context(), &reconcilerv1.ListSourcesRequest{})
	if deaf := list.GetSources()[2]; err != nil || deaf.GetOpenDebts() != 0 || deaf.GetPaidDebts() != 0 || deaf.GetWrittenOffDebts() != 2 {
		t.Errorf("%v, %v", deaf, err)
	}
}
