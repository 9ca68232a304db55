// Package events reads and writes the records that travel through the mesh.
package events

import (
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventv1 "github.com/hookmesh/hookmesh/gen/hookmesh/event/v1"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// Decode reads an event. It refuses what no stage could work with.
func Decode(value []byte) (*eventv1.Event, error) {
	ev := &eventv1.Event{}
	if err := proto.Unmarshal(value, ev); err != nil {
		return nil, errors.New("the record is no event") // the library's text differs from run to run
	}
	return ev, check(ev)
}

// DecodeChange reads a change.
func DecodeChange(value []byte) (*eventv1.Change, error) {
	c := &eventv1.Change{}
	if err := proto.Unmarshal(value, c); err != nil {
		return nil, errors.New("the record is no change")
	}
	if c.GetRevision() <= 0 {
		return nil, errors.New("the change has no revision")
	}
	return c, check(c.GetEvent())
}

func check(ev *eventv1.Event) error {
	switch {
	case ev.GetId() == "":
		return errors.New("the event has no id")
	case ev.GetSource() == "" || ev.GetDocumentId() == "":
		return errors.New("the event does not say which document it is about")
	case eventv1.Action_name[int32(ev.GetAction())] == "" || ev.GetAction() == eventv1.Action_ACTION_UNSPECIFIED:
		return errors.New("the event does not say what happened")
	}
	return nil
}

// Output makes a record about a document.
func Output(topic, source, documentID string, m proto.Message) (stage.Output, error) {
	value, err := proto.Marshal(m)
	if err != nil {
		return stage.Output{}, fmt.Errorf("encode a record for %s: %w", topic, err)
	}
	return stage.Output{Topic: topic, Key: kafka.DocumentKey(source, documentID), Value: value}, nil
}

// Dead makes the dead letter of a record that a stage could not read.
func Dead(rec stage.Record, stageName, code string, cause error, now time.Time) (stage.Output, error) {
	letter := &eventv1.DeadLetter{
		Id: fmt.Sprintf("%s-%d-%d", rec.Topic, rec.Partition, rec.Offset), Stage: stageName, Code: code, Error: cause.Error(), Attempts: 1,
		FailedAt: timestamppb.New(now), Payload: rec.Value, Topic: rec.Topic, Partition: int32(rec.Partition), Offset: rec.Offset, TraceId: TraceID(rec),
	}
	out, err := Output(kafka.TopicDead, "", letter.Id, letter)
	out.Context = rec.Context
	if len(rec.Key) > 0 {
		out.Key = rec.Key
	}
	return out, err
}

// TraceID is the trace that a record belongs to, or "".
func TraceID(rec stage.Record) string {
	if sc := trace.SpanContextFromContext(rec.Context); sc.HasTraceID() {
		return sc.TraceID().String()
	}
	return ""
}
