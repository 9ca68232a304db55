package wiring

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hookmesh/hookmesh/services/internal/sqlite"
)

// databases are the files under data_dir, from the end of the mesh to its beginning. Copied in this order none knows of less than
// the one after it sent: a knowledge base that is newer than the sequencer would take the sequencer's next revisions for old ones.
var databases = []string{"reconciler.db", "knowledge.db", "sequencer.db", "dedupe.db", "sources.db"}

// Backup copies the databases of a data_dir, which may be in use, with the folders of files beside them, and the key of its secrets to a folder, and reports each.
func Backup(ctx context.Context, dataDir, dir string, report func(file string)) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the backup's folder: %w", err)
	}
	copied := 0
	for _, file := range databases {
		if _, err := os.Stat(filepath.Join(dataDir, file)); errors.Is(err, fs.ErrNotExist) { // of a service that runs elsewhere
			continue
		}
		if err := sqlite.Backup(ctx, filepath.Join(dataDir, file), filepath.Join(dir, file)); err != nil {
			return err
		}
		copied++
		report(file)
		if _, err := os.Stat(sqlite.FilesOf(filepath.Join(dir, file))); err == nil {
			report(filepath.Base(sqlite.FilesOf(file)))
		}
	}
	if copied == 0 {
		return fmt.Errorf("%s holds no databases of hookmesh: check data_dir", dataDir)
	}
	const key = "secrets.key"
	raw, err := os.ReadFile(filepath.Join(dataDir, key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // verifier.keys are elsewhere
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, key), raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("back up the key of the secrets: %w", err)
	}
	report(key)
	return nil
}
