package sqlitestore

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	dedupev1 "github.com/hookmesh/hookmesh/gen/hookmesh/dedupe/v1"
	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/kafka"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

// Export hands out what dedupe remembers, for another store. Where a first delivery lay in this log is left out: at that offset of
// another log lies something else, which would be taken for the same delivery.
func (s *Store) Export(ctx context.Context, add func(table string, row archive.Row) error) error {
	err := scan(ctx, s.firsts, func(e lsm.Entry) error {
		f, err := decodeFirst(e.Value, e.Expires)
		if err != nil {
			return err
		}
		return add("keys", archive.Row{"key": archive.Bytes(e.Key), "event": f.EventID, "expires": f.Expires.UnixMicro()})
	})
	if err != nil {
		return fmt.Errorf("export first deliveries: %w", err)
	}
	err = scan(ctx, s.latest, func(e lsm.Entry) error {
		l, err := decodeLatest(e.Value)
		if err != nil {
			return err
		}
		row := archive.Row{"document": archive.Bytes(e.Key), "event": l.EventID, "hash": nil, "version": l.Version, "deleted": l.Deleted, "polled": int64(0), "expires": l.Expires.UnixMicro()}
		if len(l.Hash) > 0 {
			row["hash"] = archive.Bytes(l.Hash)
		}
		if !l.Polled.IsZero() {
			row["polled"] = l.Polled.UnixMicro()
		}
		return add("newest", row)
	})
	if err != nil {
		return fmt.Errorf("export documents: %w", err)
	}
	err = s.db.Export(ctx, `SELECT record FROM events ORDER BY seq`, func(row archive.Row) error {
		raw, r := row["record"].(archive.Bytes), &dedupev1.EventRecord{}
		if err := proto.Unmarshal(raw, r); err != nil {
			return fmt.Errorf("decode a record: %w", err)
		}
		row["id"], row["source"], row["at"] = r.GetId(), r.GetSource(), r.GetDecidedAt().AsTime().UnixMicro()
		row["document"] = archive.Bytes(kafka.DocumentKey(r.GetSource(), r.GetDocumentId()))
		return add("events", row)
	})
	if err != nil {
		return fmt.Errorf("export records: %w", err)
	}
	return nil
}

// scanned is how many entries are read at once.
const scanned = 2000

// scan calls each for every entry of a table, in the order of their keys.
func scan(ctx context.Context, t *lsm.Table, each func(lsm.Entry) error) error {
	after := ""
	for {
		entries, err := t.Scan(ctx, after, "", scanned)
		if err != nil {
			return err
		}
		for _, e := range entries {
			after = e.Key
			if err := each(e); err != nil {
				return err
			}
		}
		if len(entries) < scanned {
			return nil
		}
	}
}
