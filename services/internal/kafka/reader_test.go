package kafka

import (
	"io"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
)

// borrowed is a part of a record that counts how many of its kind were not given back.
type borrowed struct {
	kafkago.Bytes
	out *int
}

func (b borrowed) Close() error {
	*b.out--
	return b.Bytes.Close()
}

func TestWhatAnswersLendIsGivenBack(t *testing.T) {
	out := 0
	part := func(s string) kafkago.Bytes {
		out++
		return borrowed{kafkago.NewBytes([]byte(s)), &out}
	}
	r := &partitionReader{topic: TopicUnique, offset: 7}
	err := r.read(kafkago.NewRecordReader(
		kafkago.Record{Offset: 6, Key: part("k"), Value: part("it lies before what was asked for")},
		kafkago.Record{Offset: 7, Key: part("key"), Value: part("value")},
		kafkago.Record{Offset: 8, Value: part("it has no key")},
		kafkago.Record{Offset: 9, Key: part("it has no value")},
	))
	if err != nil || len(r.rest) != 3 || string(r.rest[0].Key) != "key" || string(r.rest[0].Value) != "value" || r.rest[1].Key != nil || r.rest[2].Value != nil {
		t.Errorf("read %v, %v", r.rest, err)
	}
	if out != 0 {
		t.Errorf("%d parts of records were not given back", out)
	}
	if err := r.read(kafkago.NewRecordReader(kafkago.Record{Offset: 10, Value: broken{part("x")}})); err == nil || out != 0 {
		t.Errorf("a value that cannot be read: %v; %d parts were not given back", err, out)
	}
}

// broken cannot be read.
type broken struct{ kafkago.Bytes }

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }
