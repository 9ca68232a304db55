package stage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// markVersion begins every mark. Marks of another version cannot be compared.
const markVersion = "1:"

// markOf is the fingerprint of a record: of its time and of everything that it carries, but not of where it lies.
func markOf(rec Record) string {
	h := sha256.New()
	part := func(b []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(b)))
		_, _ = h.Write(size[:])
		_, _ = h.Write(b)
	}
	var at [8]byte
	if !rec.Time.IsZero() {
		binary.BigEndian.PutUint64(at[:], uint64(rec.Time.UnixMilli())) // as precise as Kafka keeps it
	}
	part(at[:])
	part(rec.Key)
	part(rec.Value)
	for _, header := range rec.Headers {
		part([]byte(header.Key))
		part(header.Value)
	}
	return markVersion + hex.EncodeToString(h.Sum(nil)[:12])
}

// compare returns an OffsetError if the log holds another record before the position than the one that was read there. A log
// that no longer holds that record says nothing.
func (w *worker[T]) compare(ctx context.Context) error {
	if w.pos.Next <= 0 || !strings.HasPrefix(w.pos.Mark, markVersion) {
		return nil
	}
	at := w.pos.Next - 1
	before, err := w.log.Open(ctx, w.cfg.Topic, w.partition, at)
	var gone *OffsetError
	if errors.As(err, &gone) {
		return nil
	}
	if err != nil {
		return err
	}
	records, err := before.Fetch(ctx, 1, idleWait)
	if err := errors.Join(err, before.Close()); err != nil {
		if errors.As(err, &gone) {
			return nil
		}
		return fmt.Errorf("read the record before the position: %w", err)
	}
	for _, rec := range records {
		if rec.Offset == at && markOf(rec) != w.pos.Mark {
			return &OffsetError{Topic: w.cfg.Topic, Partition: w.partition, Offset: w.pos.Next, First: -1, End: -1, Replaced: true}
		}
	}
	return nil
}
