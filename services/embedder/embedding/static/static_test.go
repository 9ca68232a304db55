package static

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"strings"
	"testing"
)

func load(t testing.TB) *Model {
	m, err := New()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func dot(a, b []float32) (sum float64) {
	for i := range a {
		sum += float64(a[i]) * float64(b[i])
	}
	return sum
}

func TestTokensAndVectorsAgreeWithTheOriginal(t *testing.T) {
	m := load(t)
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden []struct {
		Text   string
		IDs    []int32
		Vector []float32
	}
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	if len(golden) == 0 {
		t.Fatal("no golden vectors")
	}
	for _, g := range golden {
		if ids := m.tokenize(g.Text); !slices.Equal(ids, g.IDs) {
			t.Errorf("%q: tokens %v, the original has %v", g.Text, ids, g.IDs)
		}
		v, err := m.Embed(t.Context(), []string{g.Text})
		if err != nil {
			t.Fatal(err)
		}
		if cos := dot(v[0], g.Vector); cos < 0.9995 {
			t.Errorf("%q: cosine to the original is %.5f", g.Text, cos)
		}
	}
}

func TestVectorsHaveLengthOneOrZero(t *testing.T) {
	m := load(t)
	for text, want := range map[string]float64{"hello": 1, "": 0, "\x00\ufffd": 0, strings.Repeat("q", 500): 0} {
		v := m.vector(text)
		if got := math.Sqrt(dot(v, v)); math.Abs(got-want) > 1e-5 {
			t.Errorf("%.20q: length %f, want %f", text, got, want)
		}
	}
}

// The measurement in docs/decisions/0001-embedded-model.md: questions that share few words with their answers.
func TestMeaningBeatsSharedWordsOnQuestionsInOtherWords(t *testing.T) {
	m := load(t)
	hits, words := 0, 0
	var mrr float64
	passages := make([][]float32, len(evaluation))
	for i, e := range evaluation {
		passages[i] = m.vector(e.passage)
	}
	for i, e := range evaluation {
		q := m.vector(e.question)
		rank, best, overlap := 1, 0, -1
		for j := range passages {
			if j != i && dot(q, passages[j]) > dot(q, passages[i]) {
				rank++
			}
			if n := shared(e.question, evaluation[j].passage); n > overlap {
				best, overlap = j, n
			}
		}
		if rank == 1 {
			hits++
		}
		if best == i {
			words++
		}
		mrr += 1 / float64(rank)
	}
	t.Logf("%d questions: model hit@1 %d, MRR %.2f; shared words hit@1 %d", len(evaluation), hits, mrr/float64(len(evaluation)), words)
	if hits <= words || hits*2 < len(evaluation) {
		t.Errorf("hit@1 %d of %d, by shared words %d", hits, len(evaluation), words)
	}
}

func shared(a, b string) (n int) {
	in := map[string]bool{}
	for _, w := range words(b) {
		in[w] = true
	}
	for _, w := range words(a) {
		if len(w) > 3 && in[w] {
			n++
		}
	}
	return n
}

func FuzzTokenize(f *testing.F) {
	m := load(f)
	f.Add("How do I set up the VPN?")
	f.Add("\xff\xfe 東京 ﬁ ǅ")
	f.Fuzz(func(t *testing.T, text string) {
		for _, id := range m.tokenize(text) {
			if id < 0 || int(id) >= len(m.scale) {
				t.Fatalf("token %d", id)
			}
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		load(b)
	}
}

func BenchmarkEmbed200Tokens(b *testing.B) {
	m := load(b)
	text := strings.Repeat("The gateway answers only when the event is durable. ", 20)
	b.ReportMetric(float64(len(m.tokenize(text))), "tokens")
	for b.Loop() {
		m.vector(text)
	}
}
