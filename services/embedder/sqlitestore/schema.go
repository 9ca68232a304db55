package sqlitestore

import "github.com/hookmesh/hookmesh/services/internal/sqlite"

// Documents keep their revision after a deletion (a tombstone), so that an old change never brings them back.
var migrations = []string{sqlite.StageSchema, `
CREATE TABLE documents (
	id        INTEGER PRIMARY KEY,
	source    TEXT    NOT NULL,
	document  TEXT    NOT NULL,
	revision  INTEGER NOT NULL DEFAULT 0,
	state     INTEGER NOT NULL,
	title     TEXT    NOT NULL DEFAULT '',
	url       TEXT    NOT NULL DEFAULT '',
	version   TEXT    NOT NULL DEFAULT '',
	event     TEXT    NOT NULL DEFAULT '',
	text_hash BLOB,
	model     TEXT    NOT NULL DEFAULT '',
	error     TEXT    NOT NULL DEFAULT '',
	updated   INTEGER NOT NULL DEFAULT 0,
	UNIQUE (source, document)
);
CREATE TABLE chunks (
	id       INTEGER PRIMARY KEY,
	doc      INTEGER NOT NULL REFERENCES documents (id),
	ordinal  INTEGER NOT NULL,
	path     TEXT    NOT NULL,
	text     TEXT    NOT NULL,
	hash     BLOB    NOT NULL,
	vector   BLOB    NOT NULL
);
CREATE INDEX chunks_doc ON chunks (doc, ordinal);
CREATE VIRTUAL TABLE words USING fts5 (title, path, text, tokenize = "porter unicode61 remove_diacritics 2");
CREATE TABLE jobs (
	source   TEXT    NOT NULL,
	document TEXT    NOT NULL,
	revision INTEGER NOT NULL,
	event    TEXT    NOT NULL,
	change   BLOB    NOT NULL,
	headers  BLOB    NOT NULL,
	attempts INTEGER NOT NULL DEFAULT 0,
	due      INTEGER NOT NULL,
	claim    INTEGER NOT NULL DEFAULT 0,
	PRIMARY KEY (source, document)
) WITHOUT ROWID;
CREATE INDEX jobs_due ON jobs (due);
CREATE TABLE events (
	id     TEXT PRIMARY KEY,
	at     INTEGER NOT NULL,
	record BLOB    NOT NULL
) WITHOUT ROWID;
CREATE INDEX events_at ON events (at);`, sqlite.StageBatchSchema, `
CREATE TABLE breakers (
	endpoint TEXT PRIMARY KEY,
	state    BLOB NOT NULL
) WITHOUT ROWID;`, sqlite.StageMarkSchema, sqlite.AgreementSchema, `
CREATE TABLE breaker_changes (n INTEGER NOT NULL);
INSERT INTO breaker_changes (n) VALUES (0);`}
