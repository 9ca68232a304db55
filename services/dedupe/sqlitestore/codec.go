package sqlitestore

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/hookmesh/hookmesh/services/dedupe"
)

var errCorrupt = errors.New("a stored row is cut off")

// latest is what is stored of a document.
type latest struct {
	dedupe.Newest
	// last is the number of its last event.
	last int64
	// there: it is stored.
	there bool
}

// Ids that are UUIDs are kept as their 16 bytes: a flag in the length tells.
func appendID(b []byte, id string) []byte {
	if u, err := uuid.Parse(id); len(id) == 36 && err == nil && u.String() == id {
		return append(binary.AppendUvarint(b, 16<<1|1), u[:]...)
	}
	return append(binary.AppendUvarint(b, uint64(len(id))<<1), id...)
}

// decoder reads what the append functions wrote; after an error everything is zero.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.b, d.bad = nil, true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) bytes(n uint64) []byte {
	if n > uint64(len(d.b)) {
		d.b, d.bad = nil, true
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) id() string {
	n := d.uvarint()
	raw := d.bytes(n >> 1)
	if n&1 == 1 && len(raw) == 16 {
		return uuid.UUID(raw).String()
	}
	return string(raw)
}

func (d *decoder) err() error {
	if d.bad {
		return errCorrupt
	}
	return nil
}

func encodeFirst(f dedupe.First) []byte {
	b := appendID(nil, f.EventID)
	b = binary.AppendUvarint(b, uint64(f.Partition))
	return binary.AppendVarint(b, f.Offset)
}

func decodeFirst(b []byte, expires int64) (dedupe.First, error) {
	d := decoder{b: b}
	f := dedupe.First{EventID: d.id(), Partition: int(d.uvarint()), Offset: d.varint(), Expires: time.UnixMicro(expires)}
	return f, d.err()
}

func encodeLatest(l latest) []byte {
	b := appendID(nil, l.EventID)
	b = append(binary.AppendUvarint(b, uint64(len(l.Hash))), l.Hash...)
	b = append(binary.AppendUvarint(b, uint64(len(l.Version))), l.Version...)
	deleted := uint64(0)
	if l.Deleted {
		deleted = 1
	}
	b = binary.AppendUvarint(b, deleted)
	polled := int64(0)
	if !l.Polled.IsZero() {
		polled = l.Polled.UnixMicro()
	}
	b = binary.AppendVarint(b, polled)
	b = binary.AppendVarint(b, l.Expires.UnixMicro())
	return binary.AppendVarint(b, l.last)
}

func decodeLatest(b []byte) (latest, error) {
	d := decoder{b: b}
	l := latest{there: true}
	l.EventID = d.id()
	if hash := d.bytes(d.uvarint()); len(hash) > 0 {
		l.Hash = append([]byte(nil), hash...)
	}
	l.Version, l.Deleted = string(d.bytes(d.uvarint())), d.uvarint() == 1
	if polled := d.varint(); polled != 0 {
		l.Polled = time.UnixMicro(polled)
	}
	l.Expires, l.last = time.UnixMicro(d.varint()), d.varint()
	return l, d.err()
}
