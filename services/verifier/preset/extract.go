package preset

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
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
	// MaxVersion is the longest version, in bytes; a longer one counts as not given.
	MaxVersion = 1024
	// MaxItems is the most events that one delivery may hold.
	MaxItems = 10_000
)

// RequestKey begins the idempotency key of an event whose provider gives it no id, but whose request has a signed time: the key
// is then the signed request's. A replay has the same key; the same content, signed anew, has another one.
const RequestKey = "request:"

// Event is one change that a delivery tells of.
type Event struct {
	DocumentID     string
	Containers     []string
	Action         string
	IdempotencyKey string
	// Hash is over the canonical content without its volatile fields. It is not set if the provider's own id is enough.
	Hash       [32]byte
	Hashed     bool
	Ordering   string
	Sequence   int64
	Sequenced  bool
	Version    string
	OccurredAt time.Time
	Inline     bool
	Text       string
	Title      string
	URL        string
	Format     string
	// Payload is the item that the event was made of, redacted; nil: the whole body.
	Payload []byte
}

// Debt is something that the delivery says is to be fetched, without telling what.
type Debt struct {
	// Resync: everything, not just what changed.
	Resync bool
	// DocumentID is the document; empty: the whole source.
	DocumentID string
}

// Meaning is what a delivery says.
type Meaning struct {
	Events []Event
	Debts  []Debt
	// Ignored is why it concerns no document; empty if it does.
	Ignored string
	// Troubles are what could not be understood; the delivery is quarantined if there are any.
	Troubles []Trouble
}

// Understand says what an authentic, decoded delivery means. The meaning is appended to m, whose memory is used.
func (c *Compiled) Understand(r *Request, proof Proof, m *Meaning) {
	for i := range c.rules {
		u := &c.rules[i]
		if u.when.Defined() && !u.when.Bool(&r.in) {
			continue
		}
		switch {
		case u.Quarantine != "":
			m.Troubles = append(m.Troubles, Trouble{Code: "PAYLOAD_INCOMPLETE", Reason: u.Quarantine})
		case u.Ignore != "":
			m.Ignored = u.Ignore
		default:
			u.understand(r, proof, m)
		}
		return
	}
	m.Ignored = "the preset knows no event like this"
}

func (u *rule) understand(r *Request, proof Proof, m *Meaning) {
	if !u.split.Defined() {
		u.one(r, proof, m, -1)
		u.conclude(m)
		return
	}
	items, ok := u.split.List(&r.in)
	if !ok {
		m.Troubles = append(m.Troubles, Trouble{Code: "PAYLOAD_INCOMPLETE", Reason: fmt.Sprintf("the payload does not hold the list of items: %s", u.Split)})
		return
	}
	defer func() { r.in.Item, r.lists = nil, nil }()
	number := 0
	for _, item := range items {
		r.in.Item = item
		r.lists = append(r.lists[:0], within{items, item})
		inner := []any{item}
		if u.nested.Defined() {
			if inner, ok = u.nested.List(&r.in); !ok {
				m.Troubles = append(m.Troubles, Trouble{Code: "PAYLOAD_INCOMPLETE", Reason: fmt.Sprintf("an item does not hold the list of items: %s", u.Nested), Payload: r.payload(), Delivery: r.alone(m)})
				continue
			}
		}
		for _, one := range inner {
			if number++; number > MaxItems {
				m.Troubles = append(m.Troubles, Trouble{Code: "PAYLOAD_TOO_MANY_ITEMS", Reason: fmt.Sprintf("the payload holds more than %d items; those beyond were not taken", MaxItems)})
				u.conclude(m)
				return
			}
			r.in.Item = one
			if u.nested.Defined() {
				r.lists = append(r.lists[:1], within{inner, one})
			}
			u.one(r, proof, m, number)
		}
	}
	u.conclude(m)
}

func (u *rule) conclude(m *Meaning) {
	if len(m.Events) == 0 && len(m.Troubles) == 0 && len(m.Debts) == 0 {
		m.Ignored = "the event changes no document"
	}
}

