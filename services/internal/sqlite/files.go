package sqlite

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// holdFile is locked while a backup copies files of the folder.
const holdFile = "backup.lock"

// FilesOf is the folder for what belongs to a database and is not in it, by the path of the database.
func FilesOf(path string) string { return path + "-runs" }

// Files is the folder for files that belong to the database and that it names: whoever copies one has to copy the other. It is there once it
// was made. A file must be on the disk before a transaction commits that names it, must not change from then on, and is removed by RemoveFiles, after a
// transaction has committed that no longer names it.
func (db *DB) Files() string { return FilesOf(db.path) }

// RemoveFiles removes files by their paths, those that are gone already too. While a backup copies the folder it removes nothing and returns false.
func (db *DB) RemoveFiles(paths ...string) (removed bool, err error) {
	if len(paths) == 0 {
		return true, nil
	}
	hold, err := os.OpenFile(filepath.Join(db.Files(), holdFile), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // there is no folder
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = hold.Close() }()
	if err := lock(hold, false); err != nil {
		return false, nil // a backup has it
	}
	for _, path := range paths {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// holdFiles keeps the files of a database from being removed until release is called; ok false: there is no folder.
func holdFiles(path string) (release func(), ok bool, err error) {
	hold, err := os.OpenFile(filepath.Join(FilesOf(path), holdFile), os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if err := lock(hold, true); err != nil {
		return nil, false, errors.Join(fmt.Errorf("lock %s: %w", hold.Name(), err), hold.Close())
	}
	return func() { _ = hold.Close() }, true, nil
}

// copyFiles copies the files of a database.
func copyFiles(from, to string) error {
	files, err := os.ReadDir(FilesOf(from))
	if err != nil {
		return err
	}
	if err := os.Mkdir(FilesOf(to), 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if f.Name() == holdFile {
			continue
		}
		err := copyFile(filepath.Join(FilesOf(from), f.Name()), filepath.Join(FilesOf(to), f.Name()))
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // what the copied database names cannot vanish
			return err
		}
	}
	return nil
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
