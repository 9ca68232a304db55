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

// event is what travels through the mesh.
func (s *source) event(req *verifierv1.VerifyRequest, r *preset.Request, ev preset.Event, proof preset.Authentic) *eventv1.Event {
	out := &eventv1.Event{
		Source: s.cfg.Name, DocumentId: ev.DocumentID, Action: actions[ev.Action], IdempotencyKey: ev.IdempotencyKey, ContentHash: ev.Hash[:],
		Ordering: orderings[ev.Ordering], Sequence: ev.Sequence, Version: ev.Version, ReceivedAt: req.GetReceivedAt(),
		Origin: eventv1.Origin_ORIGIN_WEBHOOK, Preset: s.preset.Name, SecretIndex: int32(proof.Secret), Assurance: assurance(proof.Assurance),
		Payload: req.GetBody(), ContentType: r.ContentType(),
		DedupeTtlSeconds: int64(s.cfg.Dedupe.TTL.Seconds()), GapTimeoutMs: s.cfg.Ordering.GapTimeout.Milliseconds(),
	}
	if !ev.OccurredAt.IsZero() {
		out.OccurredAt = timestamppb.New(ev.OccurredAt)
	}
	if ev.Sequence == nil && out.Ordering != eventv1.OrderingMode_ORDERING_MODE_ARRIVAL {
		// Without a position nothing proves the order.
		out.Ordering = eventv1.OrderingMode_ORDERING_MODE_ARRIVAL
	}
	// What only the sender vouches for could have been altered on the way: its content is fetched, never trusted.
	inline := ev.Inline && proof.Assurance == "body"
	out.Content = &eventv1.Content{Inline: inline, Title: ev.Title, Url: ev.URL, Format: Formats[ev.Format]}
	if inline {
		out.Content.Text = ev.Text
		out.Payload = nil // the content is what the payload is kept for
	}
	out.Content.Title = strings.ToValidUTF8(out.Content.Title, "\uFFFD")
	return out
}

func assurance(name string) eventv1.Assurance {
	if name == "body" {
		return eventv1.Assurance_ASSURANCE_BODY
	}
	return eventv1.Assurance_ASSURANCE_SENDER
}
