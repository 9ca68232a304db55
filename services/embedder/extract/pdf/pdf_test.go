package pdf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// file makes a PDF file with a line of text on each page.
func file(pages ...string) []byte {
	var b bytes.Buffer
	var offsets []int
	object := func(format string, args ...any) {
		offsets = append(offsets, b.Len())
		fmt.Fprintf(&b, "%d 0 obj\n%s\nendobj\n", len(offsets), fmt.Sprintf(format, args...))
	}
	b.WriteString("%PDF-1.4\n")
	var kids []string
	for i := range pages {
		kids = append(kids, fmt.Sprintf("%d 0 R", 4+2*i))
	}
	object("<< /Type /Catalog /Pages 2 0 R >>")
	object("<< /Type /Pages /Kids [%s] /Count %d >>", strings.Join(kids, " "), len(pages))
	object("<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
	for i, text := range pages {
		stream := "BT /F1 12 Tf 72 700 Td (" + text + ") Tj ET"
		object("<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>", 5+2*i)
		object("<< /Length %d >>\nstream\n%s\nendstream", len(stream), stream)
	}
	start := b.Len()
	fmt.Fprintf(&b, "xref\n0 %d\n0000000000 65535 f \n", len(offsets)+1)
	for _, o := range offsets {
		fmt.Fprintf(&b, "%010d 00000 n \n", o)
	}
	fmt.Fprintf(&b, "trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n", len(offsets)+1, start)
	return b.Bytes()
}

// One reader serves all tests: starting it takes seconds.
func TestReader(t *testing.T) {
	defer goleak.VerifyNone(t)
	r := &Reader{}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	good := file("good")
	t.Run("the text of every page is read", func(t *testing.T) {
		for range 2 {
			pages, err := r.Text(t.Context(), file("first page", "", "third page"))
			if err != nil || len(pages) != 3 || !strings.Contains(pages[0], "first page") || !strings.Contains(pages[2], "third page") {
				t.Fatalf("%q, %v", pages, err)
			}
		}
	})
	t.Run("a bad file breaks nothing", func(t *testing.T) {
		for name, raw := range map[string][]byte{"nothing": nil, "text": []byte("hello"), "half a file": good[:len(good)/3], "zeros": make([]byte, 1000)} {
			if pages, err := r.Text(t.Context(), raw); err == nil && strings.TrimSpace(strings.Join(pages, "")) != "" {
				t.Errorf("%s: %q", name, pages)
			}
		}
		if pages, err := r.Text(t.Context(), good); err != nil || len(pages) != 1 {
			t.Errorf("after bad files: %q, %v", pages, err)
		}
	})
	t.Run("whatever is broken in a file, the next one is read", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2))
		for range 100 {
			raw := bytes.Clone(file("some text", "more"))
			for range 1 + rng.IntN(20) {
				raw[rng.IntN(len(raw))] = byte(rng.IntN(256))
			}
			_, _ = r.Text(t.Context(), raw)
		}
		if pages, err := r.Text(t.Context(), good); err != nil || len(pages) != 1 {
			t.Errorf("%q, %v", pages, err)
		}
	})
	t.Run("a slow file is given up", func(t *testing.T) {
		r.Timeout = time.Nanosecond
		if _, err := r.Text(t.Context(), file(make([]string, 200)...)); !errors.Is(err, ErrSlow) {
			t.Errorf("%v", err)
		}
		r.Timeout = 0
		if pages, err := r.Text(t.Context(), file("afterwards")); err != nil || len(pages) != 1 {
			t.Errorf("%q, %v", pages, err)
		}
	})
	t.Run("a call that was cancelled does not begin", func(t *testing.T) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Text(ended, good); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	})
}
