// Package archive is the file in which a mesh's state moves from one store to another: lines of JSON, compressed with gzip.
//
// The first line says what the file is, every other one is a row of a table, and the last one seals it: how many rows there are of each
// table, and the SHA-256 of everything before it. So a file that was cut off or altered is told from a whole one before any of it is used.
// Bytes are written as PostgreSQL reads them, `\x` and hexadecimal digits. docs/operations.md lists the tables.
package archive

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"strings"
	"time"
)

const (
	// format names the files of this package.
	format = "hookmesh export"
	// version grows when an older program would misread a file.
	version = 1
	// maxLine bounds a line: the largest row is a document's chunk or a dead letter with its payload.
	maxLine = 256 << 20
)

// ErrDamaged says that a file is not as it was written.
var ErrDamaged = errors.New("the archive is damaged")

// Row is a row of a table, by column. Values are strings, Bytes, whole numbers, booleans, lists, and nil. In a row that was read bytes are
// strings still, numbers are json.Number, and lists are a json.RawMessage: a vector's hundreds of numbers are passed on as they stand.
type Row map[string]any

// Bytes are written in hexadecimal digits.
type Bytes []byte

// MarshalJSON implements json.Marshaler.
func (b Bytes) MarshalJSON() ([]byte, error) {
	return json.Marshal(`\x` + hex.EncodeToString(b))
}

// Bytes reads what was written as Bytes.
func (r Row) Bytes(column string) ([]byte, error) {
	text, ok := r[column].(string)
	digits, prefixed := strings.CutPrefix(text, `\x`)
	if !ok || !prefixed {
		return nil, fmt.Errorf("%w: column %s holds no bytes", ErrDamaged, column)
	}
	raw, err := hex.DecodeString(digits)
	if err != nil {
		return nil, fmt.Errorf("%w: column %s: %w", ErrDamaged, column, err)
	}
	return raw, nil
}

// Int reads a whole number.
func (r Row) Int(column string) (int64, error) {
	n, ok := r[column].(json.Number)
	if !ok {
		return 0, fmt.Errorf("%w: column %s holds no number", ErrDamaged, column)
	}
	return n.Int64()
}

// head is the first line.
type head struct {
	Format  string    `json:"format"`
	Version int       `json:"version"`
	Created time.Time `json:"created"`
	// Program is the version of hookmesh that wrote the file.
	Program string `json:"program"`
}

// line is every other line: a row, or the end.
type line struct {
	Table string `json:"table,omitempty"`
	Row   Row    `json:"row,omitempty"`
	End   *end   `json:"end,omitempty"`
}

// sealedLine is a line whose row is not looked at yet.
type sealedLine struct {
	Table string          `json:"table"`
	Row   json.RawMessage `json:"row"`
	End   *end            `json:"end"`
}

// end is the last line.
type end struct {
	Rows   map[string]int64 `json:"rows"`
	SHA256 string           `json:"sha256"`
}

// Writer writes an archive. Not for several goroutines.
type Writer struct {
	zip  *gzip.Writer
	sum  hash.Hash
	rows map[string]int64
}

// NewWriter begins an archive.
func NewWriter(w io.Writer, program string, now time.Time) (*Writer, error) {
	zip, err := gzip.NewWriterLevel(w, gzip.BestSpeed) // vectors are most of it, and hardly get smaller
	if err != nil {
		return nil, err
	}
	a := &Writer{zip: zip, sum: sha256.New(), rows: map[string]int64{}}
	return a, a.write(head{format, version, now.UTC(), program})
}

func (a *Writer) write(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of the archive: %w", err)
	}
	raw = append(raw, '\n')
	_, _ = a.sum.Write(raw) // never fails
	if _, err := a.zip.Write(raw); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return nil
}

// Add writes a row.
func (a *Writer) Add(table string, row Row) error {
	a.rows[table]++
	return a.write(line{Table: table, Row: row})
}

// Close seals the archive and returns how many rows it has of each table. It does not close the file.
func (a *Writer) Close() (map[string]int64, error) {
	sum := hex.EncodeToString(a.sum.Sum(nil))
	if err := a.write(line{End: &end{a.rows, sum}}); err != nil {
		return nil, err
	}
	if err := a.zip.Close(); err != nil {
		return nil, fmt.Errorf("write the archive: %w", err)
	}
	return a.rows, nil
}