// one understands one item, or the whole delivery if number is -1. A bad item does not take the others with it.
func (u *rule) one(r *Request, proof Proof, m *Meaning, number int) {
	in := &r.in
	action, ok := u.action.String(in)
	if !ok {
		return
	}
	id := &u.documentID
	switch action {
	case "created", "updated", "deleted", "subtree-deleted":
	case "upsert":
		action = "updated"
	case "delete":
		action = "deleted"
	case "delete-subtree":
		action = "subtree-deleted"
	case "upsert-parent":
		action = "updated"
		if u.parent.Defined() {
			id = &u.parent
		}
	case "pull-changes", "resync":
		m.debt(Debt{Resync: action == "resync"})
		return
	case "ignore":
		return
	default:
		m.Troubles = append(m.Troubles, Trouble{Code: "ACTION_UNKNOWN", Reason: fmt.Sprintf("the action is %.40q, which docs/presets.md does not name", action), Payload: r.item(number), Delivery: r.alone(m)})
		return
	}
	ev := Event{Action: action, Ordering: u.Ordering, Format: u.Format}
	if ev.DocumentID, ok = id.String(in); !ok {
		m.Troubles = append(m.Troubles, Trouble{Code: "DOCUMENT_ID_MISSING", Reason: fmt.Sprintf("none of these is in the payload: %s", strings.Join(u.ids(id), ", ")), Payload: r.item(number), Delivery: r.alone(m)})
		return
	}
	if bad := len(ev.DocumentID) > MaxDocumentID || !utf8.ValidString(ev.DocumentID) || strings.ContainsRune(ev.DocumentID, 0); bad {
		m.Troubles = append(m.Troubles, Trouble{Code: "DOCUMENT_ID_INVALID", Reason: fmt.Sprintf("the document's id has %d bytes; at most %d bytes of UTF-8 without NUL are taken", len(ev.DocumentID), MaxDocumentID), Payload: r.item(number), Delivery: r.alone(m)})
		return
	}
	if !u.identify(r, proof, &ev, number) {
		m.Troubles = append(m.Troubles, Trouble{Code: "EVENT_ID_INVALID", Reason: fmt.Sprintf("the event's id has %d bytes, at most %d are taken", len(ev.IdempotencyKey), MaxKey), Payload: r.item(number), Delivery: r.alone(m)})
		return
	}
	u.describe(in, &ev)
	ev.Payload = r.item(number)
	m.Events = append(m.Events, ev)
}

func (u *rule) ids(of *expr.Expr) []string {
	if of == &u.parent {
		return u.Parent
	}
	return u.DocumentID
}

func (u *rule) describe(in *expr.Input, ev *Event) {
	if u.Ordering != "arrival" {
		ev.Sequence, ev.Sequenced = u.sequence.Int(in)
	}
	// What cannot be a version or a time is left out: the rest of the event is none the worse for it.
	if v, _ := u.version.String(in); len(v) <= MaxVersion && !strings.ContainsRune(v, 0) {
		ev.Version = v
	}
	if at, ok := u.occurredAt.Time(in); ok && at.UnixMicro() > 0 { // many write 0 for a time that they do not know
		ev.OccurredAt = at
	}
	ev.Title, _ = u.title.String(in)
	ev.URL, _ = u.url.String(in)
	ev.Text, ev.Inline = u.inline.String(in)
	for _, c := range u.containers {
		if s, ok := c.String(in); ok && len(s) <= MaxDocumentID {
			ev.Containers = append(ev.Containers, s)
		}
	}
}

// identify finds what an event is known again by: the provider's id; else the signed request, if it has a signed time (then the
// same request is a replay, while the same content that comes back later is a new one); and the content, which dedupe only
// takes for a repeat if nothing happened to the document since. false: the id is too long.
func (u *rule) identify(r *Request, proof Proof, ev *Event, number int) bool {
	var ok bool
	if ev.IdempotencyKey, ok = u.key.String(&r.in); ok {
		return len(ev.IdempotencyKey) <= MaxKey
	}
	if !proof.SentAt.IsZero() && len(r.signed) > 0 {
		sum := sha256.Sum256(r.signed)
		ev.IdempotencyKey = RequestKey + hex.EncodeToString(sum[:16])
		if number >= 0 {
			ev.IdempotencyKey += "/" + strconv.Itoa(number)
		}
	}
	ev.Hashed = true
	of := r.in.Body
	if number >= 0 {
		of = r.in.Item
	}
	switch v := of.(type) {
	case *jsonvalue.Doc:
		ev.Hash = v.Root().Hash(u.volatile)
	case jsonvalue.Value:
		ev.Hash = v.Hash(u.volatile)
	case nil:
		ev.Hash = sha256.Sum256(r.Body)
	default:
		ev.Hash = jsonvalue.HashTree(expr.Native(v), u.volatile)
	}
	return true
}

func (m *Meaning) debt(d Debt) {
	for i := range m.Debts {
		if m.Debts[i].DocumentID == d.DocumentID {
			m.Debts[i].Resync = m.Debts[i].Resync || d.Resync
			return
		}
	}
	m.Debts = append(m.Debts, d)
}

// Reset empties the meaning and keeps its memory.
func (m *Meaning) Reset() {
	clear(m.Events)
	*m = Meaning{Events: m.Events[:0], Debts: m.Debts[:0], Troubles: m.Troubles[:0]}
}
