package mesh_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// operator is a person at the command line of a running mesh.
type operator struct {
	*mesh.Mesh
	*testing.T
}

// startNumbered starts a mesh with a source in each mode that waits, and one without any order.
func startNumbered(t *testing.T) operator {
	var sources strings.Builder
	for name, ordering := range map[string]string{"numbers": "contiguous", "feed": "source-contiguous", "plain": "arrival"} {
		fmt.Fprintf(&sources, `  - name: %s
    preset: generic-hmac
    secrets: [{value: %s}]
    content: {inline: content, title: title}
    ordering: {mode: %s, sequence: body.sequence, gap_timeout: 10m}
    rate: {per_second: -1}
`, name, mesh.Secret, ordering)
	}
	return operator{start(t, sources.String()), t}
}

// sends delivers a change and returns its event; empty: the answer was that it is a duplicate.
func (o operator) sends(source string, c change) string {
	o.Helper()
	raw, err := json.Marshal(c)
	if err != nil {
		o.Fatal(err)
	}
	status, body, err := o.SendTo(source, raw, mesh.Sign(raw))
	var a answer
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	switch {
	case err == nil && status == http.StatusAccepted && len(a.Events) == 1:
		return a.Events[0].ID
	case err == nil && status == http.StatusOK && a.Status == "duplicate":
		return ""
	}
	o.Fatalf("%s answers %d %s: %v", source, status, body, err)
	return ""
}

// says runs a command that succeeds, and wants something in what it prints.
func (o operator) says(want string, args ...string) {
	o.Helper()
	if out, errs, code := o.Command(args...); code != 0 || !strings.Contains(out, want) {
		o.Fatalf("hookmesh %s: exit %d, %s%s, want %q", strings.Join(args, " "), code, out, errs, want)
	}
}

// refuses runs a command that fails for a reason that a person can read.
func (o operator) refuses(want string, args ...string) {
	o.Helper()
	if out, errs, code := o.Command(args...); code != 1 || out != "" || !strings.Contains(errs, want) {
		o.Fatalf("hookmesh %s: exit %d, %s%s, want 1 and %q", strings.Join(args, " "), code, out, errs, want)
	}
}

// comes waits until a command prints something.
func (o operator) comes(want string, args ...string) {
	o.Helper()
	o.Until(30*time.Second, "hookmesh "+strings.Join(args, " "), func() error {
		if out, errs, code := o.Command(args...); code != 0 || !strings.Contains(out, want) {
			return fmt.Errorf("exit %d, %s%s, want %q", code, out, errs, want)
		}
		return nil
	})
}

// standing is what `order show` prints of a document.
type standing struct {
	Revision, LastSequence, Gaps string
	Held                         []string
	Deadline                     time.Time
}

