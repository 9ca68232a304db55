package gateway

import (
	"encoding/json"
	"reflect"
	"testing"

	"pgregory.net/rapid"
)

// replyJSON is a reply as a client reads it.
type replyJSON struct {
	Status string
	Reason string
	Events []struct{ ID, DocumentID, DuplicateOf string }

	Quarantined []struct{ ID, Code string }
}

func TestAReplySaysWhatItHoldsWhateverTheSourceWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String()
		r := reply{status: text.Draw(t, "status"), reason: text.Draw(t, "reason")}
		want := replyJSON{Status: r.status, Reason: r.reason}
		for range rapid.IntRange(0, 3).Draw(t, "events") {
			e := replyEvent{text.Draw(t, "id"), text.Draw(t, "document"), text.Draw(t, "duplicate of")}
			r.events = append(r.events, e)
			want.Events = append(want.Events, struct{ ID, DocumentID, DuplicateOf string }{e.id, e.documentID, e.duplicateOf})
		}
		for range rapid.IntRange(0, 3).Draw(t, "quarantined") {
			q := replyQuarantined{text.Draw(t, "id"), text.Draw(t, "code")}
			r.quarantined = append(r.quarantined, q)
			want.Quarantined = append(want.Quarantined, struct{ ID, Code string }{q.id, q.code})
		}
		var got replyJSON
		if err := json.Unmarshal(r.json(), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: %+v, %v; want %+v", r.json(), got, err, want)
		}
	})
}
