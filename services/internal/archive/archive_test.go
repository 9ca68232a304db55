package archive_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/services/internal/archive"
)

func written(t *testing.T) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := archive.NewWriter(&file, "dev", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []archive.Row{{"key": archive.Bytes{0, 0xff}, "at": int64(math.MaxInt64)}, {"key": archive.Bytes{}, "at": 7}} {
		if err := w.Add("dedupe/keys", row); err != nil {
			t.Fatal(err)
		}
	}
	if rows, err := w.Close(); err != nil || rows["dedupe/keys"] != 2 {
		t.Fatal(rows, err)
	}
	return file.Bytes()
}

func nothing(string, archive.Row) error { return nil }

func TestAnArchiveIsReadAsItWasWritten(t *testing.T) {
	var seen []archive.Row
	rows, err := archive.Read(bytes.NewReader(written(t)), func(table string, row archive.Row) error {
		if table != "dedupe/keys" {
			t.Errorf("table %s", table)
		}
		seen = append(seen, row)
		return nil
	})
	if err != nil || rows["dedupe/keys"] != 2 || len(seen) != 2 {
		t.Fatal(rows, seen, err)
	}
	key, err1 := seen[0].Bytes("key")
	at, err2 := seen[0].Int("at")
	if !bytes.Equal(key, []byte{0, 0xff}) || at != math.MaxInt64 || err1 != nil || err2 != nil {
		t.Errorf("%x %d %v %v", key, at, err1, err2)
	}
	for table, want := range map[string]int{"dedupe/keys": 2, "dedupe/newest": 0} {
		n := 0
		rows, err := archive.Check(bytes.NewReader(written(t)), table, func(archive.Row) error { n++; return nil })
		if err != nil || n != want || rows["dedupe/keys"] != 2 {
			t.Errorf("%d rows of %s, counted %v, %v", n, table, rows, err)
		}
	}
	if _, err := seen[0].Bytes("at"); !errors.Is(err, archive.ErrDamaged) {
		t.Errorf("a number taken for bytes: %v", err)
	}
}

func TestValuesOfEveryKindAreReadAsTheyStand(t *testing.T) {
	var file bytes.Buffer
	w, err := archive.NewWriter(&file, "dev", time.Unix(0, 0))
	if err != nil {
		t.Fatal(err)
	}
	odd := archive.Row{
		"text": "a\x00\"b\\\nü<>", "row": `","row":`, "none": nil, "yes": true, "no": false, "small": -7, "bytes": archive.Bytes{1},
		"vector": []float32{0.25, -1e-7, 0.1}, "path": []string{"A, \"B\"", "]"}, "empty": []string{},
	}
	if err := errors.Join(w.Add(`a"b\/c`, odd), w.Add("a/b", odd)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := archive.Row{
		"text": "a\x00\"b\\\nü<>", "row": `","row":`, "none": nil, "yes": true, "no": false, "small": json.Number("-7"), "bytes": `\x01`,
		"vector": json.RawMessage(`[0.25,-1e-7,0.1]`), "path": json.RawMessage(`["A, \"B\"","]"]`), "empty": json.RawMessage(`[]`),
	}
	var tables []string
	if _, err := archive.Read(&file, func(table string, row archive.Row) error {
		if tables = append(tables, table); !reflect.DeepEqual(row, want) {
			t.Errorf("%#v, want %#v", row, want)
		}
		return nil
	}); err != nil || !slices.Equal(tables, []string{`a"b\/c`, "a/b"}) {
		t.Errorf("%q, %v", tables, err)
	}
}

func TestAnArchiveThatWasCutOffIsRefused(t *testing.T) {
	whole := written(t)
	for n := range whole {
		if _, err := archive.Read(bytes.NewReader(whole[:n]), nothing); !errors.Is(err, archive.ErrDamaged) {
			t.Fatalf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
}

func TestAnArchiveThatWasAlteredIsRefused(t *testing.T) {
	zip, err := gzip.NewReader(bytes.NewReader(written(t)))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(zip)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(raw), "\n")
	for name, text := range map[string]string{
		"another value":       strings.Replace(string(raw), `"at":7`, `"at":8`, 1),
		"a row left out":      lines[0] + lines[2] + lines[3],
		"a row twice":         lines[0] + lines[1] + lines[1] + lines[2] + lines[3],
		"rows in other order": lines[0] + lines[2] + lines[1] + lines[3],
		"without its end":     lines[0] + lines[1] + lines[2],
		"more after its end":  string(raw) + lines[1],
		"no archive":          "hello\n",
		"empty":               "",
	} {
		var file bytes.Buffer
		w := gzip.NewWriter(&file)
		if _, err := w.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		raw := bytes.NewReader(file.Bytes())
		if _, err := archive.Check(raw, "another", func(archive.Row) error { return nil }); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("%s, checked: %v", name, err)
		}
		if _, err := archive.Read(&file, nothing); !errors.Is(err, archive.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var file bytes.Buffer
	w := gzip.NewWriter(&file)
	_, _ = w.Write([]byte(strings.Replace(string(raw), `"version":1`, `"version":2`, 1)))
	_ = w.Close()
	if _, err := archive.Read(&file, nothing); err == nil || errors.Is(err, archive.ErrDamaged) || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("a newer format: %v", err)
	}
}
