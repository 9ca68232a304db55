package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// FilesOf is the folder for what belongs to a database and is not in it, by the path of the database.
func FilesOf(path string) string { return path + "-runs" }

// Files is the folder for files that belong to the database and that it names: whoever copies one has to copy the other. It is there once it
// was made. A file must be on the disk before a transaction commits that names it, must not change from then on, and is removed by RemoveFiles, after a
// transaction has committed that no longer names it.
func (db *DB) Files() string { return FilesOf(db.path) }

// MakeFiles creates the folder, for good.
func (db *DB) MakeFiles() error {
	return errors.Join(os.MkdirAll(db.Files(), 0o700), SyncFolder(filepath.Dir(db.Files())))
}

// RemoveFiles removes files by their paths, those that are gone already too. While a backup copies the folder, whose lock it holds, or another process
// removes files it removes nothing and returns false.
func (db *DB) RemoveFiles(paths ...string) (removed bool, err error) {
	if len(paths) == 0 {
		return true, nil
	}
	folder, err := os.Open(db.Files())
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = folder.Close() }()
	if locked, err := lock(folder, false); err != nil || !locked {
		return false, err
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// holdFiles keeps the files of a database from being removed until release is called; ok false: there is no folder. It leaves no trace: a backup may be
// another user's than the mesh.
func holdFiles(path string) (release func(), ok bool, err error) {
	folder, err := os.Open(FilesOf(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if _, err := lock(folder, true); err != nil {
		return nil, false, errors.Join(fmt.Errorf("lock %s: %w", folder.Name(), err), folder.Close())
	}
	return func() { _ = folder.Close() }, true, nil
}

// copyFiles copies the files of a database.
func copyFiles(ctx context.Context, from, to string) error {
	files, err := os.ReadDir(FilesOf(from))
	if err != nil {
		return err
	}
	if err := os.Mkdir(FilesOf(to), 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		err := copyFile(filepath.Join(FilesOf(from), f.Name()), filepath.Join(FilesOf(to), f.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what the copied database names cannot vanish
			return err
		}
	}
	return SyncFolder(FilesOf(to))
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from) //nolint:gosec // a name of ours
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) //nolint:gosec // a name of ours
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close())
}
