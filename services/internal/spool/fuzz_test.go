package spool

import (
	"testing"
)

// FuzzRecovery opens a spool whose segment holds arbitrary bytes: it must come up, give out only records that pass their sums,
// and take new ones.
func FuzzRecovery(f *testing.F) {
	good, err := encode(records(0, 3))
	if err != nil {
		f.Fatal(err)
	}
	seal(good, 7, 0)
	f.Add(good, uint16(0), byte(0))
	f.Add(good[:len(good)-1], uint16(9), byte(1))
	f.Add([]byte("\x0d\xf0\xa1\x5e\xff\xff\xff\xff"), uint16(3), byte(0xff))
	f.Fuzz(func(t *testing.T, data []byte, at uint16, flip byte) {
		if len(data) > 0 {
			data[int(at)%len(data)] ^= flip
		}
		d := newMemDisk()
		seg := &segment{base: 0, salt: 7}
		d.files[seg.name()] = &memFile{disk: d, data: data, flushed: data}
		s := mustOpen(t, "", Options{Disk: d})
		mustAppend(t, s, rec(42))
		got := drain(t, s, true)
		if len(got) == 0 || string(got[len(got)-1].Value) != string(rec(42).Value) {
			t.Fatalf("%d records, the new one is not the last", len(got))
		}
	})
}

// FuzzDecode reads arbitrary payloads, and reads again what it has understood.
func FuzzDecode(f *testing.F) {
	f.Add(appendRecord(nil, rec(1)))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		r, err := decode(payload)
		if err != nil {
			return
		}
		if _, err := decode(appendRecord(nil, r)); err != nil {
			t.Fatal(err)
		}
	})
}
