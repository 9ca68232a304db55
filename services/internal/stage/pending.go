package stage

import (
	"encoding/binary"
	"errors"
)

// pendingVersion begins every encoded outbox, so that a later format can be told from this one.
const pendingVersion = 1

// EncodePending writes outputs of the outbox as one value: a store keeps a batch's outputs as one row, because a row each
// would cost more than everything else that a batch writes. Contexts are not kept; their trace is in the headers.
func EncodePending(pending []Pending) []byte {
	size := 1
	for _, p := range pending {
		size += len(p.Output.Topic) + len(p.Output.Key) + len(p.Output.Value) + 32
		for _, h := range p.Output.Headers {
			size += len(h.Key) + len(h.Value) + 6
		}
	}
	b := append(make([]byte, 0, size), pendingVersion)
	for _, p := range pending {
		b = binary.AppendUvarint(b, uint64(p.Seq))
		b = appendBytes(b, []byte(p.Output.Topic))
		b = appendBytes(b, p.Output.Key)
		b = appendBytes(b, p.Output.Value)
		b = binary.AppendUvarint(b, uint64(len(p.Output.Headers)))
		for _, h := range p.Output.Headers {
			b = appendBytes(b, []byte(h.Key))
			b = appendBytes(b, h.Value)
		}
	}
	return b
}

// appendBytes writes a length and the bytes; nil and empty differ, because a record without a value is a tombstone to Kafka.
func appendBytes(b, value []byte) []byte {
	if value == nil {
		return binary.AppendUvarint(b, 0)
	}
	b = binary.AppendUvarint(b, uint64(len(value))+1)
	return append(b, value...)
}

var errPending = errors.New("the outbox holds bytes that are no outputs: the database is damaged or was written by a newer hookmesh")

// DecodePending undoes EncodePending. The outputs share the memory of b.
func DecodePending(b []byte) ([]Pending, error) {
	if len(b) == 0 || b[0] != pendingVersion {
		return nil, errPending
	}
	d := decoder{rest: b[1:]}
	var all []Pending
	for len(d.rest) > 0 && !d.failed {
		p := Pending{Seq: int64(d.uvarint())}
		p.Output.Topic = string(d.bytes())
		p.Output.Key, p.Output.Value = d.bytes(), d.bytes()
		n := d.uvarint()
		if n > uint64(len(d.rest)) { // a header takes two bytes at least
			return nil, errPending
		}
		for range n {
			p.Output.Headers = append(p.Output.Headers, Header{Key: string(d.bytes()), Value: d.bytes()})
		}
		all = append(all, p)
	}
	if d.failed {
		return nil, errPending
	}
	return all, nil
}

// decoder reads what appendBytes wrote. After a failure it returns zeros.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.failed, d.rest = true, nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.uvarint()
	switch {
	case n == 0:
		return nil
	case n-1 > uint64(len(d.rest)):
		d.failed, d.rest = true, nil
		return nil
	}
	v := d.rest[: n-1 : n-1]
	d.rest = d.rest[n-1:]
	return v
}
