// Package pdf reads the text of PDF files by PDFium, which runs as WebAssembly: a file that breaks it breaks a sandbox without
// files, network or more memory than it was given, and nothing else.
package pdf

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/klippa-app/go-pdfium"
	pdfiumerrors "github.com/klippa-app/go-pdfium/errors"
	"github.com/klippa-app/go-pdfium/requests"
	"github.com/klippa-app/go-pdfium/webassembly"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

const (
	// maxPages and maxText bound what is taken of one file.
	maxPages = 5000
	maxText  = 16 << 20
	// memoryPages of 64 KiB are what a file may take: 512 MiB.
	memoryPages = 8192
)

// Kinds of files that cannot be read, ever.
var (
	ErrEncrypted = errors.New("the PDF file is locked by a password")
	ErrBroken    = errors.New("the PDF file cannot be read")
	ErrSlow      = errors.New("reading the PDF file takes too long")
)

// Reader reads one file at a time; others wait. It costs nothing until the first one. The zero value is ready.
type Reader struct {
	// Timeout bounds a file; 0: 30 s.
	Timeout time.Duration

	mu   sync.Mutex
	pool pdfium.Pool
	// compiled outlives the pool: compiling takes seconds.
	compiled wazero.CompilationCache
}

// Close frees the sandbox. The next file makes a new one.
func (r *Reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.pool != nil {
		errs = append(errs, r.pool.Close())
	}
	if r.compiled != nil {
		errs = append(errs, r.compiled.Close(context.Background()))
	}
	r.pool, r.compiled = nil, nil
	return errors.Join(errs...)
}

// Text returns the text of each page. Pages without text (scans) are empty.
func (r *Reader) Text(ctx context.Context, raw []byte) (pages []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.compiled == nil {
		r.compiled = wazero.NewCompilationCache()
	}
	if r.pool == nil {
		if r.pool, err = open(r.compiled); err != nil {
			return nil, fmt.Errorf("start the PDF reader: %w", err)
		}
	}
	instance, err := r.pool.GetInstanceWithContext(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the PDF reader: %w", err)
	}
	timeout := r.Timeout
	if timeout == 0 {
		timeout = 30 * time.Second
	}
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, ErrSlow)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				pages, err = nil, fmt.Errorf("%w: %v", ErrBroken, p)
			}
		}()
		pages, err = text(ctx, instance, raw)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		_ = instance.Kill() // a call that is under way ends with its context
		<-done
		// What was killed may have left the sandbox in any state.
		_ = r.pool.Close()
		r.pool = nil
		return nil, context.Cause(ctx)
	}
	_ = instance.Close()
	return pages, err
}

func open(compiled wazero.CompilationCache) (pdfium.Pool, error) {
	return webassembly.Init(webassembly.Config{
		MaxTotal: 1, FSConfig: wazero.NewFSConfig(), Stdout: io.Discard, Stderr: io.Discard,
		RuntimeConfig: wazero.NewRuntimeConfig().WithCoreFeatures(api.CoreFeaturesV2 | experimental.CoreFeaturesExceptionHandling).
			WithCloseOnContextDone(true).WithMemoryLimitPages(memoryPages).WithCompilationCache(compiled),
	})
}

func text(ctx context.Context, instance pdfium.Pdfium, raw []byte) ([]string, error) {
	doc, err := instance.OpenDocument(&requests.OpenDocument{File: &raw})
	if errors.Is(err, pdfiumerrors.ErrPassword) {
		return nil, ErrEncrypted
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	count, err := instance.FPDF_GetPageCount(&requests.FPDF_GetPageCount{Document: doc.Document})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBroken, err)
	}
	var pages []string
	size := 0
	for i := range min(count.PageCount, maxPages) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		page, err := instance.GetPageText(&requests.GetPageText{Page: requests.Page{ByIndex: &requests.PageByIndex{Document: doc.Document, Index: i}}})
		if err != nil {
			return nil, fmt.Errorf("%w: page %d: %w", ErrBroken, i+1, err)
		}
		if size += len(page.Text); size > maxText {
			break
		}
		pages = append(pages, strings.ReplaceAll(page.Text, "\r\n", "\n"))
	}
	return pages, nil
}
