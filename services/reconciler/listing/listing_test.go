package listing

import (
	"fmt"
	"os"
	"testing"

	"pgregory.net/rapid"
)

// However many runs there are, every id comes once, in order, as it was added last.
func TestEveryDocumentComesOnceInOrderAsItWasToldLast(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		s, err := New(dir)
		if err != nil {
			rt.Fatal(err)
		}
		s.max = rapid.IntRange(1, 9).Draw(rt, "run")
		want := map[string]Entry{}
		for i := range rapid.IntRange(0, 60).Draw(rt, "entries") {
			e := Entry{ID: rapid.StringN(0, 3, 6).Draw(rt, "id"), Version: fmt.Sprint(i), URL: "u", Deleted: rapid.Bool().Draw(rt, "deleted")}
			want[e.ID] = e
			if err := s.Add(e); err != nil {
				rt.Fatal(err)
			}
		}
		last, n := "", 0
		for e, err := range s.Sorted() {
			if err != nil || want[e.ID] != e || (n > 0 && e.ID <= last) {
				rt.Fatalf("%v after %q, want %v, %v", e, last, want[e.ID], err)
			}
			last = e.ID
			n++
		}
		if n != len(want) {
			rt.Fatalf("%d of %d came", n, len(want))
		}
		if err := s.Close(); err != nil {
			rt.Fatal(err)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%d folders are left, %v", len(left), err)
	}
}

func TestATornRunIsAnErrorAndNotAShorterList(t *testing.T) {
	s, err := New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	s.max = 3
	for i := range 3 {
		if err := s.Add(Entry{ID: fmt.Sprint(i), Version: "1"}); err != nil {
			t.Fatal(err)
		}
	}
	info, err := s.runs[0].Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.runs[0].Truncate(info.Size() - 1); err != nil {
		t.Fatal(err)
	}
	var last error
	for _, err := range s.Sorted() {
		last = err
	}
	if last == nil {
		t.Error("a list that was cut reads as complete: what is missing would be deleted")
	}
}
