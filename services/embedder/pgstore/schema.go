package pgstore

import "github.com/hookmesh/hookmesh/services/internal/postgres"

// Schema is the embedder's part of the database. Document ids are bytes, because an id may hold what a text of PostgreSQL
// cannot. Times are microseconds. A chunk is known by its hash and, if its text stands in the document several times, by
// which copy it is: a chunk that stays keeps its row, and its place in the vector index. The extension vector (pgvector 0.8)
// must be installed on the server.
func Schema() postgres.Schema {
	return postgres.Schema{Name: "hookmesh_embedder", Migrations: []string{postgres.StageSchema, `
CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
CREATE TABLE documents (
	id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	source    text   COLLATE "C" NOT NULL,
	document  bytea  NOT NULL,
	revision  bigint NOT NULL DEFAULT 0,
	state     int    NOT NULL,
	title     text   NOT NULL DEFAULT '',
	url       text   NOT NULL DEFAULT '',
	version   text   NOT NULL DEFAULT '',
	event     text   NOT NULL DEFAULT '',
	text_hash bytea,
	model     text   NOT NULL DEFAULT '',
	error     text   NOT NULL DEFAULT '',
	updated   bigint NOT NULL DEFAULT 0,
	UNIQUE (source, document)
);
CREATE TABLE chunks (
	id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	doc     bigint NOT NULL REFERENCES documents (id),
	source  text   COLLATE "C" NOT NULL, -- of the document, for filtered searches
	hash    bytea  NOT NULL,
	copy    int    NOT NULL,
	ordinal int    NOT NULL,
	path    jsonb  NOT NULL,
	text    text   NOT NULL,
	words   tsvector NOT NULL,
	vector  public.vector NOT NULL,
	UNIQUE (doc, hash, copy)
);
CREATE INDEX chunks_words ON chunks USING gin (words);
CREATE TABLE jobs (
	source   text   COLLATE "C" NOT NULL,
	document bytea  NOT NULL,
	revision bigint NOT NULL,
	event    text   NOT NULL,
	change   bytea  NOT NULL,
	headers  bytea  NOT NULL,
	attempts int    NOT NULL DEFAULT 0,
	due      bigint NOT NULL,
	claim    bigint NOT NULL DEFAULT 0,
	PRIMARY KEY (source, document)
);
CREATE INDEX jobs_due ON jobs (due);
CREATE TABLE events (
	id     text   PRIMARY KEY,
	at     bigint NOT NULL,
	record bytea  NOT NULL
);
CREATE INDEX events_at ON events (at);`, `
CREATE TABLE breakers (
	endpoint text  PRIMARY KEY,
	state    bytea NOT NULL
);`, postgres.StageMarkSchema, `
CREATE TABLE breaker_changes (n bigint NOT NULL);
INSERT INTO breaker_changes (n) VALUES (0);`, halfSchema}}
}

// halfSchema replaces indexes over whole vectors by those that indexStatement makes. They get the memory that they want, up to a gigabyte: with
// less a large one takes hours instead of minutes.
const halfSchema = `
DO $$
DECLARE
	old text;
	n   text;
BEGIN
	FOR old IN SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relname ~ '^chunks_hnsw_[0-9]+$' LOOP
		n := substring(old FROM '[0-9]+$');
		EXECUTE format('DROP INDEX %I', old);
		PERFORM set_config('maintenance_work_mem', least(wanted, 1048576) || 'kB', true) FROM (SELECT count(*) * (700 + 2 * n::bigint) / 1024 AS wanted FROM chunks) c
			WHERE wanted > (SELECT setting::bigint FROM pg_settings WHERE name = 'maintenance_work_mem');
		EXECUTE format('CREATE INDEX %I ON chunks USING hnsw ((vector::public.halfvec(%s)) public.halfvec_ip_ops) WHERE public.vector_dims(vector) = %s', 'chunks_half_' || n, n, n);
	END LOOP;
END $$`
