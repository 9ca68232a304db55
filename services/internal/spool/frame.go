package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// A frame is a header of 24 bytes and a payload:
//
//	0  magic
//	4  length of the payload
//	8  number of the record (Pos)
//	16 CRC32C of the payload
//	20 CRC32C of the segment's salt and bytes 0–19
//
// The salt is random, so that no payload can hold bytes that a search for the next good frame would take for one.
const (
	headerSize = 24
	magic      = 0x5ea1f00d
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	magicBytes = binary.LittleEndian.AppendUint32(nil, magic)

	errShort   = errors.New("the frame is cut off")
	errCorrupt = errors.New("the frame is damaged")
)

// frame is a decoded header and its payload, which lies in the parsed buffer.
type frame struct {
	pos     Pos
	payload []byte
	size    int // of header and payload
}

// encode lays records out as frames whose numbers and header sums are still missing; seal adds them.
func encode(records []Record) ([]byte, error) {
	size := 0
	for _, r := range records {
		n := sizeOf(r)
		if n > MaxRecordBytes {
			return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, MaxRecordBytes)
		}
		size += headerSize + n
	}
	buf := make([]byte, 0, size)
	for _, r := range records {
		start := len(buf)
		buf = append(buf, make([]byte, headerSize)...)
		buf = appendRecord(buf, r)
		h, payload := buf[start:start+headerSize], buf[start+headerSize:]
		binary.LittleEndian.PutUint32(h, magic)
		binary.LittleEndian.PutUint32(h[4:], uint32(len(payload)))
		binary.LittleEndian.PutUint32(h[16:], crc32.Checksum(payload, castagnoli))
	}
	return buf, nil
}

// seal numbers the frames in buf from pos on and returns the number after the last.
func seal(buf []byte, salt uint64, pos Pos) Pos {
	for len(buf) > 0 {
		binary.LittleEndian.PutUint64(buf[8:], uint64(pos))
		binary.LittleEndian.PutUint32(buf[20:], headerSum(buf, salt))
		buf = buf[headerSize+int(binary.LittleEndian.Uint32(buf[4:])):]
		pos++
	}
	return pos
}

func headerSum(h []byte, salt uint64) uint32 {
	var s [8]byte
	binary.LittleEndian.PutUint64(s[:], salt)
	return crc32.Update(crc32.Checksum(s[:], castagnoli), castagnoli, h[:20])
}

// parse reads the frame at the beginning of buf. With errShort the frame's size, if the header could be read, says how much is
// needed; with errCorrupt it says how much to skip if the header itself is good.
func parse(buf []byte, salt uint64) (frame, error) {
	if len(buf) < headerSize {
		return frame{}, errShort
	}
	n := binary.LittleEndian.Uint32(buf[4:])
	if binary.LittleEndian.Uint32(buf) != magic || binary.LittleEndian.Uint32(buf[20:]) != headerSum(buf, salt) || n > MaxRecordBytes {
		return frame{}, errCorrupt
	}
	f := frame{pos: Pos(binary.LittleEndian.Uint64(buf[8:])), size: headerSize + int(n)}
	if len(buf) < f.size {
		return f, errShort
	}
	f.payload = buf[headerSize:f.size:f.size]
	if crc32.Checksum(f.payload, castagnoli) != binary.LittleEndian.Uint32(buf[16:]) {
		return f, errCorrupt
	}
	return f, nil
}

// resync returns the offset of the next good header in buf after its first byte, or -1.
func resync(buf []byte, salt uint64) int {
	for off := 1; off < len(buf); off++ {
		i := bytes.Index(buf[off:], magicBytes)
		if i < 0 {
			return -1
		}
		off += i
		f, err := parse(buf[off:], salt)
		if err == nil || (errors.Is(err, errShort) && f.size > 0) || (errors.Is(err, errCorrupt) && f.size > 0) {
			return off
		}
	}
	return -1
}

func sizeOf(r Record) int {
	n := len(r.Topic) + len(r.Key) + len(r.Value) + 4*binary.MaxVarintLen32
	for _, h := range r.Headers {
		n += len(h.Key) + len(h.Value) + 2*binary.MaxVarintLen32
	}
	return n
}

func appendRecord(buf []byte, r Record) []byte {
	buf = appendBytes(buf, r.Topic)
	buf = appendBytes(buf, r.Key)
	buf = appendBytes(buf, r.Value)
	buf = binary.AppendUvarint(buf, uint64(len(r.Headers)))
	for _, h := range r.Headers {
		buf = appendBytes(buf, h.Key)
		buf = appendBytes(buf, h.Value)
	}
	return buf
}

func appendBytes[T string | []byte](buf []byte, v T) []byte {
	return append(binary.AppendUvarint(buf, uint64(len(v))), v...)
}

// decode reads a record out of a payload, in which its slices stay.
func decode(payload []byte) (Record, error) {
	d := decoder{payload}
	r := Record{Topic: string(d.bytes()), Key: d.bytes(), Value: d.bytes()}
	n := d.number()
	if n > uint64(len(d.rest)) {
		return Record{}, errCorrupt
	}
	for range n {
		r.Headers = append(r.Headers, Header{Key: string(d.bytes()), Value: d.bytes()})
	}
	if d.rest == nil || len(d.rest) > 0 {
		return Record{}, errCorrupt
	}
	return r, nil
}

// decoder takes fields off a payload; after a field that does not fit, rest is nil.
type decoder struct{ rest []byte }

func (d *decoder) number() uint64 {
	v, n := binary.Uvarint(d.rest)
	if n <= 0 {
		d.rest = nil
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) bytes() []byte {
	n := d.number()
	if n > uint64(len(d.rest)) {
		d.rest = nil
		return nil
	}
	v := d.rest[:n:n]
	d.rest = d.rest[n:]
	return v
}
