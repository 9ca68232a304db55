package storetest

import (
	"fmt"
	"math"
	"slices"

	"github.com/hookmesh/hookmesh/services/embedder"
)

// find searches and returns "source/document#ordinal", best first.
func (s *suite) find(text string, v []float32, source string) []string {
	s.Helper()
	results, err := s.store.Search(s.Context(), embedder.Query{Text: text, Vector: v, Source: source, Limit: 5})
	if err != nil {
		s.Fatal(err)
	}
	var out []string
	last := math.Inf(1)
	for _, r := range results {
		out = append(out, fmt.Sprintf("%s/%s#%d", r.GetSource(), r.GetDocumentId(), r.GetOrdinal()))
		if r.GetScore() > last || r.GetScore() <= 0 || r.GetScore() > 1 {
			s.Errorf("score %v after %v", r.GetScore(), last)
		}
		last = r.GetScore()
	}
	return out
}

func (s *suite) search() {
	s.embed("s", "near", 1, document("About cats", piece(0, "they sleep all day", 0.1), piece(1, "and hunt at night", 0.4)))
	s.embed("s", "far", 1, document("Other", piece(0, "error code XK42 means that the disk is full", 1.4)))
	s.embed("t", "near", 1, document("Elsewhere", piece(0, "the same direction", 0.0)))
	if got := s.find("zzz", vector(0), ""); len(got) < 3 || got[0] != "t/near#0" || got[1] != "s/near#0" || got[2] != "s/near#1" {
		s.Errorf("by meaning: %v", got)
	}
	if got := s.find("what is XK42?", vector(1.3), ""); len(got) == 0 || got[0] != "s/far#0" {
		s.Errorf("by words: %v", got)
	}
	if got := s.find("cats", vector(0), "s"); len(got) == 0 || got[0] != "s/near#0" || slices.Contains(got, "t/near#0") {
		s.Errorf("in one source: %v", got)
	}
	if got := s.find("x' OR \"1\" & | ! ( * :", vector(0), "none"); len(got) != 0 {
		s.Errorf("in a source without documents: %v", got)
	}
	results, err := s.store.Search(s.Context(), embedder.Query{Text: "hunting", Vector: vector(0.4), Source: "s", Limit: 1})
	if err != nil || len(results) != 1 {
		s.Fatalf("%v, %v", results, err)
	}
	if r := results[0]; r.GetTitle() != "About cats" || r.GetUrl() != "https://x/About cats" || r.GetText() != "and hunt at night" || r.GetVersion() != "v" || !slices.Equal(r.GetHeadingPath(), []string{"Top", "Part"}) {
		s.Errorf("%v", r)
	}
}

func (s *suite) searchFiltered() {
	for i := range 120 {
		s.embed("big", fmt.Sprint(i), 1, document("t", piece(0, fmt.Sprint("text ", i), float64(i)/1000), piece(1, fmt.Sprint("more ", i), float64(i)/900), piece(2, fmt.Sprint("again ", i), float64(i)/800)))
	}
	for i := range 4 {
		s.embed("small", fmt.Sprint(i), 1, document("t", piece(0, fmt.Sprint("rare ", i), 1.2+float64(i)/100)))
	}
	if got := s.find("zzz", vector(0), "small"); !slices.Equal(got, []string{"small/0#0", "small/1#0", "small/2#0", "small/3#0"}) {
		s.Errorf("found %v", got)
	}
}

func (s *suite) dimensions() {
	s.embed("s", "four", 1, document("t", piece(0, "four", 0)))
	two := piece(0, "two", 0)
	two.Vector = []float32{1, 0}
	other := document("t", two)
	other.Model = "model-2"
	s.embed("s", "two", 1, other)
	if got := s.find("zzz", vector(0), ""); !slices.Equal(got, []string{"s/four#0"}) {
		s.Errorf("found %v", got)
	}
	if got := s.find("zzz", []float32{1, 0}, ""); !slices.Equal(got, []string{"s/two#0"}) {
		s.Errorf("found %v", got)
	}
}
