package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	produceapi "github.com/segmentio/kafka-go/protocol/produce"

	"github.com/hookmesh/hookmesh/services/internal/stage"
)

// bundle is what one request writes, to several partitions of one broker. kafka-go's client writes to one partition per request, though the
// protocol below it takes many.
type bundle map[target][]stage.Output

// bundle puts together what one broker can be sent in one request. What has no known leader, or is too large to share a request, goes alone.
func (l *Log) bundle(ctx context.Context, groups map[target][]stage.Output) (bundles []bundle, alone []target) {
	type open struct {
		bundle
		records, size int
	}
	byLeader := map[int]*open{}
	for t, outputs := range groups {
		leader, known := l.leaders.of(ctx, l.client, t)
		n, size := len(outputs), outputsSize(outputs)
		if !known || n > produceRecords || size > produceBytes {
			alone = append(alone, t)
			continue
		}
		b := byLeader[leader]
		if b == nil || b.records+n > produceRecords || b.size+size > produceBytes {
			b = &open{bundle: bundle{}}
			byLeader[leader] = b
			bundles = append(bundles, b.bundle)
		}
		b.bundle[t], b.records, b.size = outputs, b.records+n, b.size+size
	}
	return bundles, alone
}

func outputsSize(outputs []stage.Output) (size int) {
	for _, out := range outputs {
		size += len(out.Key) + len(out.Value)
	}
	return size
}

// writeTogether sends a bundle in one request. Partitions that the broker refuses for the moment are written each by itself, again and
// again, as if they had never shared a request; what they write twice then, the stages below drop.
func (l *Log) writeTogether(ctx context.Context, b bundle) error {
	refused, err := l.sendTogether(ctx, b)
	if err != nil || len(refused) == 0 {
		return err
	}
	l.forgetLeaders()
	return l.writeEach(ctx, refused)
}

// sendTogether returns what the broker did not take, if it may take it later.
func (l *Log) sendTogether(ctx context.Context, b bundle) (refused bundle, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	res, err := l.transport.RoundTrip(ctx, l.client.Addr, b.request())
	var unroutable *produceapi.Error
	switch {
	case errors.As(err, &unroutable): // a leader moved since the bundle was put together; nothing was sent
		return b, nil
	case err != nil:
		l.forgetLeaders()
		return nil, fmt.Errorf("produce to %d partitions: %w", len(b), err)
	}
	answer, ok := res.(*produceapi.Response)
	if !ok {
		return nil, fmt.Errorf("produce to %d partitions: the answer is a %T", len(b), res)
	}
	return b.refusals(answer)
}

// request is the bundle as the protocol has it.
func (b bundle) request() *produceapi.Request {
	req := &produceapi.Request{Acks: int16(kafkago.RequireAll), Timeout: int32(requestTimeout.Milliseconds())}
	for t, outputs := range b {
		i := slices.IndexFunc(req.Topics, func(known produceapi.RequestTopic) bool { return known.Topic == t.topic })
		if i < 0 {
			i, req.Topics = len(req.Topics), append(req.Topics, produceapi.RequestTopic{Topic: t.topic})
		}
		req.Topics[i].Partitions = append(req.Topics[i].Partitions, produceapi.RequestPartition{
			Partition: int32(t.partition), RecordSet: protocol.RecordSet{Records: records(outputs)}, //nolint:gosec // partitions are few
		})
	}
	return req
}

// refusals are the partitions that the answer does not say were written. The error is the first that will not go away by itself.
func (b bundle) refusals(answer *produceapi.Response) (refused bundle, err error) {
	refused = bundle{}
	for t, outputs := range b {
		refused[t] = outputs
	}
	for _, topic := range answer.Topics {
		for _, p := range topic.Partitions {
			t := target{topic.Topic, int(p.Partition)}
			if p.ErrorCode == 0 {
				delete(refused, t)
				continue
			}
			if reason := kafkago.Error(p.ErrorCode); !reason.Temporary() {
				return nil, fmt.Errorf("produce %d records to %s/%d: %w %s", len(b[t]), t.topic, t.partition, reason, p.ErrorMessage)
			}
		}
	}
	return refused, nil
}

// leaders remembers which broker leads which partition, only to put requests together: a request that is put together wrongly is not sent.
type leaders struct {
	mu sync.Mutex
	// known is replaced as a whole and never changed.
	known map[target]int
	until time.Time
}

func (l *leaders) forget() { l.set(nil) }

func (l *leaders) set(table map[target]int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.until = table, time.Now().Add(metadataTTL)
}

// of is the broker that leads a partition, as far as the client knows.
func (l *leaders) of(ctx context.Context, client *kafkago.Client, t target) (broker int, known bool) {
	l.mu.Lock()
	table := l.known
	if time.Now().After(l.until) {
		table = nil
	}
	l.mu.Unlock()
	if table == nil {
		meta, err := client.Metadata(ctx, &kafkago.MetadataRequest{Topics: Names()}) // out of the client's memory, but for the first
		if err != nil {
			return 0, false
		}
		table = map[target]int{}
		for _, topic := range meta.Topics {
			for _, p := range topic.Partitions {
				if p.Error == nil {
					table[target{topic.Name, p.ID}] = p.Leader.ID
				}
			}
		}
		l.set(table)
	}
	broker, known = table[t]
	return broker, known
}
