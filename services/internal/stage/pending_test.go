package stage_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

func TestAnOutboxComesBackAsItWasWritten(t *testing.T) {
	bytes := func(rt *rapid.T, what string) []byte {
		if rapid.Bool().Draw(rt, what+" is nil") {
			return nil
		}
		return rapid.SliceOf(rapid.Byte()).Draw(rt, what)
	}
	rapid.Check(t, func(rt *rapid.T) {
		var all []stage.Pending
		for range rapid.IntRange(0, 5).Draw(rt, "outputs") {
			p := stage.Pending{Seq: rapid.Int64Min(0).Draw(rt, "seq"), Output: stage.Output{Topic: rapid.String().Draw(rt, "topic"), Key: bytes(rt, "key"), Value: bytes(rt, "value")}}
			for range rapid.IntRange(0, 3).Draw(rt, "headers") {
				p.Output.Headers = append(p.Output.Headers, stage.Header{Key: rapid.String().Draw(rt, "header"), Value: bytes(rt, "header value")})
			}
			all = append(all, p)
		}
		got, err := stage.DecodePending(stage.EncodePending(all))
		if d := cmp.Diff(all, got, cmpopts.IgnoreFields(stage.Output{}, "Context")); err != nil || d != "" {
			rt.Fatalf("%v (-want +got):\n%s", err, d)
		}
	})
}

func FuzzDecodePending(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 1, 2, 't', 0, 0, 200})
	f.Add(stage.EncodePending([]stage.Pending{{Seq: 3, Output: stage.Output{Topic: "t", Key: []byte("k"), Headers: []stage.Header{{Key: "h"}}}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := stage.DecodePending(b)
		if err != nil {
			return
		}
		again, err := stage.DecodePending(stage.EncodePending(all))
		if d := cmp.Diff(all, again, cmpopts.IgnoreFields(stage.Output{}, "Context")); err != nil || d != "" {
			t.Errorf("%v: %s", err, d)
		}
	})
}
