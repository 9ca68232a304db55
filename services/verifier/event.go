package verifier

import (
	"strings"

	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	verifierv1 "github.com/hookmesh/hookmesh/gen/hookmesh/verifier/v1"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

var actions = map[string]eventv1.Action{
	"created": eventv1.Action_ACTION_CREATED, "updated": eventv1.Action_ACTION_UPDATED,
	"deleted": eventv1.Action_ACTION_DELETED, "subtree-deleted": eventv1.Action_ACTION_SUBTREE_DELETED,
}

var orderings = map[string]eventv1.OrderingMode{
	"contiguous": eventv1.OrderingMode_ORDERING_MODE_CONTIGUOUS, "source-contiguous": eventv1.OrderingMode_ORDERING_MODE_SOURCE_CONTIGUOUS,
	"monotonic": eventv1.OrderingMode_ORDERING_MODE_MONOTONIC, "arrival": eventv1.OrderingMode_ORDERING_MODE_ARRIVAL,
}

// Formats are the content formats by their names in presets and configuration.
var Formats = map[string]eventv1.ContentFormat{
	"markdown": eventv1.ContentFormat_CONTENT_FORMAT_MARKDOWN, "html": eventv1.ContentFormat_CONTENT_FORMAT_HTML,
	"confluence-storage": eventv1.ContentFormat_CONTENT_FORMAT_CONFLUENCE_STORAGE, "plain": eventv1.ContentFormat_CONTENT_FORMAT_PLAIN,
}

// made is an event with what hangs on it, so that one allocation does for all.
type made struct {
	event    eventv1.Event
	content  eventv1.Content
	occurred timestamppb.Timestamp
	sequence int64
	hash     [32]byte
}

// event is what travels through the mesh.
func (s *source) event(req *verifierv1.VerifyRequest, r *preset.Request, ev *preset.Event, proof preset.Proof) *eventv1.Event {
	m := &made{hash: ev.Hash, sequence: ev.Sequence}
	out := &m.event
	out.Source, out.DocumentId, out.Action, out.IdempotencyKey = s.name, ev.DocumentID, actions[ev.Action], ev.IdempotencyKey
	out.Containers, out.Version, out.Ordering = ev.Containers, ev.Version, orderings[ev.Ordering]
	out.ReceivedAt, out.Origin, out.Preset = req.GetReceivedAt(), eventv1.Origin_ORIGIN_WEBHOOK, s.preset.Name
	out.SecretIndex, out.Assurance, out.ContentType = int32(max(proof.Secret, 0)), assurances[proof.Assurance], r.ContentType()
	out.DedupeTtlSeconds, out.GapTimeoutMs = s.dedupeTTL, s.gapTimeout
	if ev.Hashed {
		out.ContentHash = m.hash[:]
	}
	if ev.Sequenced {
		out.Sequence = &m.sequence
	} else {
		out.Ordering = eventv1.OrderingMode_ORDERING_MODE_ARRIVAL // without a position nothing proves the order
	}
	if !ev.OccurredAt.IsZero() {
		m.occurred.Seconds, m.occurred.Nanos = ev.OccurredAt.Unix(), int32(ev.OccurredAt.Nanosecond())
		out.OccurredAt = &m.occurred
	}
	// What only the sender vouches for could have been altered on the way: its content is fetched, never trusted. So is a
	// deletion, where the source can be asked: it answers that the document is gone.
	trusted := proof.Assurance == "body"
	if !trusted && s.fetches && out.GetAction() == eventv1.Action_ACTION_DELETED {
		out.Action = eventv1.Action_ACTION_UPDATED
	}
	c := &m.content
	out.Content = c
	c.Inline, c.Title, c.Url, c.Format = ev.Inline && trusted, strings.ToValidUTF8(ev.Title, "\uFFFD"), ev.URL, Formats[ev.Format]
	switch {
	case c.GetInline():
		c.Text = ev.Text // the content is what the payload is kept for
	case ev.Payload != nil:
		out.Payload = ev.Payload
	default:
		out.Payload = r.Payload()
	}
	return out
}

var assurances = map[string]eventv1.Assurance{
	"body": eventv1.Assurance_ASSURANCE_BODY, "sender": eventv1.Assurance_ASSURANCE_SENDER, "none": eventv1.Assurance_ASSURANCE_NONE,
}
