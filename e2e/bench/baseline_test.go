package bench

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hookmesh/hookmesh/e2e/mesh"
)

// baselineFile tells this test binary to be the baseline: the file that it appends to.
const baselineFile = "HOOKMESH_BENCH_BASELINE"

// TestMain makes the binary the baseline if it is started as one: like hookmesh, it is measured in a process of its own.
func TestMain(m *testing.M) {
	if path := os.Getenv(baselineFile); path != "" {
		if err := serveBaseline(path, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// baseline is the least that a durable receiver has to do: read, check the HMAC, append to one file with one fsync for all
// who wait, answer 202.
type baseline struct {
	file  *os.File
	queue chan entry
}

type entry struct {
	data []byte
	done chan error
}

// serveBaseline serves on a free port, says which, and ends with the process.
func serveBaseline(path string, out io.Writer) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	b := &baseline{file: file, queue: make(chan entry, connections)}
	go b.run()
	fmt.Fprintln(out, l.Addr())
	return (&http.Server{Handler: b, ReadHeaderTimeout: time.Second}).Serve(l)
}

func (b *baseline) run() {
	for first := range b.queue {
		group := []entry{first}
	collect:
		for len(group) < 1024 {
			select {
			case a := <-b.queue:
				group = append(group, a)
			default:
				break collect
			}
		}
		var buf []byte
		for _, a := range group {
			buf = append(buf, a.data...)
		}
		_, err := b.file.Write(buf)
		if err == nil {
			err = b.file.Sync()
		}
		for _, a := range group {
			a.done <- err
		}
	}
}

func (b *baseline) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	mac := hmac.New(sha256.New, []byte(mesh.Secret))
	mac.Write(body)
	got, derr := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Signature"), "sha256="))
	if err != nil || derr != nil || !hmac.Equal(mac.Sum(nil), got) {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	a := entry{body, make(chan error, 1)}
	b.queue <- a
	if err := <-a.done; err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusAccepted)
}

// startBaseline starts the baseline and returns its URL and process id.
func startBaseline(tb testing.TB) (url string, pid int) {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), self)
	cmd.Env = append(os.Environ(), baselineFile+"="+filepath.Join(tb.TempDir(), "log"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		tb.Fatalf("the baseline does not say where it listens: %v", err)
	}
	return "http://" + addr, cmd.Process.Pid
}
