package seal_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/hookmesh/hookmesh/services/internal/seal"
)

func ring(t rapid.TB, fill ...byte) *seal.Ring {
	var keys [][]byte
	for _, b := range fill {
		keys = append(keys, bytes.Repeat([]byte{b}, seal.KeySize))
	}
	r, err := seal.New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestOnlyTheOwnersUnalteredTextIsOpened(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := ring(t, 1)
		plain := rapid.SliceOf(rapid.Byte()).Draw(t, "plain")
		owner := rapid.String().Draw(t, "owner")
		sealed := r.Seal(owner, plain)
		if got, err := r.Open(owner, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Fatalf("own text: %v", err)
		}
		if _, err := r.Open(owner+"x", sealed); !errors.Is(err, seal.ErrBroken) {
			t.Fatalf("another's text: %v", err)
		}
		i := rapid.IntRange(0, len(sealed)-1).Draw(t, "at")
		sealed[i] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := r.Open(owner, sealed); err == nil {
			t.Fatalf("altered at byte %d, and opened", i)
		}
		if _, err := r.Open(owner, sealed[:i]); err == nil {
			t.Fatalf("cut to %d bytes, and opened", i)
		}
	})
}

func TestAnOldKeyOpensAndTheNewestSeals(t *testing.T) {
	old := ring(t, 1).Seal("a", []byte("x"))
	both := ring(t, 2, 1)
	if _, err := both.Open("a", old); err != nil || both.Newest(old) {
		t.Errorf("old text: %v", err)
	}
	renewed := both.Seal("a", []byte("x"))
	if !both.Newest(renewed) {
		t.Error("sealed with an old key")
	}
	if _, err := ring(t, 1).Open("a", renewed); !errors.Is(err, seal.ErrNoKey) {
		t.Errorf("without the key: %v", err)
	}
	if bytes.Equal(renewed, both.Seal("a", []byte("x"))) {
		t.Error("the same text twice gives the same bytes")
	}
}

func TestKeysAreReadInEveryUsualEncodingAndNeverRepeatedInErrors(t *testing.T) {
	k := bytes.Repeat([]byte{0xfb}, seal.KeySize)
	for _, text := range []string{base64.StdEncoding.EncodeToString(k), base64.RawURLEncoding.EncodeToString(k), hex.EncodeToString(k) + "\n"} {
		if got, err := seal.ParseKey(text); err != nil || !bytes.Equal(got, k) {
			t.Errorf("%v", err)
		}
	}
	for _, text := range []string{"", "canary", base64.StdEncoding.EncodeToString(k[1:])} {
		if _, err := seal.ParseKey(text); err == nil || text != "" && bytes.Contains([]byte(err.Error()), []byte(text)) {
			t.Errorf("%v", err)
		}
	}
}

func TestAKeyFileIsMadeOnceForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "key")
	keys := make([][]byte, 8)
	var wg sync.WaitGroup
	for i := range keys {
		wg.Go(func() {
			var err error
			if keys[i], err = seal.KeyFile(path); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, k := range keys[1:] {
		if !bytes.Equal(k, keys[0]) {
			t.Fatal("several keys were made")
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".key-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.KeyFile(path); err == nil {
		t.Error("a key that everybody can read was taken")
	}
}
