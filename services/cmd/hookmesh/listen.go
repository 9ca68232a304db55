package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hookmesh/hookmesh/services/verifier"
	"github.com/hookmesh/hookmesh/services/verifier/preset"
)

// maxCaptured bounds the body of a captured request, as the edge does.
const maxCaptured = 10 << 20

// captured is a request as it came. It holds credentials: files of it are for their owner alone.
type captured struct {
	At     time.Time   `json:"at"`
	Method string      `json:"method"`
	Query  string      `json:"query,omitempty"`
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// listener forwards what a tunnel brings to a local hookmesh.
type listener struct {
	base, source, address, record, replay, preset string
	settings                                      []string
	client                                        *http.Client

	mu  sync.Mutex
	out io.Writer
	log io.Writer // captured requests, one a line; nil: they are not kept
}

func listenCommand() *cobra.Command {
	l := &listener{client: &http.Client{Timeout: time.Minute, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	cmd := &cobra.Command{
		Use:   "listen --source NAME",
		Short: "Forward what a public tunnel brings to a local hookmesh, or replay what was captured",
		Long: "Forward what a public tunnel brings to a local hookmesh, byte for byte, and show each request with its answer. --record keeps the\nrequests; --replay sends them again. docs/development.md shows it with two tunnels.\n\n" +
			"A signature with a time in it is stale after minutes: with --preset, and the secret in " + secretVariable + ", a replay is signed anew.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			l.out = cmd.OutOrStdout()
			if l.source == "" {
				return usageError{errors.New("--source is missing: the name of the source that the requests are for")}
			}
			if l.replay != "" {
				return l.again(cmd.Context())
			}
			return l.serve(cmd.Context())
		},
	}
	urlFlag(cmd, &l.base)
	f := cmd.Flags()
	f.StringVar(&l.source, "source", "", "name of the source that the requests are for, whatever path they come to")
	f.StringVar(&l.address, "listen", "127.0.0.1:8081", "address that the tunnel leads to")
	f.StringVar(&l.record, "record", "", "file to append the requests to; it will hold credentials")
	f.StringVar(&l.replay, "replay", "", "send the requests of this file instead of listening")
	f.StringVar(&l.preset, "preset", "", "sign replayed requests anew, as this preset says")
	f.StringArrayVar(&l.settings, "setting", nil, "name=value of the preset's settings")
	return cmd
}

// serve listens until ctx ends.
func (l *listener) serve(ctx context.Context) error {
	if l.record != "" {
		file, err := os.OpenFile(l.record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return usageError{fmt.Errorf("open the file to record to: %w", err)}
		}
		defer func() { _ = file.Close() }()
		l.log = file
	}
	var lc net.ListenConfig
	conn, err := lc.Listen(ctx, "tcp", l.address)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	_, _ = fmt.Fprintf(l.out, "point the tunnel at http://%s; requests go to %s\n", conn.Addr(), l.target(""))
	server := &http.Server{Handler: l, ReadHeaderTimeout: 5 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(conn); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (l *listener) target(query string) string {
	target := strings.TrimRight(l.base, "/") + "/webhooks/" + url.PathEscape(l.source)
	if query != "" {
		target += "?" + query
	}
	return target
}

// ServeHTTP forwards a request and gives the answer back as it came.
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCaptured))
	if err != nil {
		http.Error(w, "the body is too large or incomplete", http.StatusRequestEntityTooLarge)
		return
	}
	c := captured{At: time.Now(), Method: r.Method, Query: r.URL.RawQuery, Header: r.Header.Clone(), Body: body}
	if err := l.keep(c); err != nil {
		_, _ = fmt.Fprintln(l.out, "the request could not be recorded:", err)
	}
	res, err := l.send(r.Context(), c)
	if err != nil {
		http.Error(w, "hookmesh does not answer", http.StatusBadGateway)
		return
	}
	for name, values := range res.header {
		if name != "Content-Length" && name != "Connection" && name != "Date" {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(res.status)
	_, _ = w.Write(res.body) // the tunnel is gone if this fails
}

func (l *listener) keep(c captured) error {
	if l.log == nil {
		return nil
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err = l.log.Write(append(line, '\n'))
	return err
}

// hopByHop are headers of one connection, not of the request: https://www.rfc-editor.org/rfc/rfc9110#section-7.6.1.
var hopByHop = []string{"Connection", "Proxy-Connection", "Keep-Alive", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length"}

// answered is what hookmesh said to a request.
type answered struct {
	status int
	header http.Header
	body   []byte
}

// send sends a request to hookmesh and shows how it ended.
func (l *listener) send(ctx context.Context, c captured) (answered, error) {
	req, err := http.NewRequestWithContext(ctx, c.Method, l.target(c.Query), bytes.NewReader(c.Body))
	if err != nil {
		return answered{}, usageError{fmt.Errorf("%s is not a URL: %w", l.base, err)}
	}
	req.Header = c.Header.Clone()
	for _, name := range hopByHop {
		req.Header.Del(name)
	}
	began := time.Now()
	res, err := l.client.Do(req)
	var out answered
	if err == nil {
		out.status, out.header = res.StatusCode, res.Header
		out.body, err = io.ReadAll(io.LimitReader(res.Body, maxCaptured))
		err = errors.Join(err, res.Body.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		_, _ = fmt.Fprintf(l.out, "%s %5d bytes → no hookmesh answers at %s\n", c.Method, len(c.Body), l.base)
		return answered{}, err
	}
	_, _ = fmt.Fprintf(l.out, "%s %5d bytes → %d in %s  %s\n", c.Method, len(c.Body), out.status, time.Since(began).Round(time.Millisecond), clip(strings.Join(strings.Fields(string(out.body)), " "), 160))
	return out, nil
}

// again sends what was captured, in its order.
func (l *listener) again(ctx context.Context) error {
	file, err := os.Open(l.replay)
	if err != nil {
		return usageError{fmt.Errorf("open the file to replay: %w", err)}
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 2*maxCaptured)
	sent, refused := 0, 0
	for lines.Scan() {
		var c captured
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			return usageError{fmt.Errorf("line %d of %s is no captured request", sent+1, l.replay)}
		}
		if l.preset != "" {
			if err := l.resign(&c); err != nil {
				return err
			}
		}
		res, err := l.send(ctx, c)
		if err != nil {
			return fmt.Errorf("request %d: %w", sent+1, err)
		}
		sent++
		if res.status >= 300 {
			refused++
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read %s: %w", l.replay, err)
	}
	_, _ = fmt.Fprintf(l.out, "%d requests sent, %d refused\n", sent, refused)
	if refused > 0 {
		return exitError{1}
	}
	return nil
}

// resign signs a request anew: what it was signed with is taken away first.
func (l *listener) resign(c *captured) error {
	p, err := verifier.PresetNamed(l.preset)
	if err != nil {
		return usageError{err}
	}
	set, err := pairs(l.settings, "=", "--setting")
	if err != nil {
		return err
	}
	if p, err = p.With(set); err != nil {
		return usageError{err}
	}
	secret := os.Getenv(secretVariable)
	if secret == "" {
		return usageError{fmt.Errorf("there is no secret to sign with: set %s", secretVariable)}
	}
	for _, v := range p.Verify {
		c.Header.Del(v.Signature.Header)
		if v.Timestamp != nil {
			c.Header.Del(v.Timestamp.Header)
		}
	}
	d := preset.Delivery{Header: c.Header, Method: c.Method, URL: l.target(c.Query), Body: c.Body}
	if err := p.Sign(&d, secret, time.Now()); err != nil {
		return err
	}
	_, c.Query, _ = strings.Cut(d.URL, "?")
	c.Body = d.Body
	return nil
}
