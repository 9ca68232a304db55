// Package stage is the one mechanism by which every stage of the mesh moves records: it consumes a partition in
// batches, lets a handler decide inside a transaction, and produces what the handler put out.
//
// Neither a crash nor a zombie loses or repeats anything, because the transaction holds four things at once: the handler's
// state, the position in the input, the outputs (an outbox), and a fence that only the newest owner of the partition passes.
//
//   - A crash before the transaction: the records are read again; nothing had happened.
//   - A crash after it, before the outputs reached Kafka: the next owner produces the outbox first.
//   - A crash after the produce: the next owner produces the same outputs again. They carry the same link (an epoch of the
//     producing partition's owner and a number in it), and the stage below drops every link number that it has already passed.
//   - A zombie: claiming a partition raises its fence, so the zombie's next transaction fails with ErrFenced. What it still
//     produces is what its successor produces too, under the same links.
//
// A store may also come back older than it was: from a backup, a snapshot of its disk, or as a replica that was behind. It
// then numbers outputs once more, and not the same ones: time has passed, and the log may hold something else. So an epoch
// lasts for one claim and is drawn at random, and a number stands for one output for ever:
//
//   - Before it numbers anything, an owner produces the outbox that it found, under the epoch that it found. These are the
//     links of the first time, because a transaction stored outbox and epoch together.
//   - The transaction that stores its first outputs also stores its own epoch and clears that outbox. Nothing of the epoch was
//     produced before. So the outbox in a store is always of the epoch beside it, and whoever finds both repeats the same links.
//   - A store that went back is claimed before it is used again: by the next owner, or by one whose transaction finds the position
//     elsewhere than where it left it. The stage below knows nothing of the new epoch and takes
//     everything of it. Inputs that are read again become repeats, which each stage's own decisions drop; none is lost.
//
// The stage below keeps the newest epochs of each partition above it (see keptEpochs). The outbox is always of the newest, so the older
// ones serve for zombies only; if one of a forgotten epoch still writes, its records are repeats too.
//
// A log may come back too: lost and begun anew, or restored to what it once held. If it ends before the position, that shows. If it has
// grown past it since, the offsets look right and are not; so a position remembers what the record before it was (its mark), and an owner
// looks at that record before it reads on. A log that holds another one is read from its beginning: links and the stages' own decisions
// drop what was passed.
//
// The position in the store is the truth; the offset committed to Kafka only shows the lag to operators.
package stage

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ErrFenced says that another instance has claimed the partition since. The loser drops its work and rejoins the group.
var ErrFenced = errors.New("partition was claimed by another instance")

// ErrWentBack says that nobody else has claimed the partition, but that its position is not where its owner left it. It is an
// ErrFenced, too: what the owner knows of the store is no longer true.
var ErrWentBack = fmt.Errorf("position is not where it was left: %w", ErrFenced)

// NotAdvanced says why a store did not move a position forward whose fence it found to be as given.
func NotAdvanced(p Position, fence int64) error {
	if fence == p.Fence {
		return ErrWentBack
	}
	return ErrFenced
}

// ErrUncertain says that a transaction may have been committed or not. Only a new claim can tell, so the partition is given
// up and joined again.
var ErrUncertain = errors.New("nobody knows whether the transaction was committed")

// LinkHeader is the header that carries an output's link, "epoch:number".
const LinkHeader = "hookmesh-link"

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// Record is one consumed record.
type Record struct {
	Topic     string
	Partition int
	Offset    int64
	Key       []byte
	Value     []byte
	Headers   []Header
	// Time is when the broker or the producer stamped it.
	Time time.Time
	// Context carries the record's trace: the span "process <topic>", whose parent came in the headers.
	// It is not for cancellation; handlers pass it to Output.Context and to trace.SpanFromContext.
	Context context.Context
}

// Output is one record to produce.
type Output struct {
	Topic string
	// Key decides the partition; never empty.
	Key     []byte
	Value   []byte
	Headers []Header
	// Context carries the trace that the output belongs to: usually the Context of the record that caused it. Its
	// traceparent is written to the headers. Nil: Headers are taken as they are.
	Context context.Context
}

// Batch is what a handler decides on.
type Batch struct {
	Topic     string
	Partition int
	// Records are in offset order; empty when only a timer is due.
	Records []Record
	// Now is the clock at the beginning of the batch.
	Now time.Time
}

// Result is what a handler decided.
type Result struct {
	// Outputs are produced in their order after the transaction was committed.
	Outputs []Output
	// Due is when the handler wants to be called again for this partition even without records; zero: never.
	Due time.Time
	// Committed, if not nil, is called once after the transaction was committed: for metrics, logs, wake-ups.
	Committed func()
}

