package sqlitestore

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode"

	embedderv1 "github.com/hookmesh/hookmesh/gen/hookmesh/embedder/v1"
	"github.com/hookmesh/hookmesh/services/embedder"
)

// wordWeight is how much exact words count beside meaning. Words find identifiers and error codes, which no model knows.
const wordWeight = 0.3

func encodeVector(v []float32) []byte {
	b := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(b[4*i:], math.Float32bits(x))
	}
	return b
}

func decodeVector(b []byte) []float32 {
	v := make([]float32, len(b)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return v
}

// dot multiplies a vector with an encoded one; vectors of another dimension are like nothing.
func dot(a []float32, b []byte) float64 {
	if len(b) != 4*len(a) {
		return 0
	}
	var sum float32
	for i, x := range a {
		sum += x * math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
	}
	return float64(sum)
}

// Vectors implements embedder.Store.
func (s *Store) Vectors(ctx context.Context, source, document, model string) (map[[32]byte][]float32, error) {
	rows, err := s.db.Read.QueryContext(ctx, `SELECT hash, vector FROM chunks JOIN documents d ON d.id = doc WHERE d.source = ? AND d.document = ? AND d.model = ?`, source, document, model)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	out := map[[32]byte][]float32{}
	for rows.Next() {
		var hash, vector []byte
		if err := rows.Scan(&hash, &vector); err != nil {
			return nil, err
		}
		if len(hash) == 32 {
			out[[32]byte(hash)] = decodeVector(vector)
		}
	}
	return out, rows.Err()
}

// Search implements embedder.Store: an exact scan over the vectors, weighed with the words that stand in the chunk. Both
// are read in one transaction, so that a document is seen as it was before a change or after it.
func (s *Store) Search(ctx context.Context, q embedder.Query) ([]*embedderv1.SearchResult, error) {
	tx, err := s.db.Read.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, fmt.Errorf("begin: %w", err)
	}
	defer func() { _ = tx.Rollback() }()
	scores, err := byMeaning(ctx, tx, q)
	if err != nil {
		return nil, fmt.Errorf("compare vectors: %w", err)
	}
	words, err := byWords(ctx, tx, q)
	if err != nil {
		return nil, fmt.Errorf("look up words: %w", err)
	}
	for id, w := range words {
		scores[id] += wordWeight * w
	}
	type hit struct {
		id    int64
		score float64
	}
	hits := make([]hit, 0, len(scores))
	for id, score := range scores {
		if score > 0 {
			hits = append(hits, hit{id, score})
		}
	}
	slices.SortFunc(hits, func(a, b hit) int { return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(a.id, b.id)) })
	var out []*embedderv1.SearchResult
	for _, h := range hits[:min(len(hits), q.Limit)] {
		r, path := &embedderv1.SearchResult{Score: min(1, h.score)}, ""
		err := tx.QueryRowContext(ctx, `SELECT d.source, d.document, d.title, d.url, d.version, c.ordinal, c.path, c.text FROM chunks c JOIN documents d ON d.id = c.doc WHERE c.id = ?`, h.id).
			Scan(&r.Source, &r.DocumentId, &r.Title, &r.Url, &r.Version, &r.Ordinal, &path, &r.Text)
		if err != nil {
			return nil, fmt.Errorf("read chunk: %w", err)
		}
		if err := json.Unmarshal([]byte(path), &r.HeadingPath); err != nil {
			return nil, fmt.Errorf("decode heading path: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

func byMeaning(ctx context.Context, tx *sql.Tx, q embedder.Query) (map[int64]float64, error) {
	rows, err := tx.QueryContext(ctx, `SELECT c.id, c.vector FROM chunks c JOIN documents d ON d.id = c.doc WHERE ? = '' OR d.source = ?`, q.Source, q.Source)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	scores := map[int64]float64{}
	var vector sql.RawBytes
	for rows.Next() {
		var id int64
		if err := rows.Scan(&id, &vector); err != nil {
			return nil, err
		}
		scores[id] = (1 - wordWeight) * max(0, dot(q.Vector, vector))
	}
	return scores, rows.Err()
}

// byWords scores chunks by BM25, the best as 1.
func byWords(ctx context.Context, tx *sql.Tx, q embedder.Query) (map[int64]float64, error) {
	match := matchExpression(q.Text)
	if match == "" {
		return nil, nil
	}
	rows, err := tx.QueryContext(ctx, `SELECT words.rowid, -bm25(words, 4.0, 2.0, 1.0) FROM words JOIN chunks c ON c.id = words.rowid JOIN documents d ON d.id = c.doc
		WHERE words MATCH ? AND (? = '' OR d.source = ?) ORDER BY 2 DESC LIMIT 200`, match, q.Source, q.Source)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }()
	scores, best := map[int64]float64{}, 0.0
	for rows.Next() {
		var id int64
		var score float64
		if err := rows.Scan(&id, &score); err != nil {
			return nil, err
		}
		scores[id] = score
		best = max(best, score)
	}
	if best > 0 {
		for id := range scores {
			scores[id] /= best
		}
	}
	return scores, errors.Join(rows.Err())
}

// matchExpression makes a query of the words of a question: each quoted, so that nothing a person types is FTS5 syntax.
func matchExpression(question string) string {
	fields := strings.FieldsFunc(question, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) })
	if len(fields) > 64 {
		fields = fields[:64]
	}
	for i, f := range fields {
		fields[i] = `"` + f + `"`
	}
	return strings.Join(fields, " OR ")
}
