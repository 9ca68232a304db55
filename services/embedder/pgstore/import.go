package pgstore

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

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
	var c moved
	for _, row := range rows {
		if err := c.add(row); err != nil {
			return err
		}
	}
	n, err := im.Run(ctx, `INSERT INTO chunks (doc, source, hash, copy, ordinal, path, text, words, vector)
		SELECT d.id, d.source, c.hash, c.copy, c.ordinal, c.path::jsonb, c.text,
			setweight(to_tsvector('english', d.title), 'A') || setweight(to_tsvector('english', c.heading), 'B') || setweight(to_tsvector('english', c.text), 'D'),
			c.vector::public.vector
		FROM unnest($1::text[], $2::bytea[], $3::bytea[], $4::int[], $5::int[], $6::text[], $7::text[], $8::text[], $9::text[])
			AS c (source, document, hash, copy, ordinal, path, heading, text, vector)
		JOIN documents d ON d.source = c.source AND d.document = c.document`,
		c.sources, c.documents, c.hashes, c.copies, c.ordinals, c.paths, c.headings, c.texts, c.vectors)
	if err == nil && n != int64(len(rows)) {
		err = fmt.Errorf("%w: chunks of documents that it does not hold", archive.ErrDamaged)
	}
	return err
}

// moved are chunks of an archive, a column each.
type moved struct {
	sources   []string
	documents [][]byte
	pieces
}

// add reads a row. A vector is written in the archive as pgvector reads it.
func (c *moved) add(row archive.Row) error {
	var path []string
	if raw, ok := row["path"].(json.RawMessage); ok {
		if err := json.Unmarshal(raw, &path); err != nil {
			return fmt.Errorf("%w: a heading path: %w", archive.ErrDamaged, err)
		}
	}
	encoded, headings, err := encodePath(path)
	if err != nil {
		return err
	}
	document, err1 := row.Bytes("document")
	hash, err2 := row.Bytes("hash")
	which, err3 := row.Int("copy")
	ordinal, err4 := row.Int("ordinal")
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			return err
		}
	}
	source, ok1 := row["source"].(string)
	text, ok2 := row["text"].(string)
	vector, ok3 := row["vector"].(json.RawMessage)
	if !ok1 || !ok2 || !ok3 {
		return fmt.Errorf("%w: a chunk without source, text or vector", archive.ErrDamaged)
	}
	c.sources, c.documents = append(c.sources, clean(source)), append(c.documents, document)
	c.hashes, c.copies, c.ordinals = append(c.hashes, hash), append(c.copies, int(which)), append(c.ordinals, int(ordinal))
	c.paths, c.headings = append(c.paths, encoded), append(c.headings, headings)
	c.texts, c.vectors = append(c.texts, clean(text)), append(c.vectors, string(vector))
	return nil
}

// graph is roughly what HNSW keeps of a vector in memory while its index is made, beside the vector's numbers.
const graph = 700

// Vectors counts the vectors that were imported, by dimensions.
type Vectors struct{ Dimensions, Count int64 }

// Memory is how much memory of the server's the index over them takes while it is made, roughly.
func (v Vectors) Memory() int64 { return v.Count * (graph + 2*v.Dimensions) }

// ImportedVectors says which vectors an import has written.
func ImportedVectors(ctx context.Context, im *postgres.Import) ([]Vectors, error) {
	rows, err := im.Query(ctx, `SELECT public.vector_dims(vector), count(*) FROM chunks GROUP BY 1 ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[Vectors])
}

// IndexVectors makes the index that Replace would make when the first such vectors come, with at most so many bytes of the server's memory,
// or what it gives by itself. The index is part of the import's transaction: no service ever searches without it.
func IndexVectors(ctx context.Context, im *postgres.Import, v Vectors, memory int64) error {
	if v.Dimensions == 0 || v.Dimensions > maxIndexed {
		return nil
	}
	if err := im.AllowMemory(ctx, min(memory, v.Memory())); err != nil {
		return err
	}
	return im.Build(ctx, indexStatement(int(v.Dimensions), "chunks"))
}

// encodePath writes a heading path as the column has it, and as what words are taken from.
func encodePath(headings []string) (path, lines string, err error) {
	cleaned := make([]string, len(headings))
	for i, h := range headings {
		cleaned[i] = clean(h)
	}
	raw, err := json.Marshal(cleaned)
	if err != nil {
		return "", "", fmt.Errorf("encode heading path: %w", err)
	}
	return string(raw), strings.Join(cleaned, "\n"), nil
}
