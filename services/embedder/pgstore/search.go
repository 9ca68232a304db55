package pgstore

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
)

const (
	// wordWeight is how much exact words count beside meaning, as in the embedded store.
	wordWeight = 0.3
	// candidates is how many chunks are compared that are near by meaning, and by words.
	candidates = 200
	// maxIndexed is how many dimensions an HNSW index over half-precision vectors takes; more are compared one by one.
	maxIndexed = 4000
)

// index makes the HNSW index over vectors of so many dimensions, if it is not there. It is made when the first such vectors
// come, so that it grows with them.
func (s *Store) index(ctx context.Context, dimensions int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if dimensions == 0 || dimensions > maxIndexed || s.indexed[dimensions] {
		return nil
	}
	err := s.db.Do(ctx, func(tx pgx.Tx) error {
		name := s.db.Identifier(fmt.Sprintf("chunks_half_%d", dimensions))
		var there bool
		if err := tx.QueryRow(ctx, `SELECT to_regclass($1) IS NOT NULL`, name).Scan(&there); err != nil || there {
			return err
		}
		if _, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(hashtextextended($1, 0))`, name); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, indexStatement(dimensions, s.db.Identifier("chunks")))
		return err
	})
	if err == nil {
		s.indexed[dimensions] = true
	}
	return err
}

// indexStatement makes the index over vectors of so many dimensions. It holds their numbers in half precision: two fifths less disk, and nearly
// half less of the server's log. Which chunks are near enough to be compared hardly depends on the rest of the digits; they are compared by
// the whole vectors (see byMeaning).
func indexStatement(dimensions int, chunks string) string {
	return fmt.Sprintf(`CREATE INDEX IF NOT EXISTS chunks_half_%[1]d ON %[2]s USING hnsw ((vector::public.halfvec(%[1]d)) public.halfvec_ip_ops)
		WHERE public.vector_dims(vector) = %[1]d`, dimensions, chunks)
}

// Vectors implements embedder.Store.
func (s *Store) Vectors(ctx context.Context, source, document, model string) (map[[32]byte][]float32, error) {
	out := map[[32]byte][]float32{}
	_, err := collect(ctx, s, func(row pgx.CollectableRow) (struct{}, error) {
		var hash []byte
		var text string
		if err := row.Scan(&hash, &text); err != nil {
			return struct{}{}, err
		}
		v, err := parseVector(text)
		if len(hash) == 32 {
			out[[32]byte(hash)] = v
		}
		return struct{}{}, err
	}, `SELECT hash, vector::text FROM chunks JOIN documents d ON d.id = doc WHERE d.source = $1 AND d.document = $2 AND d.model = $3`, source, []byte(document), model)
	return out, err
}

// hit is a chunk that was found.
type hit struct {
	id          int64
	near, words float64
	result      *embedderv1.SearchResult
}

// score weighs meaning and words; words are relative to the best ones found.
func (h hit) score(best float64) float64 {
	score := (1 - wordWeight) * max(0, h.near)
	if best > 0 {
		score += wordWeight * h.words / best
	}
	return score
}

// Search implements embedder.Store. Both ways to find chunks see the same state, so that a document is seen as it was before
// a change or after it.
func (s *Store) Search(ctx context.Context, q embedder.Query) ([]*embedderv1.SearchResult, error) {
	found := map[int64]hit{}
	best := 0.0
	err := s.db.Do(ctx, func(tx pgx.Tx) error {
		clear(found)
		best = 0
		if _, err := tx.Exec(ctx, `SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY`); err != nil {
			return err
		}
		if err := byMeaning(ctx, tx, q, found); err != nil {
			return fmt.Errorf("compare vectors: %w", err)
		}
		if err := byWords(ctx, tx, q, found); err != nil {
			return fmt.Errorf("look up words: %w", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	hits := make([]hit, 0, len(found))
	for _, h := range found {
		best = max(best, h.words)
		hits = append(hits, h)
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(cmp.Compare(b.score(best), a.score(best)), cmp.Compare(a.id, b.id)) })
	var out []*embedderv1.SearchResult
	for _, h := range hits[:min(len(hits), q.Limit)] {
		if h.result.Score = min(1, h.score(best)); h.result.Score > 0 {
			out = append(out, h.result)
		}
	}
	return out, nil
}

const hitColumns = `c.id, d.source, d.document, d.title, d.url, d.version, c.ordinal, c.path, c.text`

// scanHits adds rows of hitColumns, nearness and rank.
func scanHits(rows pgx.Rows, into map[int64]hit) error {
	defer rows.Close()
	for rows.Next() {
		h := hit{result: &embedderv1.SearchResult{}}
		r := h.result
		var document []byte
		if err := rows.Scan(&h.id, &r.Source, &document, &r.Title, &r.Url, &r.Version, &r.Ordinal, &r.HeadingPath, &r.Text, &h.near, &h.words); err != nil {
			return err
		}
		r.DocumentId = string(document)
		if before, ok := into[h.id]; ok {
			h.near, h.words = max(before.near, h.near), max(before.words, h.words)
		}
		into[h.id] = h
	}
	return rows.Err()
}

// byMeaning asks the index for the nearest chunks, and compares them. Under a filter it goes on until it has found enough that fit.
func byMeaning(ctx context.Context, tx pgx.Tx, q embedder.Query, into map[int64]hit) error {
	n := len(q.Vector)
	if n == 0 {
		return nil
	}
	if _, err := tx.Exec(ctx, `SET LOCAL hnsw.iterative_scan = strict_order; SET LOCAL hnsw.ef_search = 200`); err != nil {
		return err
	}
	kind := "halfvec" // as the index has them
	if n > maxIndexed {
		kind = "vector"
	}
	near := fmt.Sprintf(`(vector::public.%[2]s(%[1]d)) OPERATOR(public.<#>) $1::text::public.%[2]s(%[1]d)`, n, kind)
	where, args := "", []any{formatVector(q.Vector), max(candidates, q.Limit)}
	if q.Source != "" {
		where, args = ` AND source = $3`, append(args, q.Source)
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT `+hitColumns+`, -(c.vector OPERATOR(public.<#>) $1::text::public.vector), 0::float8 FROM
		(SELECT id FROM chunks WHERE public.vector_dims(vector) = %d%s ORDER BY %s LIMIT $2) n
		JOIN chunks c ON c.id = n.id JOIN documents d ON d.id = c.doc`, n, where, near), args...)
	if err != nil {
		return err
	}
	return scanHits(rows, into)
}

// byWords ranks the chunks that hold words of the question.
func byWords(ctx context.Context, tx pgx.Tx, q embedder.Query, into map[int64]hit) error {
	words := strings.FieldsFunc(clean(q.Text), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	if len(words) == 0 {
		return nil
	}
	if len(words) > 64 {
		words = words[:64]
	}
	nearness := `0::float8`
	args := []any{strings.Join(words, " or "), q.Source, max(candidates, q.Limit)}
	if n := len(q.Vector); n > 0 {
		nearness = fmt.Sprintf(`CASE WHEN public.vector_dims(c.vector) = %d THEN -(c.vector OPERATOR(public.<#>) $4::text::public.vector) ELSE 0 END`, n)
		args = append(args, formatVector(q.Vector))
	}
	rows, err := tx.Query(ctx, `SELECT `+hitColumns+`, `+nearness+`, ts_rank_cd(c.words, query)::float8 FROM websearch_to_tsquery('english', $1) query, chunks c JOIN documents d ON d.id = c.doc
		WHERE c.words @@ query AND ($2 = '' OR c.source = $2) ORDER BY ts_rank_cd(c.words, query) DESC LIMIT $3`, args...)
	if err != nil {
		return err
	}
	return scanHits(rows, into)
}
