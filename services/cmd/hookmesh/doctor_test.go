package main

import (
	"encoding/binary"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// timeServer answers SNTP requests (RFC 4330, section 4) with a clock that is before the true one.
func timeServer(t *testing.T, before time.Duration) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 128)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil || n < 48 {
				return
			}
			answer := make([]byte, 48)
			answer[0], answer[1] = 4<<3|4, 2 // version 4, a server; stratum 2
			copy(answer[12:16], "LOCL")
			now := stamp(time.Now().Add(before))
			binary.BigEndian.PutUint64(answer[16:], now)
			copy(answer[24:32], buf[40:48]) // what the client sent comes back
			binary.BigEndian.PutUint64(answer[32:], now)
			binary.BigEndian.PutUint64(answer[40:], now)
			_, _ = conn.WriteTo(answer, from)
		}
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return conn.LocalAddr().String()
}

// stamp is a time in seconds since 1900 and their fractions, 32 bits each.
func stamp(at time.Time) uint64 {
	return uint64(at.Unix()+2_208_988_800)<<32 | uint64(at.Nanosecond())<<32/1_000_000_000
}

func TestDoctorAsksATimeServer(t *testing.T) {
	silent := httptest.NewServer(http.NotFoundHandler())
	defer silent.Close()
	for _, tt := range []struct {
		before          time.Duration
		status, message string
	}{{0, "ok", "time server"}, {10 * time.Minute, "problem", "behind"}, {-10 * time.Minute, "problem", "ahead"}} {
		_, out, errs := command(t, "doctor", "--url", silent.URL, "--admin", silent.URL, "--ntp", timeServer(t, tt.before), "--json")
		var said struct {
			Findings []struct{ Check, Status, Message string }
		}
		if err := json.Unmarshal([]byte(out), &said); err != nil {
			t.Fatalf("%s %s: %v", out, errs, err)
		}
		found := false
		for _, f := range said.Findings {
			if f.Check == "clock" {
				found = true
				if f.Status != tt.status || !strings.Contains(f.Message, tt.message) {
					t.Errorf("a server %s before us: %+v", tt.before, f)
				}
			}
		}
		if !found {
			t.Errorf("the clock was not looked at: %s", out)
		}
	}
}
