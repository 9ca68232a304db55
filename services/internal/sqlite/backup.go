package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Backup writes a consistent copy of a database, of the moment at which it begins, to a file that must not exist, and one of the files that belong to
// the database into the folder beside it. Others may use the database meanwhile; its write-ahead log grows and files that it no longer needs stay
// until the copy is there.
func Backup(ctx context.Context, from, to string) (err error) {
	if _, err := os.Stat(from); err != nil { // opening it would create it
		return fmt.Errorf("back up a database: %w", err)
	}
	if _, err := os.Lstat(to); err == nil {
		return fmt.Errorf("back up database %s: %s is there already: choose an empty folder", from, to)
	}
	db, err := sql.Open("sqlite", dsn(from, 1<<10))
	if err != nil {
		return fmt.Errorf("back up database %s: %w", from, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	part := to + ".part"
	for again := true; again; {
		if again, err = backup(ctx, db, from, to, part); err != nil {
			return fmt.Errorf("back up database %s: %w", from, err)
		}
	}
	if err := errors.Join(os.Rename(part, to), SyncFolder(filepath.Dir(to))); err != nil {
		return fmt.Errorf("back up database %s: %w", from, err)
	}
	return nil
}

// backup makes a copy under a temporary name, and one of the files that belong to the database. again: their folder came into being meanwhile,
// so that nothing kept them from being removed.
func backup(ctx context.Context, db *sql.DB, from, to, part string) (again bool, err error) {
	if err := errors.Join(os.RemoveAll(part), os.RemoveAll(FilesOf(to))); err != nil {
		return false, fmt.Errorf("remove what an earlier try left: %w", err)
	}
	release, held, err := holdFiles(from)
	if err != nil {
		return false, err
	}
	if held {
		defer release()
	}
	if err := os.WriteFile(part, nil, 0o600); err != nil { // SQLite would let everybody read it
		return false, err
	}
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", part); err != nil {
		return false, err
	}
	if err := syncFile(part); err != nil {
		return false, err
	}
	if !held {
		_, err := os.Stat(FilesOf(from))
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil // none of the database's tables has files
		}
		return err == nil, err
	}
	return false, copyFiles(ctx, from, to)
}

// syncFile does what VACUUM INTO leaves to its caller.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
