package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
)

// Backup writes a consistent copy of a database, of the moment at which it begins, to a file that must not exist. Others may use the
// database meanwhile; its write-ahead log grows until the copy is there.
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
	if err := os.Remove(part); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("back up database %s: remove what an earlier try left: %w", from, err)
	}
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", part); err != nil {
		return fmt.Errorf("back up database %s: %w", from, err)
	}
	if err := syncFile(part); err != nil {
		return fmt.Errorf("back up database %s: %w", from, err)
	}
	if err := os.Rename(part, to); err != nil {
		return fmt.Errorf("back up database %s: %w", from, err)
	}
	return nil
}

// syncFile does what VACUUM INTO leaves to its caller.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Chmod(0o600), f.Sync(), f.Close())
}