func (o operator) shows(source, document string, is func(standing) bool) (s standing) {
	o.Helper()
	o.Until(30*time.Second, "order show "+source+" "+document, func() error {
		out, errs, code := o.Command("order", "show", source, document)
		s = standing{}
		if code != 0 {
			return fmt.Errorf("exit %d, %s", code, errs)
		}
		err := json.Unmarshal([]byte(out), &s)
		if err == nil && !is(s) {
			err = errors.New("not that yet")
		}
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	return s
}

func TestAnOperatorSeesAGapAndEndsItByHand(t *testing.T) {
	o := startNumbered(t)
	o.says("nothing is waited for", "order", "gaps")
	o.refuses("no event of this document was seen", "order", "show", "numbers", "d")
	for _, n := range []int64{1, 3, 6} {
		o.sends("numbers", edit("d", n))
	}
	before := o.shows("numbers", "d", func(s standing) bool { return strings.Join(s.Held, " ") == "3 6" })
	if before.Revision != "1" || before.LastSequence != "1" || time.Until(before.Deadline) > 10*time.Minute {
		t.Fatalf("%+v", before)
	}
	o.says("numbers/d  missing 2, 2 wait until ", "order", "gaps", "--source", "numbers")
	o.says("nothing is waited for", "order", "gaps", "--source", "plain")

	o.refuses("does not wait for 3", "order", "wait", "numbers", "d", "--missing", "3", "--for", "1h")
	o.refuses("more than", "order", "wait", "numbers", "d", "--missing", "2", "--for", "721h")
	o.says("on its way", "order", "wait", "numbers", "d", "--missing", "2", "--for", "1h")
	o.shows("numbers", "d", func(s standing) bool { return time.Until(s.Deadline) > 50*time.Minute && len(s.Held) == 2 })

	o.refuses("does not wait for 4", "order", "skip", "numbers", "d", "--missing", "4")
	o.says("on its way", "order", "skip", "numbers", "d", "--missing", "2")
	o.comes("numbers/d  missing 4-5, 1 wait until ", "order", "gaps")
	o.shows("numbers", "d", func(s standing) bool { return s.LastSequence == "3" && s.Revision == "2" && s.Gaps == "1" })
	o.says("on its way", "order", "skip", "numbers", "d", "--missing", "4")
	o.comes("nothing is waited for", "order", "gaps")
	o.shows("numbers", "d", func(s standing) bool {
		return s.LastSequence == "6" && s.Revision == "3" && s.Gaps == "2" && len(s.Held) == 0
	})
	o.Until(30*time.Second, "the knowledge base has version 6", func() error {
		var d document
		if err := o.GetJSON("/v1/documents/numbers/d", &d); err != nil || d.Document.Version != "6" {
			return fmt.Errorf("%+v: %w", d, err)
		}
		return nil
	})
}

func TestAnOperatorClosesAHoleInTheNumbersOfASource(t *testing.T) {
	o := startNumbered(t)
	o.sends("feed", edit("a", 1))
	o.sends("feed", edit("b", 4))
	o.comes("feed (the whole source)  missing 2-3, 0 wait until ", "order", "gaps")
	o.shows("feed", "b", func(s standing) bool { return s.LastSequence == "4" }) // no document waits for it
	o.refuses("no hole that begins at 3", "order", "skip", "feed", "--missing", "3")
	o.says("on its way", "order", "skip", "feed", "--missing", "2")
	o.comes("nothing is waited for", "order", "gaps")
}

func TestAnOperatorLooksUpAFirstDeliveryAndForgetsIt(t *testing.T) {
	o := startNumbered(t)
	o.refuses("no delivery under this key is remembered", "dedupe", "lookup", "plain", "d-1")
	first := o.sends("plain", edit("d", 1))
	o.comes(first, "dedupe", "lookup", "plain", "d-1")
	out, _, _ := o.Command("dedupe", "lookup", "plain", "d-1")
	var known struct {
		EventID string
		First   struct{ ID, Source, DocumentID, Outcome string }
		Expires time.Time `json:"expiresAt"`
	}
	if err := json.Unmarshal([]byte(out), &known); err != nil || known.EventID != first || known.First.ID != first || known.First.Source != "plain" ||
		known.First.DocumentID != "d" || known.First.Outcome != "OUTCOME_UNIQUE" || time.Until(known.Expires) < 47*time.Hour {
		t.Fatalf("%s: %v", out, err)
	}
	o.refuses("no delivery under this key is remembered", "dedupe", "lookup", "numbers", "d-1") // another source's ids are its own
	if again := o.sends("plain", edit("d", 1)); again != "" {
		t.Fatalf("a repeat was taken as %s", again)
	}
	o.says("forgotten", "dedupe", "forget", "plain", "d-1")
	o.says("it was not known", "dedupe", "forget", "plain", "d-1")
	o.refuses("no delivery under this key is remembered", "dedupe", "lookup", "plain", "d-1")
	second := o.sends("plain", edit("d", 1))
	if second == "" || second == first {
		t.Fatalf("after it was forgotten it came as %q", second)
	}
	o.comes(second, "dedupe", "lookup", "plain", "d-1")
	o.shows("plain", "d", func(s standing) bool { return s.Revision == "2" })
}