// Read checks an archive and hands its rows to row, in their order. It returns the number of rows of each table. Whoever must not act on a
// damaged archive calls Check before.
func Read(r io.Reader, row func(table string, row Row) error) (map[string]int64, error) {
	return read(r, func(string) bool { return true }, row)
}

// Check is Read for the rows of one table alone; those of the others are only checked and counted.
func Check(r io.Reader, table string, row func(Row) error) (map[string]int64, error) {
	return read(r, func(t string) bool { return t == table }, func(_ string, r Row) error { return row(r) })
}

func read(r io.Reader, wanted func(table string) bool, row func(table string, row Row) error) (map[string]int64, error) {
	zip, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w, or is none: %w", ErrDamaged, err)
	}
	lines, sum, rows := bufio.NewScanner(zip), sha256.New(), map[string]int64{}
	lines.Buffer(make([]byte, 64<<10), maxLine)
	if !lines.Scan() {
		return nil, errors.Join(fmt.Errorf("%w: it is empty", ErrDamaged), lines.Err())
	}
	if err := readHead(lines.Bytes()); err != nil {
		return nil, err
	}
	hashLine(sum, lines.Bytes())
	for lines.Scan() {
		l, ok := cut(lines.Bytes())
		if !ok {
			if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
				return nil, fmt.Errorf("%w: a line cannot be read: %w", ErrDamaged, err)
			}
		}
		if l.End != nil {
			if l.End.SHA256 != hex.EncodeToString(sum.Sum(nil)) || !maps.Equal(l.End.Rows, rows) || lines.Scan() {
				return nil, fmt.Errorf("%w: its checksum is another", ErrDamaged)
			}
			if err := lines.Err(); err != nil { // gzip has a checksum of its own
				return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
			}
			return rows, nil
		}
		hashLine(sum, lines.Bytes())
		rows[l.Table]++
		if !wanted(l.Table) {
			continue
		}
		open, err := openRow(l.Row)
		if err != nil {
			return nil, fmt.Errorf("%w: a row of %s cannot be read: %w", ErrDamaged, l.Table, err)
		}
		if err := row(l.Table, open); err != nil {
			return nil, err
		}
	}
	return nil, errors.Join(fmt.Errorf("%w: its end is missing", ErrDamaged), lines.Err())
}

func readHead(raw []byte) error {
	var h head
	if err := json.Unmarshal(raw, &h); err != nil || h.Format != format {
		return fmt.Errorf("%w, or is none: it does not begin with %q", ErrDamaged, format)
	}
	if h.Version != version {
		return fmt.Errorf("the archive has format version %d and was written by hookmesh %s; this program reads version %d: import it with that hookmesh", h.Version, h.Program, version)
	}
	return nil
}

func hashLine(sum hash.Hash, raw []byte) {
	_, _ = sum.Write(raw)
	_, _ = sum.Write([]byte{'\n'})
}

// cut takes a line apart that Add wrote, without reading its row; ok is false for every other line. Whether the row is JSON shows when
// it is opened; the checksum tells what was altered.
func cut(raw []byte) (l sealedLine, ok bool) {
	rest, begins := bytes.CutPrefix(raw, []byte(`{"table":"`))
	table, rest, found := bytes.Cut(rest, []byte(`","row":`))
	row, ends := bytes.CutSuffix(rest, []byte(`}`))
	if !begins || !found || !ends || bytes.ContainsAny(table, `"\\`) {
		return sealedLine{}, false
	}
	return sealedLine{Table: string(table), Row: row}, true
}

// openRow reads a row. Numbers stay as they are written: a float64 would round the large ones.
func openRow(raw []byte) (Row, error) {
	var columns map[string]json.RawMessage
	if err := json.Unmarshal(raw, &columns); err != nil {
		return nil, err
	}
	row := make(Row, len(columns))
	for name, value := range columns {
		switch value[0] {
		case '"':
			var text string
			if err := json.Unmarshal(value, &text); err != nil {
				return nil, err
			}
			row[name] = text
		case 'n':
			row[name] = nil
		case 't', 'f':
			row[name] = value[0] == 't'
		case '[', '{':
			row[name] = value
		default:
			row[name] = json.Number(value)
		}
	}
	return row, nil
}
