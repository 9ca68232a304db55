package pgstore

import (
	"context"

	"github.com/hookmesh/hookmesh/services/internal/archive"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
)

// Tables are what is imported.
func Tables() []string { return []string{"documents", "chunks", "jobs", "events", "breakers"} }

// Import writes rows of a table that another store exported; documents come before their chunks.
func Import(ctx context.Context, im *postgres.Import, table string, rows []archive.Row) error {
	if table != "chunks" {
		return im.Insert(ctx, table, rows)
	}
	return im.Exec(ctx, rows, `INSERT INTO chunks (doc, source, hash, copy, ordinal, path, text, words, vector)
		SELECT d.id, d.source, c.hash, c.copy, c.ordinal, coalesce(c.path, '[]'), c.text,
			setweight(to_tsvector('english', d.title), 'A') || setweight(to_tsvector('english', coalesce(heading, '')), 'B') || setweight(to_tsvector('english', c.text), 'D'),
			c.vector::text::public.vector
		FROM json_to_recordset($1) AS c (source text, document bytea, hash bytea, copy int, ordinal int, path jsonb, text text, vector json)
		JOIN documents d ON d.source = c.source AND d.document = c.document
		CROSS JOIN LATERAL (SELECT string_agg(h, E'\n' ORDER BY n) AS heading
			FROM jsonb_array_elements_text(CASE jsonb_typeof(c.path) WHEN 'array' THEN c.path ELSE '[]' END) WITH ORDINALITY AS p (h, n)) AS headings`)
}

// IndexAll makes the indexes over vectors that Replace makes when the first of their kind come.
func (s *Store) IndexAll(ctx context.Context) error {
	var all []int
	err := s.db.Retry(ctx, func() error {
		return s.db.Pool.QueryRow(ctx, `SELECT array_agg(DISTINCT public.vector_dims(vector)) FROM chunks`).Scan(&all)
	})
	for _, dimensions := range all {
		if err == nil {
			err = s.index(ctx, dimensions)
		}
	}
	return err
}
