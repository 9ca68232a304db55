package jsonvalue

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
)

// reference reads JSON by a parser that was written by others.
func reference(data []byte) error {
	dec := jsontext.NewDecoder(bytes.NewReader(data))
	if _, err := dec.ReadValue(); err != nil {
		return err
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return errors.New("something follows")
	}
	return nil
}

func canonicalByReference(t *testing.T, data []byte) []byte {
	v := jsontext.Value(bytes.Clone(data))
	if err := v.Compact(); err != nil {
		t.Fatal(err)
	}
	return v
}

var samples = []string{
	`{"a":[1,2.5e9,"x",null,true,false]}`, `"\u00e9\ud83d\ude00\n\""`, `"\ud800"`, `"\udc00\ud800"`, `{"a":1,"\u0061":2}`, `[1,]`, `{"a" : {"b":[{}, []]}}`, `-0.1E+7`, `01`, `-`, `1.`, `"` + "\x01" + `"`,
	` [ 1 , 2 ] `, `nul`, `{"a":1}}`, `{"":""}`, `"12345678\"123456789"`, "\"\x7f\"", `{"b":1,"a":{"d":1,"c":2}}`, "", "\xef\xbb\xbf{}", `"\u12"`, `{"a"}`, `{"a":1,}`, `1e`, `"\x"`, `--1`, "\"\xff\"",
}

func TestTheParserAgreesWithAnotherOne(t *testing.T) {
	for _, s := range samples {
		agree(t, []byte(s))
	}
}

// agree holds the parser against the reference: both accept or both refuse, and what they read is the same.
func agree(t *testing.T, data []byte) {
	d, err := Parse(data)
	other := reference(data)
	if errors.Is(err, ErrTooDeep) {
		return // its bound is another one
	}
	if (err == nil) != (other == nil) {
		t.Fatalf("%q: we say %v, the reference %v", data, err, other)
	}
	if err != nil {
		return
	}
	defer d.Free()
	tree := d.Root().Tree()
	ours := d.Root().AppendCanonical(nil, nil)
	if !bytes.Equal(ours, Canonical(tree, nil)) || d.Root().Hash(nil) != Hash(tree, nil) {
		t.Fatalf("%q: the value and its tree have two canonical forms: %s and %s", data, ours, Canonical(tree, nil))
	}
	again, err := Decode(canonicalByReference(t, data))
	if err != nil || Hash(again, nil) != Hash(tree, nil) {
		t.Fatalf("%q was read differently by the reference (%v)", data, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range samples {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agree(t, data) })
}

func TestValuesAreFoundWithoutDecodingTheRest(t *testing.T) {
	d, err := Parse([]byte(`{"a":{"b":[10,{"c":"x\ty"}]},"\u006bey":null,"n":9223372036854775001}`))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Free()
	root := d.Root()
	if got := root.Field("a").Field("b").Index(1).Field("c").Text(); got != "x\ty" {
		t.Errorf("got %q", got)
	}
	if root.Field("key").Kind() != Null || root.Field("a").Field("b").Index(2).Kind() != Absent || root.Field("a").Field("x").Field("y").Kind() != Absent {
		t.Error("null and absent are mixed up")
	}
	if root.Field("n").Raw() != "9223372036854775001" || root.Len() != 3 || root.Field("a").Field("b").Len() != 2 {
		t.Error("numbers or lengths are wrong")
	}
}
