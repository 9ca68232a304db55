package sqlite

import (
	"os"
	"path/filepath"
	"testing"
)

func TestFilesStayWhileABackupCopiesThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "t.db")
	db, err := Open(t.Context(), path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, held, err := holdFiles(path); held || err != nil {
		t.Errorf("a folder that is not there is held: %v", err)
	}
	if removed, err := db.RemoveFiles(filepath.Join(db.Files(), "a")); !removed || err != nil {
		t.Errorf("a file without a folder: %v, %v", removed, err)
	}
	if err := os.Mkdir(db.Files(), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(db.Files(), "a")
	if err := os.WriteFile(file, []byte("a"), 0o600); err != nil {
		t.Fatal(err)
	}
	there := func() bool {
		_, err := os.Stat(file)
		return err == nil
	}
	release, held, err := holdFiles(path)
	other, heldToo, err2 := holdFiles(path) // two backups at once
	if !held || !heldToo || err != nil || err2 != nil {
		t.Fatal(held, heldToo, err, err2)
	}
	for _, release := range []func(){release, other} {
		if removed, err := db.RemoveFiles(file); removed || err != nil || !there() {
			t.Errorf("a file that is being copied: removed %v, %v", removed, err)
		}
		release()
	}
	for range 2 { // the second time it is gone already
		if removed, err := db.RemoveFiles(file); !removed || err != nil || there() {
			t.Errorf("removed %v, %v", removed, err)
		}
	}
}

// What is copied is the database's files, and what an earlier try left is not in the way.
func TestABackupHasTheFilesOfItsDatabase(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "t.db"), filepath.Join(dir, "copy.db")
	db, err := Open(t.Context(), from, Options{Migrations: []string{"CREATE TABLE t (x)"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, f := range []string{FilesOf(from), FilesOf(to)} {
		if err := os.Mkdir(f, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for f, data := range map[string]string{filepath.Join(FilesOf(from), "run"): "data", filepath.Join(FilesOf(to), "left"): "over"} {
		if err := os.WriteFile(f, []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Backup(t.Context(), from, to); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(FilesOf(to))
	if err != nil || len(files) != 1 || files[0].Name() != "run" {
		t.Errorf("%v, %v", files, err)
	}
	if raw, err := os.ReadFile(filepath.Join(FilesOf(to), "run")); err != nil || string(raw) != "data" {
		t.Errorf("%q, %v", raw, err)
	}
	if err := Backup(t.Context(), from, to); err == nil {
		t.Error("a backup was overwritten")
	}
	// A backup of root's must not be in the way of a mesh that runs as somebody else.
	if files, err := os.ReadDir(FilesOf(from)); err != nil || len(files) != 1 {
		t.Errorf("beside the run a backup has left %v, %v", files, err)
	}
	for path, want := range map[string]os.FileMode{to: 0o600, filepath.Join(FilesOf(to), "run"): 0o600, FilesOf(to): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}
