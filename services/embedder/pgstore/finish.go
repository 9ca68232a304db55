package pgstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
)

// Every end of a job is one statement in a transaction of its own, in one round trip. What made a document searchable, or removed it, does
// not wait for the disk (see unhurried). A burial does: its dead letter is in Kafka already and would be written once more.

// over ends the job if it is still the document's newest under its claim, and keeps its record ($5 to $7).
const over = `WITH job AS (DELETE FROM jobs WHERE ` + mine + ` RETURNING 1),
	record AS (INSERT INTO events (id, at, record) SELECT $5, $6, $7 FROM job ON CONFLICT (id) DO UPDATE SET at = excluded.at, record = excluded.record)`

func overArgs(job *embedder.Job, r *embedderv1.EventRecord, now time.Time, more ...any) ([]any, error) {
	raw, err := proto.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	return append(jobArgs(job, r.GetId(), now.UnixMicro(), raw), more...), nil
}

// pieces are a document's chunks, a column each.
type pieces struct {
	hashes         [][]byte
	copies         []int
	ordinals       []int
	paths          []string
	headings       []string
	texts, vectors []string
}

// column gathers the pieces and says how many dimensions their vectors have; 0: there are none.
func column(d embedder.Document) (p pieces, dimensions int, err error) {
	seen := map[[32]byte]int{}
	for _, piece := range d.Pieces {
		path, headings, err := encodePath(piece.HeadingPath)
		if err != nil {
			return p, 0, err
		}
		p.hashes, p.copies, p.ordinals = append(p.hashes, piece.Hash[:]), append(p.copies, seen[piece.Hash]), append(p.ordinals, piece.Ordinal)
		p.paths, p.headings = append(p.paths, path), append(p.headings, headings)
		p.texts, p.vectors = append(p.texts, clean(piece.Text)), append(p.vectors, formatVector(piece.Vector))
		seen[piece.Hash]++
		dimensions = len(piece.Vector)
	}
	return p, dimensions, nil
}

// formatVector writes a vector as pgvector reads it.
func formatVector(v []float32) string {
	b := append(make([]byte, 0, 12*len(v)+2), '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 32)
	}
	return string(append(b, ']'))
}

// parseVector undoes formatVector.
func parseVector(s string) ([]float32, error) {
	s = strings.Trim(s, "[]")
	if s == "" {
		return nil, nil
	}
	parts := strings.Split(s, ",")
	v := make([]float32, len(parts))
	for i, p := range parts {
		x, err := strconv.ParseFloat(p, 32)
		if err != nil {
			return nil, fmt.Errorf("read a vector: %w", err)
		}
		v[i] = float32(x)
	}
	return v, nil
}

// Replace implements embedder.Store. A chunk that stays keeps its row; its vector is written only if the model changed.
func (s *Store) Replace(ctx context.Context, job *embedder.Job, d embedder.Document, r *embedderv1.EventRecord, now time.Time) error {
	p, dimensions, err := column(d)
	if err != nil {
		return err
	}
	if err := s.index(ctx, dimensions); err != nil {
		return fmt.Errorf("index vectors of %d dimensions: %w", dimensions, err)
	}
	args, err := overArgs(job, r, now, int32(embedderv1.DocumentState_DOCUMENT_STATE_CURRENT), clean(d.Title), clean(d.URL), clean(d.Version), job.Change.GetEvent().GetId(),
		d.TextHash[:], d.Model, p.hashes, p.copies, p.ordinals, p.paths, p.headings, p.texts, p.vectors)
	if err != nil {
		return err
	}
	return s.finish(ctx, over+`,
	old AS (SELECT id, model FROM documents WHERE source = $1 AND document = $2),
	new AS (SELECT p.*, setweight(to_tsvector('english', $9), 'A') || setweight(to_tsvector('english', heading), 'B') || setweight(to_tsvector('english', text), 'D') AS words
		FROM unnest($15::bytea[], $16::int[], $17::int[], $18::text[], $19::text[], $20::text[], $21::text[]) AS p (hash, copy, ordinal, path, heading, text, vector)),
	gone AS (DELETE FROM chunks c USING old, job WHERE c.doc = old.id AND NOT EXISTS (SELECT 1 FROM new WHERE new.hash = c.hash AND new.copy = c.copy)),
	kept AS (INSERT INTO chunks AS c (doc, source, hash, copy, ordinal, path, text, words, vector)
		SELECT old.id, $1, new.hash, new.copy, new.ordinal, new.path::jsonb, new.text, new.words, new.vector::public.vector FROM new, old, job
		ON CONFLICT (doc, hash, copy) DO UPDATE SET ordinal = excluded.ordinal, path = excluded.path, text = excluded.text, words = excluded.words, vector = excluded.vector
			WHERE c.ordinal <> excluded.ordinal OR c.path <> excluded.path OR c.words <> excluded.words OR $14 <> (SELECT model FROM old))
	UPDATE documents SET revision = $4, state = $8, title = $9, url = $10, version = $11, event = $12, text_hash = $13, model = $14, error = '', updated = $6
	FROM job WHERE source = $1 AND document = $2`, args...)
}

// Remove implements embedder.Store.
func (s *Store) Remove(ctx context.Context, job *embedder.Job, subtree bool, r *embedderv1.EventRecord, now time.Time) error {
	ev := job.Change.GetEvent()
	args, err := overArgs(job, r, now, int32(embedderv1.DocumentState_DOCUMENT_STATE_DELETED), ev.GetId(), clean(ev.GetVersion()), subtree,
		[]byte(job.DocumentID+"/"), []byte(job.DocumentID+"0")) // 0 is the character after the slash
	if err != nil {
		return err
	}
	return s.finish(ctx, over+`,
	docs AS (SELECT id, document = $2 AS itself FROM documents, job WHERE source = $1 AND (document = $2 OR ($11 AND document >= $12 AND document < $13))),
	gone AS (DELETE FROM chunks c USING docs WHERE c.doc = docs.id)
	UPDATE documents d SET state = $8, event = $9, text_hash = NULL, error = '', updated = $6,
		revision = CASE WHEN itself THEN $4 ELSE revision END, version = CASE WHEN itself THEN $10 ELSE version END
	FROM docs WHERE d.id = docs.id`, args...)
}

// Bury implements embedder.Store. What was searchable before stays so.
func (s *Store) Bury(ctx context.Context, job *embedder.Job, r *embedderv1.EventRecord, cause string, now time.Time) error {
	args, err := overArgs(job, r, now, int32(embedderv1.DocumentState_DOCUMENT_STATE_DEAD), clean(cause))
	if err != nil {
		return err
	}
	return s.change(ctx, over+` UPDATE documents SET state = $8, error = $9, updated = $6 FROM job WHERE source = $1 AND document = $2`, args...)
}
