package jsonvalue

import (
	"errors"
	"strings"
	"testing"
)

func TestNumbersKeepEveryDigit(t *testing.T) {
	v, err := Decode([]byte(`{"a":9223372036854775001,"b":123456789012345678901234567890,"c":1.10}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := string(Canonical(v, nil)); got != `{"a":9223372036854775001,"b":123456789012345678901234567890,"c":1.10}` {
		t.Error(got)
	}
}

func TestWhatParsersDisagreeAboutIsRefused(t *testing.T) {
	for in, want := range map[string]error{
		`{"a":1,"a":2}`: ErrDuplicateKey, "\"\xff\"": ErrInvalidUTF8, strings.Repeat("[", 500): ErrTooDeep, `{`: ErrSyntax, ``: ErrSyntax,
		`{} {}`: ErrSyntax, `{"a":}`: ErrSyntax, `nul`: ErrSyntax, "Hello": ErrSyntax,
	} {
		if _, err := Decode([]byte(in)); !errors.Is(err, want) {
			t.Errorf("%.20q: got %v, want %v", in, err, want)
		}
	}
}

func TestVolatileFieldsDoNotCountAnywhere(t *testing.T) {
	a, _ := Decode([]byte(`{"t":1,"list":[{"x":1,"at":5}],"k":{"at":2,"v":3}}`))
	b, _ := Decode([]byte(`{"k":{"v":3,"at":9},"list":[{"at":7,"x":1}],"t":2}`))
	without := []string{"t", "list.at", "k.at"}
	if Hash(a, without) != Hash(b, without) {
		t.Errorf("%s\n%s", Canonical(a, without), Canonical(b, without))
	}
	if Hash(a, nil) == Hash(b, nil) {
		t.Error("the hash does not see the difference")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5e9,"x",null,true]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Decode(Canonical(v, nil))
		if err != nil || Hash(again, nil) != Hash(v, nil) {
			t.Fatalf("the canonical form of %q does not read back: %v", data, err)
		}
	})
}

func BenchmarkDecode2KiB(b *testing.B) {
	data := []byte(`{"issue":{"id":123456789,"title":"A title","body":"` + strings.Repeat("some text ", 180) + `"},"action":"edited"}`)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Decode(data); err != nil {
			b.Fatal(err)
		}
	}
}
