package sequencer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	sequencerv1 "github.com/hookmesh/hookmesh/gen/hookmesh/sequencer/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// commandHeader marks a record that holds an operator's command instead of an event.
const commandHeader = "hookmesh-command"

// maxWait bounds how far ahead an operator may put the end of a wait.
const maxWait = 30 * 24 * time.Hour

func isCommand(rec stage.Record) bool {
	for _, h := range rec.Headers {
		if h.Key == commandHeader {
			return true
		}
	}
	return false
}

// SkipGap implements the API.
func (s *Service) SkipGap(ctx context.Context, req *sequencerv1.SkipGapRequest) (*sequencerv1.SkipGapResponse, error) {
	if err := s.checkGap(ctx, req.GetSource(), req.GetDocumentId(), req.GetMissing()); err != nil {
		return nil, err
	}
	err := s.send(ctx, &sequencerv1.Command{Source: req.GetSource(), DocumentId: req.GetDocumentId(), Missing: req.GetMissing()})
	return &sequencerv1.SkipGapResponse{}, err
}

// WaitForGap implements the API.
func (s *Service) WaitForGap(ctx context.Context, req *sequencerv1.WaitForGapRequest) (*sequencerv1.WaitForGapResponse, error) {
	if until := req.GetUntil().AsTime(); until.After(s.now().Add(maxWait)) {
		return nil, status.Errorf(codes.InvalidArgument, "until is more than %s ahead", maxWait)
	}
	if err := s.checkGap(ctx, req.GetSource(), req.GetDocumentId(), req.GetMissing()); err != nil {
		return nil, err
	}
	err := s.send(ctx, &sequencerv1.Command{Source: req.GetSource(), DocumentId: req.GetDocumentId(), Missing: req.GetMissing(), Until: req.GetUntil()})
	return &sequencerv1.WaitForGapResponse{}, err
}

// checkGap tells an operator at once that there is no such gap. Whether there is one still, the owner of the partition sees.
func (s *Service) checkGap(ctx context.Context, source, document string, missing int64) error {
	if document == "" {
		all, err := s.store.Numbers(ctx, source)
		if err != nil {
			return fmt.Errorf("read the numbers of the source: %w", err)
		}
		if n := all[source]; len(n.Spans) == 0 || n.Upto+1 != missing {
			return status.Errorf(codes.NotFound, "the numbers of source %q have no hole that begins at %d", source, missing)
		}
		return nil
	}
	st, err := s.store.Document(ctx, string(kafka.DocumentKey(source, document)))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("read document: %w", err)
	}
	if len(st.Held) == 0 || st.Missing() != missing {
		return status.Errorf(codes.NotFound, "the document does not wait for %d", missing)
	}
	return nil
}

// send writes a command into the log that the sequencer reads.
func (s *Service) send(ctx context.Context, c *sequencerv1.Command) error {
	raw, err := proto.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode command: %w", err)
	}
	out := stage.Output{Topic: kafka.TopicUnique, Key: kafka.DocumentKey(c.GetSource(), c.GetDocumentId()), Value: raw,
		Headers: []stage.Header{{Key: commandHeader, Value: []byte("1")}}, Context: ctx}
	if err := s.producer.Produce(ctx, []stage.Output{out}); err != nil {
		return status.Errorf(codes.Unavailable, "the command could not be written to Kafka: %v", err)
	}
	return nil
}

// command carries out an operator's command. One about a gap that is closed by now does nothing.
func (b *batch) command(ctx context.Context, rec stage.Record) error {
	c := &sequencerv1.Command{}
	if err := proto.Unmarshal(rec.Value, c); err != nil {
		return b.dead(rec, errors.New("the record is no command"))
	}
	b.trigger = nil
	if c.GetDocumentId() == "" {
		return b.skipHole(ctx, c)
	}
	doc, err := b.load(ctx, c.GetSource(), c.GetDocumentId())
	if err != nil {
		return err
	}
	b.decision.reset()
	if c.GetUntil() == nil {
		Skip(&doc.State, c.GetMissing(), b.rules(), b.now, &b.decision)
	} else {
		Wait(&doc.State, c.GetMissing(), c.GetUntil().AsTime().UnixMicro())
	}
	if doc.Revision == 0 && len(doc.Held) == 0 {
		return nil // nothing is known of it, and nothing is to be
	}
	return b.carryOut(ctx, doc)
}

// skipHole closes the oldest hole in the numbers of a source.
func (b *batch) skipHole(ctx context.Context, c *sequencerv1.Command) error {
	n, err := b.tx.Numbers(ctx, c.GetSource())
	if err != nil {
		return err
	}
	if len(n.Spans) == 0 || n.Upto+1 != c.GetMissing() {
		return nil
	}
	n.Skip()
	return b.tx.SetNumbers(ctx, c.GetSource(), n)
}
