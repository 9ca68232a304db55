package edge

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sync/semaphore"

	"github.com/hookmesh/hookmesh/services/gateway/problem"
)

// firstChunk is how much memory a body gets before its sender has sent anything. More comes as the bytes come, so that
// many slow senders hold little.
const firstChunk = 16 << 10

// Bodies reads request bodies within bounds.
type Bodies struct {
	max    int64
	memory *semaphore.Weighted
}

// NewBodies bounds one body by max bytes, before and after gzip, and the memory of all bodies at once by total.
func NewBodies(maxBytes, total int64) *Bodies {
	return &Bodies{max: maxBytes, memory: semaphore.NewWeighted(max(total, 2*maxBytes))}
}

var errNoMemory = errors.New("no memory for another body")

// tooLargeError says that a body is over the limit.
type tooLargeError struct{ max int64 }

func (e tooLargeError) Error() string { return fmt.Sprintf("the body is over %d bytes", e.max) }

// gzipError says that a body is not the gzip that it claims to be.
type gzipError struct{ error }

// Read returns the body, decompressed. release gives its memory back and must be called in any case.
func (b *Bodies) Read(w http.ResponseWriter, r *http.Request) (body []byte, release func(), bad *problem.Problem) {
	release = func() {}
	encoding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ",")))
	zipped := encoding == "gzip" || encoding == "x-gzip"
	if encoding != "" && encoding != "identity" && !zipped {
		w.Header().Set("Accept-Encoding", "gzip") // RFC 9110, 15.5.16
		return nil, release, &problem.Problem{Status: http.StatusUnsupportedMediaType, Code: problem.UnsupportedEncoding,
			Detail: "The body's content encoding is not supported; send it as it is, or with gzip."}
	}
	if r.Body == nil || r.Body == http.NoBody {
		return nil, release, nil
	}
	if r.ContentLength > b.max {
		return nil, release, b.problem(w, tooLargeError{b.max})
	}
	held := int64(0)
	release = func() { b.memory.Release(held) }
	raw := http.MaxBytesReader(w, r.Body, b.max)
	var err error
	if zipped {
		body, err = b.readGzip(raw, &held)
	} else {
		body, err = b.readAll(raw, r.ContentLength, &held)
	}
	if err != nil {
		return nil, release, b.problem(w, err)
	}
	return body, release, nil
}

func (b *Bodies) readGzip(raw io.Reader, held *int64) ([]byte, error) {
	z, err := gzip.NewReader(raw)
	if err != nil {
		return nil, asGzipError(err)
	}
	body, err := b.readAll(z, -1, held)
	return body, asGzipError(err)
}

// asGzipError tells damage of the encoding from what the connection or the limits did.
func asGzipError(err error) error {
	if errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		(err != nil && strings.HasPrefix(err.Error(), "flate: ")) {
		return gzipError{err}
	}
	return err
}

// readAll reads to the end; its buffer doubles as bytes come in, up to the announced length.
func (b *Bodies) readAll(r io.Reader, length int64, held *int64) ([]byte, error) {
	size := int64(firstChunk)
	if length >= 0 {
		size = min(size, length+1) // one more, so that the end is seen without growing
	}
	if err := b.reserve(size, held); err != nil {
		return nil, err
	}
	buf := make([]byte, 0, size)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if int64(len(buf)) > b.max {
			return nil, tooLargeError{b.max}
		}
		if errors.Is(err, io.EOF) {
			return buf, nil
		}
		if err != nil {
			return nil, err
		}
		if len(buf) < cap(buf) {
			continue
		}
		grown := min(2*int64(cap(buf)), b.max+1)
		if length >= 0 {
			grown = min(grown, max(length+1, int64(cap(buf))+1))
		}
		if err := b.reserve(grown-int64(cap(buf)), held); err != nil {
			return nil, err
		}
		buf = append(make([]byte, 0, grown), buf...)
	}
}

func (b *Bodies) reserve(n int64, held *int64) error {
	if !b.memory.TryAcquire(n) {
		return errNoMemory
	}
	*held += n
	return nil
}

// problem is what the sender hears of an error.
func (b *Bodies) problem(w http.ResponseWriter, err error) *problem.Problem {
	var (
		tooLarge tooLargeError
		overRaw  *http.MaxBytesError
		notGzip  gzipError
	)
	if !errors.Is(err, errNoMemory) {
		w.Header().Set("Connection", "close") // the rest of the body is not worth waiting for
	}
	switch {
	case errors.As(err, &overRaw), errors.As(err, &tooLarge):
		return &problem.Problem{Status: http.StatusRequestEntityTooLarge, Code: problem.BodyTooLarge,
			Detail: fmt.Sprintf("The body is larger than %d bytes (counted before and after decompression).", b.max)}
	case errors.Is(err, errNoMemory):
		return &problem.Problem{Status: http.StatusTooManyRequests, Code: problem.Overloaded, Detail: "Too many requests are in work."}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &problem.Problem{Status: http.StatusRequestTimeout, Code: problem.BodyTooSlow, Detail: "The body did not arrive in time."}
	case errors.As(err, &notGzip):
		return &problem.Problem{Status: http.StatusBadRequest, Code: problem.BodyNotGzip, Detail: "The body is not the gzip that its header announces."}
	default:
		return &problem.Problem{Status: http.StatusBadRequest, Code: problem.BodyIncomplete, Detail: "The body ended before it was complete."}
	}
}
