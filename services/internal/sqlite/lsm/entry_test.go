package lsm

import (
	"bytes"
	"testing"
)

func FuzzReadEntry(f *testing.F) {
	for _, e := range []Entry{{}, {Key: "k", Value: []byte("v"), Expires: -5}, {Key: "\xff", Deleted: true}} {
		f.Add(appendEntry(nil, &e))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, rest, err := readEntry(b)
		if err != nil {
			return
		}
		e := r.entry()
		again, left, err := readEntry(append(appendEntry(nil, &e), rest...))
		if err != nil || !bytes.Equal(again.key, r.key) || !bytes.Equal(again.value, r.value) || again.expires != r.expires || again.deleted != r.deleted || !bytes.Equal(left, rest) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
	})
}
