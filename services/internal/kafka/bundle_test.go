package kafka

import (
	"errors"
	"strconv"
	"testing"

	kafkago "github.com/segmentio/kafka-go"
	produceapi "github.com/segmentio/kafka-go/protocol/produce"

	"github.com/hookmesh/hookmesh/services/internal/stage"
	"github.com/hookmesh/hookmesh/services/internal/telemetry"
)

// outputsOf are n outputs of so many bytes each.
func outputsOf(n, size int) []stage.Output {
	outs := make([]stage.Output, n)
	for i := range outs {
		outs[i] = stage.Output{Key: []byte(strconv.Itoa(i)), Value: make([]byte, size)}
	}
	return outs
}

func TestOneRequestTakesWhatOneBrokerLeads(t *testing.T) {
	log := NewLog(Config{Brokers: []string{"127.0.0.1:1"}, Partitions: 4}, telemetry.Nop())
	defer log.Close()
	log.leaders.set(map[target]int{{TopicUnique, 0}: 1, {TopicUnique, 1}: 2, {TopicUnique, 2}: 1, {TopicDead, 0}: 1})
	bundles, alone := log.bundle(t.Context(), map[target][]stage.Output{
		{TopicUnique, 0}: outputsOf(2, 10), {TopicUnique, 1}: outputsOf(1, 10), {TopicUnique, 2}: outputsOf(3, 10), {TopicDead, 0}: outputsOf(1, 10),
		{TopicUnique, 3}: outputsOf(1, 10),               // nobody knows its leader
		{TopicDead, 1}:   outputsOf(produceRecords+1, 1), // too many for one request
		{TopicDead, 2}:   outputsOf(2, produceBytes/2+1), // too large
	})
	if len(alone) != 3 {
		t.Errorf("%v go alone, want the three that cannot share", alone)
	}
	if len(bundles) != 2 || len(bundles[0])+len(bundles[1]) != 4 {
		t.Fatalf("got %v, want one request with three partitions and one with one", bundles)
	}
	for _, b := range bundles {
		req := b.request()
		n := 0
		for _, topic := range req.Topics {
			n += len(topic.Partitions)
		}
		if n != len(b) || req.Acks != -1 {
			t.Errorf("the request holds %d partitions with acks %d, want %d with -1", n, req.Acks, len(b))
		}
	}
}

func TestRequestsStayWithinTheirBounds(t *testing.T) {
	log := NewLog(Config{Brokers: []string{"127.0.0.1:1"}, Partitions: 8}, telemetry.Nop())
	defer log.Close()
	known, groups := map[target]int{}, map[target][]stage.Output{}
	for p := range 8 {
		known[target{TopicUnique, p}] = 1
		groups[target{TopicUnique, p}] = outputsOf(2, produceBytes/5)
	}
	log.leaders.set(known)
	bundles, alone := log.bundle(t.Context(), groups)
	written := 0
	for _, b := range bundles {
		size := 0
		for _, outs := range b {
			size += outputsSize(outs)
			written += len(outs)
		}
		if size > produceBytes {
			t.Errorf("a request holds %d bytes, more than %d", size, produceBytes)
		}
	}
	if written != 16 || len(alone) != 0 {
		t.Errorf("%d of 16 records are in requests, %v go alone", written, alone)
	}
}

func TestWhatABrokerRefusesForTheMomentIsSentAgain(t *testing.T) {
	b := bundle{{TopicUnique, 0}: outputsOf(1, 1), {TopicUnique, 1}: outputsOf(1, 1), {TopicUnique, 2}: outputsOf(1, 1)}
	answer := func(codes ...kafkago.Error) *produceapi.Response {
		topic := produceapi.ResponseTopic{Topic: TopicUnique}
		for p, code := range codes {
			topic.Partitions = append(topic.Partitions, produceapi.ResponsePartition{Partition: int32(p), ErrorCode: int16(code)}) //nolint:gosec // three
		}
		return &produceapi.Response{Topics: []produceapi.ResponseTopic{topic}}
	}
	refused, err := b.refusals(answer(0, kafkago.NotLeaderForPartition))
	if err != nil || len(refused) != 2 || refused[target{TopicUnique, 0}] != nil {
		t.Errorf("got %v, %v; want the partition that was refused and the one that the answer leaves out", refused, err)
	}
	if _, err := b.refusals(answer(0, kafkago.MessageSizeTooLarge, 0)); !errors.Is(err, kafkago.MessageSizeTooLarge) {
		t.Errorf("got %v, want the refusal that no second try would change", err)
	}
}
