package preset

import (
	"errors"
	"fmt"
	"mime"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/hookmesh/hookmesh/services/internal/expr"
	"github.com/hookmesh/hookmesh/services/internal/jsonvalue"
)

// Bounds on what a delivery may say.
const (
	// MaxDocumentID is the longest document id, in bytes.
	MaxDocumentID = 2048
	// MaxKey is the longest idempotency key, in bytes; longer ones are refused rather than cut.
	MaxKey = 4096
	// MaxItems is the most events that one delivery may hold.
	MaxItems = 10_000
)

// Event is one change that a delivery tells of.
type Event struct {
	DocumentID     string
	Action         string
	IdempotencyKey string
	Hash           [32]byte
	Ordering       string
	Sequence       *int64
	Version        string
	OccurredAt     time.Time
	Inline         bool
	Text           string
	Title          string
	URL            string
	Format         string
}

// Trouble is something that cannot be understood.
type Trouble struct {
	Code   string
	Reason string
}

// Meaning is what a delivery says.
type Meaning struct {
	Events []Event
	// Ignored is why it concerns no document; empty if it does.
	Ignored string
	// Troubles are what could not be understood; the delivery is quarantined if there are any.
	Troubles []Trouble
	// Answer is a handshake's answer.
	Answer *Answer
}

// Answer is what a provider expects to hear.
type Answer struct {
	Status      int
	ContentType string
	Body        []byte
}

// Decode reads the body as the preset says.
func (c *Compiled) Decode(req *Request, in *expr.Input) *Trouble {
	for _, d := range c.decoders {
		if d.when.Defined() && !d.when.Bool(in) {
			continue
		}
		switch d.As {
		case "none":
			return nil
		case "form", "form-json":
			values, err := url.ParseQuery(string(req.Body))
			if err != nil {
				return &Trouble{"PAYLOAD_NOT_FORM", "the body is no URL-encoded form"}
			}
			if d.As == "form-json" {
				return decodeJSON([]byte(values.Get(d.Field)), in)
			}
			object := map[string]any{}
			for k := range values {
				object[k] = values.Get(k)
			}
			in.Body = object
			return nil
		}
		return decodeJSON(req.Body, in)
	}
	return decodeJSON(req.Body, in)
}

func decodeJSON(raw []byte, in *expr.Input) *Trouble {
	v, err := jsonvalue.Decode(raw)
	switch {
	case err == nil:
		in.Body = v
		return nil
	case errors.Is(err, jsonvalue.ErrDuplicateKey):
		return &Trouble{"PAYLOAD_DUPLICATE_KEY", "the payload is ambiguous: " + err.Error()}
	case errors.Is(err, jsonvalue.ErrInvalidUTF8):
		return &Trouble{"PAYLOAD_INVALID_UTF8", "the payload cannot be read: " + err.Error()}
	case errors.Is(err, jsonvalue.ErrTooDeep):
		return &Trouble{"PAYLOAD_TOO_DEEP", "the payload cannot be read: " + err.Error()}
	}
	return &Trouble{"PAYLOAD_NOT_JSON", "the payload cannot be read: " + err.Error()}
}

// Handshake answers a provider's question, if the request is one. signed says whether its signature was right.
func (c *Compiled) Handshake(in *expr.Input, signed bool) *Answer {
	for _, h := range c.handshakes {
		if (h.Signed == nil || *h.Signed) && !signed || !h.when.Bool(in) {
			continue
		}
		body, _ := h.body.String(in)
		return &Answer{Status: h.Status, ContentType: h.ContentType, Body: []byte(body)}
	}
	return nil
}

// Understand says what an authentic, decoded delivery means.
func (c *Compiled) Understand(in *expr.Input) Meaning {
	for i := range c.rules {
		r := &c.rules[i]
		if r.when.Defined() && !r.when.Bool(in) {
			continue
		}
		switch {
		case r.Quarantine != "":
			return Meaning{Troubles: []Trouble{{"PAYLOAD_INCOMPLETE", r.Quarantine}}}
		case r.Ignore != "":
			return Meaning{Ignored: r.Ignore}
		}
		return r.understand(in)
	}
	return Meaning{Ignored: "the preset knows no event like this"}
}

func (r *rule) understand(in *expr.Input) Meaning {
	if !r.split.Defined() {
		return r.items(in, []any{nil})
	}
	items, ok := r.split.List(in)
	if !ok {
		return Meaning{Troubles: []Trouble{{"PAYLOAD_INCOMPLETE", fmt.Sprintf("the payload does not hold the list of items: %s", r.Split)}}}
	}
	if len(items) > MaxItems {
		return Meaning{Troubles: []Trouble{{"PAYLOAD_TOO_MANY_ITEMS", fmt.Sprintf("the payload holds %d items, at most %d are taken", len(items), MaxItems)}}}
	}
	return r.items(in, items)
}

// items understands each item on its own: a bad one does not take the others with it.
func (r *rule) items(in *expr.Input, items []any) Meaning {
	var m Meaning
	hash := jsonvalue.Hash(in.Body, r.Volatile)
	ignored := 0
	for i, item := range items {
		scoped := *in
		scoped.Item = item
		ev, trouble, skip := r.event(&scoped)
		switch {
		case trouble != nil:
			m.Troubles = append(m.Troubles, *trouble)
		case skip:
			ignored++
		default:
			ev.Hash = hash
			if len(items) > 1 {
				ev.Hash = jsonvalue.Hash(fmt.Sprintf("%x/%d", hash, i), nil)
			}
			m.Events = append(m.Events, ev)
		}
	}
	if len(m.Events) == 0 && len(m.Troubles) == 0 {
		m.Ignored = "the event changes no document"
	}
	return m
}

// event understands one item. skip: it is none of those that change a document.
func (r *rule) event(in *expr.Input) (ev Event, trouble *Trouble, skip bool) {
	action, ok := r.action.String(in)
	if !ok {
		return ev, nil, true
	}
	switch action {
	case "created", "updated", "deleted", "subtree-deleted":
	default:
		return ev, &Trouble{"ACTION_UNKNOWN", fmt.Sprintf("the action is %.40q, not created, updated, deleted or subtree-deleted", action)}, false
	}
	id, ok := r.documentID.String(in)
	if !ok {
		return ev, &Trouble{"DOCUMENT_ID_MISSING", fmt.Sprintf("none of these is in the payload: %s", strings.Join(r.DocumentID, ", "))}, false
	}
	if len(id) > MaxDocumentID || !utf8.ValidString(id) || strings.ContainsRune(id, 0) {
		return ev, &Trouble{"DOCUMENT_ID_INVALID", fmt.Sprintf("the document's id has %d bytes; at most %d bytes of UTF-8 without NUL are taken", len(id), MaxDocumentID)}, false
	}
	ev = Event{DocumentID: id, Action: action, Ordering: r.Ordering, Format: r.Format}
	ev.IdempotencyKey, _ = r.key.String(in)
	if len(ev.IdempotencyKey) > MaxKey {
		return ev, &Trouble{"EVENT_ID_INVALID", fmt.Sprintf("the event's id has %d bytes, at most %d are taken", len(ev.IdempotencyKey), MaxKey)}, false
	}
	if n, ok := r.sequence.Int(in); ok && r.Ordering != "arrival" {
		ev.Sequence = &n
	}
	ev.Version, _ = r.version.String(in)
	ev.OccurredAt, _ = r.occurredAt.Time(in)
	ev.Title, _ = r.title.String(in)
	ev.URL, _ = r.url.String(in)
	ev.Text, ev.Inline = r.inline.String(in)
	return ev, nil, false
}

// ContentType is the media type of a request, in lower case.
func (r *Request) ContentType() string {
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return media
}
