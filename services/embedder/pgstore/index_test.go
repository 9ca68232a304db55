package pgstore_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/hookmesh/hookmesh/services/embedder"
	"github.com/hookmesh/hookmesh/services/embedder/pgstore"
	"github.com/hookmesh/hookmesh/services/internal/postgres"
	"github.com/hookmesh/hookmesh/services/internal/postgres/postgrestest"
)

// A database of the version before, whose index holds whole vectors, gets the smaller one, and its answers are those of comparing everything.
func TestTheIndexOfHalfPrecisionFindsWhatComparingEverythingFinds(t *testing.T) {
	const chunks, dimensions, topics, nearest = 3000, 64, 30, 10
	dsn, schema := postgrestest.Empty(t, pgstore.Schema())
	before := schema
	before.Migrations = schema.Migrations[:4]
	if _, to, err := postgres.Migrate(t.Context(), dsn, before); err != nil || to != 4 {
		t.Fatal(to, err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	rng := rand.New(rand.NewPCG(1, 2))
	vectors, texts := make([][]float32, chunks), make([]string, chunks)
	for i := range vectors {
		vectors[i] = around(rng, i%topics, dimensions)
		texts[i] = strings.ReplaceAll(fmt.Sprint(vectors[i]), " ", ",")
	}
	table := func(name string) string { return pgx.Identifier{schema.Name, name}.Sanitize() }
	for _, statement := range []string{
		`INSERT INTO ` + table("documents") + ` (source, document, state) VALUES ('docs', 'd', 1)`,
		`CREATE INDEX chunks_hnsw_64 ON ` + table("chunks") + ` USING hnsw ((vector::vector(64)) vector_ip_ops) WHERE vector_dims(vector) = 64`,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := conn.Exec(t.Context(), `INSERT INTO `+table("chunks")+` (doc, source, hash, copy, ordinal, path, text, words, vector)
		SELECT 1, 'docs', int4send(n::int), 0, n - 1, '[]', 'x', '', v::vector FROM unnest($1::text[]) WITH ORDINALITY AS u (v, n)`, texts); err != nil {
		t.Fatal(err)
	}
	if _, _, err := postgres.Migrate(t.Context(), dsn, schema); err != nil {
		t.Fatal(err)
	}
	var indexes []string
	if err := conn.QueryRow(t.Context(), `SELECT array_agg(c.relname::text) FROM pg_class c JOIN pg_am a ON a.oid = c.relam
		JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND a.amname = 'hnsw'`, schema.Name).Scan(&indexes); err != nil || !slices.Equal(indexes, []string{"chunks_half_64"}) {
		t.Fatal(indexes, err)
	}
	store, err := pgstore.Open(t.Context(), dsn, schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	found, questions := 0, 20
	for q := range questions {
		question := around(rng, q%topics, dimensions)
		order := make([]int, chunks)
		for i := range order {
			order[i] = i
		}
		slices.SortFunc(order, func(a, b int) int {
			if dot(question, vectors[a]) > dot(question, vectors[b]) {
				return -1
			}
			return 1
		})
		got, err := store.Search(t.Context(), embedder.Query{Vector: question, Limit: nearest})
		if err != nil || len(got) != nearest {
			t.Fatal(len(got), err)
		}
		for _, r := range got {
			if slices.Contains(order[:nearest], int(r.GetOrdinal())) {
				found++
			}
			if want := 0.7 * dot(question, vectors[r.GetOrdinal()]); math.Abs(r.GetScore()-want) > 1e-5 {
				t.Errorf("score %v, want %v of the whole vectors", r.GetScore(), want)
			}
		}
	}
	if recall := float64(found) / float64(questions*nearest); recall < 0.98 {
		t.Errorf("%.1f %% of the nearest were found", 100*recall)
	}
}

func around(rng *rand.Rand, topic, dimensions int) []float32 {
	centre := rand.New(rand.NewPCG(uint64(topic), 1))
	v, sum := make([]float32, dimensions), 0.0
	for i := range v {
		v[i] = float32(centre.NormFloat64() + 0.6*rng.NormFloat64())
		sum += float64(v[i]) * float64(v[i])
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

func dot(a, b []float32) float64 {
	sum := 0.0
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}
