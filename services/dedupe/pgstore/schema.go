package pgstore

import "github.com/hookmesh/hookmesh/services/internal/postgres"

// Schema is dedupe's part of the database. Keys lie in a partition per day of their expiry: dropping one forgets them all at
// once. Document keys are bytes, because an id may hold what a text of PostgreSQL cannot.
func Schema() postgres.Schema {
	return postgres.Schema{Name: "hookmesh_dedupe", Migrations: []string{postgres.StageSchema, `
CREATE TABLE keys (
	key       bytea  NOT NULL,
	event     text   NOT NULL,
	partition int    NOT NULL,
	"offset"  bigint NOT NULL,
	expires   bigint NOT NULL, -- microseconds, as all times here
	PRIMARY KEY (key, expires)
) PARTITION BY RANGE (expires);
CREATE TABLE keys_other PARTITION OF keys DEFAULT;
CREATE TABLE newest (
	document bytea   PRIMARY KEY,
	event    text    NOT NULL,
	hash     bytea,
	version  text    NOT NULL,
	deleted  boolean NOT NULL,
	polled   bigint  NOT NULL,
	expires  bigint  NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX newest_expires ON newest (expires);
CREATE TABLE events (
	seq      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	id       text   NOT NULL UNIQUE,
	source   text   NOT NULL,
	document bytea  NOT NULL,
	at       bigint NOT NULL,
	record   bytea  NOT NULL
);
CREATE INDEX events_document ON events (document, seq);
CREATE INDEX events_source ON events (source, seq);
CREATE INDEX events_at ON events (at);`, postgres.StageMarkSchema}}
}
