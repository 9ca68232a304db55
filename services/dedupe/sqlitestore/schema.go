package sqlitestore

import "github.com/hookmesh/hookmesh/services/internal/sqlite"

// Every index is one more page to write per event once its keys are spread over many pages. So events have none by document
// (each names its document's previous one, and newest.last the last), none by time (they are numbered as they are decided),
// and newest has none by time either (a sweep walks along it). Ids that are UUIDs are kept as their 16 bytes.
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
DROP TABLE old_events;`}