// Handler decides on batches of one topic. T is the service's own view of its transaction.
type Handler[T any] interface {
	// Handle decides on a batch. It reads and writes only through tx, so that its decision is committed together with the
	// position and the outputs, or not at all. It is called by one goroutine per partition, by several for several partitions.
	// It must not fail for a record that it cannot understand: such a record becomes a dead letter (see Dead). An error means
	// that nothing of the batch counts; the batch is tried again, with backoff.
	Handle(ctx context.Context, tx T, batch Batch) (Result, error)
}

// Position is how far a partition of a stage has come.
type Position struct {
	Topic     string
	Partition int
	// Fence rises with every claim.
	Fence int64
	// Next is the offset of the next record to read; -1: the partition was never read.
	Next int64
	// Mark is the fingerprint of the record before Next (see markOf); empty: there is none, or a version of hookmesh that kept none read it.
	Mark string
	// Epoch names the numbering of the outputs in the outbox; each owner of the partition begins a new one.
	Epoch string
	// Seq is the number of the newest output. It goes on from epoch to epoch.
	Seq int64
	// Links holds, per epoch of the stages above, the newest link number that was passed.
	Links map[string]int64
	// Due is the newest Result.Due, so that timers survive a restart.
	Due time.Time
}

// Pending is an output of the outbox.
type Pending struct {
	Seq    int64
	Output Output
}

// Place is where a position stands.
type Place struct{ Next, Seq int64 }

// At returns where the position stands.
func (p Position) At() *Place { return &Place{Next: p.Next, Seq: p.Seq} }

// Advance is what a transaction moves forward.
type Advance struct {
	// From, if not nil, is where the position in the store must stand, or the transaction fails with ErrWentBack: the store has gone back
	// under its owner (another server took over that was behind), and what the owner knows of it is no longer true.
	From *Place
	// Position is the new position. Its Fence must be the one in the store, or the transaction fails with ErrFenced.
	Position Position
	// Outbox are the outputs to keep until they are produced.
	Outbox []Pending
	// Produced is the newest Seq that is known to be in Kafka; outbox rows up to it are deleted.
	Produced int64
}

// Store keeps positions and outboxes next to a service's own state.
type Store[T any] interface {
	// Claim takes a partition over: it raises the fence and returns the position and the outbox, in Seq order.
	Claim(ctx context.Context, topic string, partition int) (Position, []Pending, error)
	// Update runs decide inside a transaction and stores the Advance that it returns in the same transaction.
	// It returns ErrFenced if the partition was claimed since, ErrWentBack if its position is not where it was left, ErrUncertain if it cannot know whether it was committed, and
	// decide's error as it is.
	Update(ctx context.Context, decide func(ctx context.Context, tx T) (Advance, error)) error
}

// Log is the Kafka side of a stage.
type Log interface {
	// Open reads a partition from the given offset on; -1: from the oldest record. If the partition does not hold the offset
	// and it is not the next one to be written, the error is an *OffsetError.
	Open(ctx context.Context, topic string, partition int, offset int64) (Partition, error)
	// Produce writes outputs durably (acks=all), in order per key. It retries until ctx ends; after an error any of them may have been written.
	Produce(ctx context.Context, outputs []Output) error
}

// Partition reads one partition.
type Partition interface {
	// Fetch returns records in offset order, at most limit, at least one unless the deadline of wait passes first. If the
	// partition lost the offset that is to be read next, the error is an *OffsetError. Not for several goroutines.
	Fetch(ctx context.Context, limit int, wait time.Duration) ([]Record, error)
	// Close releases what it holds.
	Close() error
}

// OffsetError says that a partition does not hold the offset that was to be read.
type OffsetError struct {
	Topic     string
	Partition int
	// Offset was to be read.
	Offset int64
	// First is the oldest record's offset, End the one that the next record will get.
	First, End int64
	// Replaced says that the partition holds another record before the offset than the one that was read there. First and End are not known then.
	Replaced bool
}

// Error implements error.
func (e *OffsetError) Error() string {
	if e.Replaced {
		return fmt.Sprintf("%s/%d holds another record at offset %d than the one that was read there: its log was lost, began anew or was restored, and has grown past what was read",
			e.Topic, e.Partition, e.Offset-1)
	}
	if e.BeganAnew() {
		return fmt.Sprintf("%s/%d ends before offset %d: its log was lost and began anew; it holds offsets %d to %d", e.Topic, e.Partition, e.Offset, e.First, e.End-1)
	}
	return fmt.Sprintf("%s/%d begins at offset %d: the %d records from offset %d on were removed before they were read", e.Topic, e.Partition, e.First, e.First-e.Offset, e.Offset)
}

// BeganAnew says whether the log was lost: offsets were given out again, so no offset from before says anything about it.
func (e *OffsetError) BeganAnew() bool { return e.Replaced || e.Offset > e.End }
