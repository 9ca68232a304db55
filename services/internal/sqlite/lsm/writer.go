package lsm

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

const (
	// bufferBytes is how much of the entries is written at once.
	bufferBytes = 256 << 10
	// syncBytes is how much is written before it is brought to the disk, so that the end of a large run does not wait for all of it.
	syncBytes = 4 << 20
)

// writer writes a run: first its entries, then its index, a part at a time.
type writer struct {
	t   *Table
	run *run
	out *os.File
	// buffer is what is to be written at an offset.
	buffer []byte
	at     int64
	// unsynced is how much was written that may not be on the disk.
	unsynced int
	spots    *spots
	// places are those of stretches; at stretch the next one begins.
	places  []byte
	stretch int64
	always  bool // one of the entries never expires
	// head is known once all entries are written; then a part of the index is next, to be made in the memory of part.
	head header
	next int
	part index
}

// begin starts a new run, which gets at most a number of entries.
func (v *View) begin(ctx context.Context, level int, upto, entries int64) (*writer, error) {
	r := &run{runName: runName{id: v.next, token: rand.Int64()}, level: level, upto: upto} //nolint:gosec // it need not be secret
	v.next++
	if _, err := v.tx.Exec(ctx, v.t.sql.addRun, r.id, r.token, r.level, r.upto); err != nil {
		return nil, err
	}
	path := v.t.path(r.runName)
	v.made = append(v.made, path)
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := sqlite.Hold(out); err != nil {
		return nil, errors.Join(err, out.Close())
	}
	return &writer{t: v.t, run: r, out: out, at: headerBytes, stretch: headerBytes, spots: newSpots(path+spotsSuffix, entries)}, nil
}

// add writes an entry whose key is above that of the one before it.
func (w *writer) add(e *raw) error {
	at := w.at + int64(len(w.buffer))
	if at > mostBytes {
		return fmt.Errorf("a run of more than %d bytes", int64(mostBytes))
	}
	place := uint32(at / unit) //nolint:gosec // see above
	if at >= w.stretch {
		w.places = binary.LittleEndian.AppendUint32(w.places, place)
		w.stretch = (at/stretchBytes + 1) * stretchBytes
	}
	w.buffer = appendParts(w.buffer, e.key, e.value, e.expires, e.deleted)
	for len(w.buffer)%unit != 0 {
		w.buffer = append(w.buffer, 0)
	}
	w.run.entries++
	w.run.expires = max(w.run.expires, e.expires)
	w.always = w.always || (e.expires == 0 && !e.deleted)
	if err := w.spots.add(hashOf(e.key), place); err != nil || len(w.buffer) < bufferBytes {
		return err
	}
	return w.flush()
}

// flush writes what is in the buffer.
func (w *writer) flush() error {
	n := len(w.buffer)
	err := w.write(w.buffer, w.at)
	w.at, w.buffer = w.at+int64(n), w.buffer[:0]
	return err
}

func (w *writer) write(b []byte, at int64) error {
	if _, err := w.out.WriteAt(b, at); err != nil {
		return err
	}
	w.t.work.written.Add(int64(len(b)))
	if w.unsynced += len(b); w.unsynced < syncBytes {
		return nil
	}
	w.unsynced = 0
	return w.out.Sync()
}

// step makes parts of the index, once all entries are there, for a number of keys or a few more; done: it has all of them.
func (w *writer) step(keys int) (done bool, err error) {
	if w.part.lines == nil {
		w.head = header{end: uint64(w.at) + uint64(len(w.buffer)), places: uint64(len(w.places) / 4), lines: w.spots.lines, parts: uint64(len(w.spots.parts))} //nolint:gosec // not negative
		w.buffer = append(w.buffer, w.places...)
		if err := w.flush(); err != nil {
			return false, err
		}
		w.part = index{words: make([]byte, w.spots.each*wordBytes), lines: make([]byte, w.spots.each*lineBytes)}
	}
	for ; keys > 0 && w.next < len(w.spots.parts); w.next++ {
		if err := w.spots.build(w.next, w.part); err != nil {
			return false, err
		}
		if err := w.write(w.part.words, int64(w.head.wordsAt())+int64(w.next*len(w.part.words))); err != nil { //nolint:gosec // below mostBytes or so
			return false, err
		}
		if err := w.write(w.part.lines, int64(w.head.linesAt())+int64(w.next*len(w.part.lines))); err != nil { //nolint:gosec // as above
			return false, err
		}
		keys -= len(w.part.lines) / lineBytes * fillKeys / fillLines
	}
	return w.next == len(w.spots.parts), nil
}

// end makes the run a part of its table, once step is done: what it consists of is on the disk before the transaction commits.
func (w *writer) end(ctx context.Context, tx *sqlite.Tx) error {
	defer w.close()
	if err := w.write(w.head.encode(), 0); err != nil {
		return err
	}
	if err := w.out.Sync(); err != nil {
		return err
	}
	if err := sqlite.SyncFolder(w.t.db.Files()); err != nil {
		return err
	}
	var err error
	if w.run.file, err = openFile(w.t.path(w.run.runName), true); err != nil {
		return err
	}
	if w.always {
		w.run.expires = 0
	}
	_, err = tx.Exec(ctx, w.t.sql.endRun, w.run.entries, w.run.expires, w.run.id)
	return err
}

// close ends the writing, whether it came to an end or not.
func (w *writer) close() {
	_ = w.out.Close() // what matters was synced
	w.spots.close()
	w.buffer, w.places, w.part = nil, nil, index{}
}
