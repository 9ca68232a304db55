// Package folder reads documents from a directory of this machine. A document's id is its path below it, with slashes.
package folder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/hookmesh/hookmesh/services/connector"
	"github.com/hookmesh/hookmesh/services/connector/files"
	"github.com/hookmesh/hookmesh/services/connector/rest"
	"github.com/hookmesh/hookmesh/services/internal/config"
)

// pageSize is how many files one answer names.
const pageSize = 200

type folder struct {
	dir    string
	filter files.Filter
	now    func() time.Time
}

// New returns the connector of the directory that scope names.
func New(cfg config.Connector) (connector.Connector, error) {
	if len(cfg.Scope) != 1 {
		return connector.Connector{}, errors.New("scope: name the one directory that is read")
	}
	if len(cfg.Options) > 0 || len(cfg.Credentials) > 0 || cfg.BaseURL != "" {
		return connector.Connector{}, errors.New("a folder has no base_url, credentials or options")
	}
	filter, err := files.NewFilter(cfg.Include)
	if err != nil {
		return connector.Connector{}, err
	}
	f := &folder{dir: cfg.Scope[0], filter: filter, now: time.Now}
	return connector.Connector{Fetcher: f, Lister: f, Sweeper: sweeper{f}}, nil
}

// Fetch implements connector.Fetcher. The path cannot leave the directory, links included: see os.Root.
func (f *folder) Fetch(_ context.Context, ref connector.Ref) (connector.Document, error) {
	if !fs.ValidPath(ref.ID) || !f.filter.Match(ref.ID) {
		return connector.Document{}, fmt.Errorf("%q is no document of this folder: %w", ref.ID, connector.ErrGone)
	}
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("open the folder: %w", err)}
	}
	defer func() { _ = root.Close() }()
	file, err := root.Open(ref.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return connector.Document{}, connector.ErrGone
	}
	if err != nil {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("open the file: %w", err)}
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("read the file: %w", err)}
	}
	if !info.Mode().IsRegular() {
		return connector.Document{}, fmt.Errorf("%q is no file: %w", ref.ID, connector.ErrGone)
	}
	raw, err := io.ReadAll(io.LimitReader(file, rest.MaxContent+1))
	if err != nil {
		return connector.Document{}, &connector.Error{Err: fmt.Errorf("read the file: %w", err)}
	}
	if len(raw) > rest.MaxContent {
		return connector.Document{}, connector.Permanent(fmt.Errorf("%w: more than %d bytes", connector.ErrTooLarge, rest.MaxContent))
	}
	return connector.Document{Content: raw, Format: f.filter.Format(ref.ID), Title: ref.ID, Version: version(info)}, nil
}

func version(info fs.FileInfo) string { return strconv.FormatInt(info.ModTime().UnixMicro(), 10) }

// List implements connector.Lister.
func (f *folder) List(ctx context.Context, cursor string) (connector.Page, error) {
	w, err := connector.ParseWalk(cursor, f.dir)
	if err != nil {
		return connector.Page{}, err
	}
	page, last, err := f.page(ctx, w.Since, w.Page)
	if err != nil {
		return connector.Page{}, err
	}
	w, page.More = w.Step(f.now(), last, 1)
	page.Next = w.Cursor()
	return page, nil
}

type sweeper struct{ *folder }

// Sweep implements connector.Sweeper.
func (s sweeper) Sweep(ctx context.Context, cursor string) (connector.Page, error) {
	page, last, err := s.page(ctx, time.Time{}, cursor)
	page.Next, page.More = last, last != ""
	return page, err
}

// errFull ends a walk over the tree.
var errFull = errors.New("the page is full")

// page names the files after a path, in the order of the walk, that changed since a time. A file that was moved keeps its time, but
// the directory that it was moved into changes: a file counts as changed when it, or a directory above it, did.
func (f *folder) page(ctx context.Context, since time.Time, after string) (page connector.Page, last string, err error) {
	root, err := os.OpenRoot(f.dir)
	if err != nil {
		return page, "", &connector.Error{Err: fmt.Errorf("open the folder: %w", err)}
	}
	defer func() { _ = root.Close() }()
	moved := map[string]time.Time{}
	err = fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went while we were looking
		}
		if err != nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		info, err := d.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		changed := info.ModTime()
		if above := moved[parent(name)]; above.After(changed) {
			changed = above
		}
		if d.IsDir() {
			moved[name] = changed
			return nil
		}
		if after != "" && !before(after, name) {
			return nil
		}
		if !d.Type().IsRegular() || !f.filter.Match(name) || changed.Before(since) {
			return nil
		}
		if len(page.Changes) == pageSize {
			return errFull
		}
		micros := info.ModTime().UnixMicro()
		page.Changes = append(page.Changes, connector.Change{DocumentID: name, Version: version(info), UpdatedAt: info.ModTime(), Sequence: &micros})
		return nil
	})
	switch {
	case errors.Is(err, errFull):
		return page, page.Changes[pageSize-1].DocumentID, nil
	case err != nil:
		return connector.Page{}, "", &connector.Error{Err: fmt.Errorf("walk the folder: %w", err)}
	}
	return page, "", nil
}
