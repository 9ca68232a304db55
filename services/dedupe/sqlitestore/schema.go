package sqlitestore

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/hookmesh/hookmesh/services/dedupe"
	"github.com/hookmesh/hookmesh/services/internal/sqlite"
	"github.com/hookmesh/hookmesh/services/internal/sqlite/lsm"
)

// What is looked up by a key that comes at random is in two log-structured merge-trees: firsts, the first deliveries by the hash of
// the provider's id, and latest, what is known of a document. Every other index is one more page to write per event once its
// keys are spread over many pages. So events have none by document (each names its document's previous one, and latest the
// last) and none by time (they are numbered as they are decided). Ids that are UUIDs are kept as their 16 bytes, which grow with time.
var migrations = []string{sqlite.StageSchema, `
CREATE TABLE keys (
	key       BLOB PRIMARY KEY,
	event     TEXT    NOT NULL,
	partition INTEGER NOT NULL,
	offset    INTEGER NOT NULL,
	expires   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_expires ON keys (expires);
CREATE TABLE newest (
	document BLOB PRIMARY KEY,
	event    TEXT    NOT NULL,
	hash     BLOB,
	version  TEXT    NOT NULL,
	deleted  INTEGER NOT NULL,
	expires  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX newest_expires ON newest (expires);
CREATE TABLE events (
	seq      INTEGER PRIMARY KEY,
	id       TEXT    NOT NULL UNIQUE,
	source   TEXT    NOT NULL,
	document TEXT    NOT NULL,
	at       INTEGER NOT NULL,
	record   BLOB    NOT NULL
);
CREATE INDEX events_document ON events (source, document, seq);
CREATE INDEX events_at ON events (at);`, `
ALTER TABLE newest ADD COLUMN polled INTEGER NOT NULL DEFAULT 0;`, sqlite.StageBatchSchema, `
ALTER TABLE keys RENAME TO old_keys;
ALTER TABLE newest RENAME TO old_newest;
ALTER TABLE events RENAME TO old_events;
DROP INDEX keys_expires;
DROP INDEX newest_expires;
CREATE TABLE keys (
	key       BLOB PRIMARY KEY,
	event     BLOB    NOT NULL,
	partition INTEGER NOT NULL,
	offset    INTEGER NOT NULL,
	expires   INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX keys_expires ON keys (expires);
CREATE TABLE newest (
	document BLOB PRIMARY KEY,
	event    BLOB    NOT NULL,
	hash     BLOB,
	version  TEXT    NOT NULL,
	deleted  INTEGER NOT NULL,
	polled   INTEGER NOT NULL,
	expires  INTEGER NOT NULL,
	last     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE events (
	seq    INTEGER PRIMARY KEY,
	id     BLOB    NOT NULL UNIQUE,
	source TEXT    NOT NULL,
	at     INTEGER NOT NULL,
	prev   INTEGER NOT NULL,
	record BLOB    NOT NULL
);
INSERT INTO keys SELECT key, iif(length(event) = 36, coalesce(unhex(event, '-'), event), event), partition, offset, expires FROM old_keys;
INSERT INTO newest SELECT document, iif(length(event) = 36, coalesce(unhex(event, '-'), event), event), hash, version, deleted, polled, expires,
	coalesce((SELECT max(seq) FROM old_events e WHERE e.source || '/' || e.document = CAST(n.document AS TEXT)), 0) FROM old_newest n;
INSERT INTO events SELECT seq, iif(length(id) = 36, coalesce(unhex(id, '-'), id), id), source, at,
	coalesce(lag(seq) OVER (PARTITION BY source, document ORDER BY seq), 0), record FROM old_events ORDER BY seq;
DROP TABLE old_keys;
DROP TABLE old_newest;
DROP TABLE old_events;`, lsm.Schema("firsts"), lsm.Schema("latest"), sqlite.StageMarkSchema,
	lsm.RunFilesSchema("firsts"), lsm.RunFilesSchema("latest")}

// moveBatch is how many rows move in one transaction.
const moveBatch = 5000

// move takes the rows of the B-trees of former versions into the merge-trees, and drops the tables.
func (s *Store) move(ctx context.Context) error {
	for _, old := range []struct {
		table string
		batch func(context.Context, *rows) (int, error)
	}{{"keys", moveKeys}, {"newest", moveNewest}} {
		for more := true; more; {
			err := s.db.InRows(ctx, func(ctx context.Context, tx *sqlite.Tx) error {
				var there int
				err := tx.EachOnce(ctx, func(rows *sql.Rows) error { return rows.Scan(&there) }, `SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?`, old.table)
				if more = there > 0; err != nil || !more {
					return err
				}
				n, err := old.batch(ctx, &rows{Tx: tx, store: s})
				if err != nil || n > 0 {
					return err
				}
				more = false
				_, err = tx.ExecContext(ctx, "DROP TABLE "+old.table)
				return err
			})
			if err != nil {
				return fmt.Errorf("move the rows of table %s: %w", old.table, err)
			}
		}
	}
	return nil
}

func moveKeys(ctx context.Context, r *rows) (int, error) {
	firsts := map[dedupe.Key]dedupe.First{}
	var last []byte
	err := r.EachOnce(ctx, func(rows *sql.Rows) error {
		var f dedupe.First
		var event []byte
		var kind string
		var expires int64
		if err := rows.Scan(&last, &event, &kind, &f.Partition, &f.Offset, &expires); err != nil {
			return err
		}
		f.EventID, f.Expires = unpackID(event, kind), time.UnixMicro(expires)
		firsts[dedupe.Key(last)] = f
		return nil
	}, `SELECT key, event, typeof(event), partition, offset, expires FROM keys ORDER BY key LIMIT ?`, moveBatch)
	if err != nil || len(firsts) == 0 {
		return 0, err
	}
	if err := r.putFirsts(ctx, firsts); err != nil {
		return 0, err
	}
	_, err = r.ExecContext(ctx, `DELETE FROM keys WHERE key <= ?`, last)
	return len(firsts), err
}

func moveNewest(ctx context.Context, r *rows) (int, error) {
	all := map[string]latest{}
	var document []byte
	err := r.EachOnce(ctx, func(rows *sql.Rows) error {
		var l latest
		var event []byte
		var kind string
		var polled, expires int64
		if err := rows.Scan(&document, &event, &kind, &l.Hash, &l.Version, &l.Deleted, &polled, &expires, &l.last); err != nil {
			return err
		}
		l.EventID, l.Expires = unpackID(event, kind), time.UnixMicro(expires)
		if polled != 0 {
			l.Polled = time.UnixMicro(polled)
		}
		all[string(document)] = l
		return nil
	}, `SELECT document, event, typeof(event), hash, version, deleted, polled, expires, last FROM newest ORDER BY document LIMIT ?`, moveBatch)
	if err != nil || len(all) == 0 {
		return 0, err
	}
	if err := r.putLatest(ctx, all, time.Now()); err != nil {
		return 0, err
	}
	_, err = r.ExecContext(ctx, `DELETE FROM newest WHERE document <= ?`, document)
	return len(all), err
}
