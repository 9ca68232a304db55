package pgstore

import "github.com/hookmesh/hookmesh/services/internal/postgres"

// Schema is the sequencer's part of the database. Keys are bytes, in the order of bytes, because an id may hold what a text
// of PostgreSQL cannot. Times are microseconds.
func Schema() postgres.Schema {
	return postgres.Schema{Name: "hookmesh_sequencer", Migrations: []string{postgres.StageSchema, `
CREATE TABLE documents (
	key       bytea  PRIMARY KEY,
	partition int    NOT NULL,
	due       bigint NOT NULL,
	held      int    NOT NULL,
	state     bytea  NOT NULL
) WITH (fillfactor = 80);
CREATE INDEX documents_due ON documents (partition, due) WHERE due > 0;
CREATE INDEX documents_held ON documents (due) WHERE held > 0;
CREATE TABLE members (
	container bytea NOT NULL,
	key       bytea NOT NULL,
	PRIMARY KEY (container, key)
);
CREATE INDEX members_key ON members (key);
CREATE TABLE graves (
	container bytea  PRIMARY KEY,
	time      bigint NOT NULL,
	at        bigint NOT NULL
);
CREATE INDEX graves_at ON graves (at);
CREATE TABLE partitions (
	partition int    PRIMARY KEY,
	held      bigint NOT NULL,
	floor     bigint NOT NULL
);
CREATE TABLE held (
	event   text   PRIMARY KEY,
	record  bytea  NOT NULL,
	headers bytea  NOT NULL,
	at      bigint NOT NULL
);
CREATE TABLE sources (
	name    text  PRIMARY KEY,
	numbers bytea NOT NULL
);
CREATE TABLE events (
	id     text   PRIMARY KEY,
	at     bigint NOT NULL,
	record bytea  NOT NULL
);
CREATE INDEX events_at ON events (at);`, postgres.StageMarkSchema}}
}
