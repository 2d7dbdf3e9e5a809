package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func TestEmptyFile(t *testing.T) {
	for _, name := range signs {
		dir := t.TempDir()
		for _, file := range []string{name, fileName} {
			if err := os.WriteFile(filepath.Join(dir, file), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := Open(dir)
		wantError(t, err, ErrCorrupt, name+" says that it was not")
	}
	dir := t.TempDir() // the control: nothing else is there
	if err := os.WriteFile(filepath.Join(dir, fileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	wantContent(t, mustOpen(t, dir), "")
}

func TestLoose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := Loose(dir); err != nil {
		t.Errorf("before the first start: %v", err)
	}
	mustOpen(t, dir)
	if err := Loose(dir); err != nil {
		t.Errorf("after the first start: %v", err)
	}
	for _, c := range []struct {
		path string
		mode os.FileMode
		says string
	}{
		{dir, 0o750, "data directory " + dir + " can be accessed by others than its owner (mode 0750); run: chmod 700 " + dir},
		{dir, 0o701, "(mode 0701)"},
		{filepath.Join(dir, fileName), 0o604, "registry.db can be accessed by others than its owner (mode 0604); run: chmod 600"},
	} {
		info, err := os.Stat(c.path)
		if err := errors.Join(err, os.Chmod(c.path, c.mode)); err != nil {
			t.Fatal(err)
		}
		if err := Loose(dir); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Loose = %v, want it to say %q", err, c.says)
		}
		if got, err := os.Stat(c.path); err != nil || got.Mode().Perm() != c.mode {
			t.Errorf("%s has mode %o: it is not to be changed", c.path, got.Mode().Perm())
		}
		if err := os.Chmod(c.path, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFirstLayout opens a file of the layout without checksums.
func TestFirstLayout(t *testing.T) {
	dir := t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, fileName), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		data, err := tx.CreateBucket([]byte(firstBucket))
		if err != nil {
			return err
		}
		meta, err := tx.CreateBucket([]byte(metaBucket))
		return errors.Join(err, data.Put([]byte("a"), make([]byte, 9)), meta.Put([]byte("epoch"), make([]byte, 8)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	wantError(t, err, ErrLayout, "registry.db has the layout of another version of this server")
	if errors.Is(err, ErrCorrupt) {
		t.Error("it is not damaged")
	}
}

func TestLaterLayout(t *testing.T) {
	dir := t.TempDir()
	st := mustOpen(t, dir)
	err := st.db.Update(func(tx *bbolt.Tx) error {
		record := st.now.record()
		record[recordHeader+3] = layout + 1
		return tx.Bucket([]byte(metaBucket)).Put([]byte(stateKey), seal(metaBucket, stateKey, 0, record[recordHeader:]))
	})
	if err := errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
	_, err = Open(dir)
	wantError(t, err, ErrLayout, "another version")
}

func TestFamiliesAreBounded(t *testing.T) {
	for kind, open := range kinds {
		t.Run(kind, func(t *testing.T) {
			st, _ := open(t)
			defer st.Close()
			var writes []Write
			for i := range maxFamilies {
				writes = append(writes, put(strings.Repeat("f", 1+i)+"/", ""))
			}
			commit(t, st, writes...)
			if err := st.Commit([]Write{put("one more/", "")}); err == nil || !strings.Contains(err.Error(), "a family more than 64") {
				t.Errorf("Commit = %v, want a refusal that names the bound", err)
			}
			if err := st.Commit([]Write{put(strings.Repeat("f", maxFamily+1)+"/", "")}); err == nil || !strings.Contains(err.Error(), "want at most 64") {
				t.Errorf("Commit = %v, want a refusal that names the bound", err)
			}
			commit(t, st, put("f/1", ""))
			wantContent(t, st, "one more/")
		})
	}
}
