package server

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// backupsOf lists the files of backups.
func backupsOf(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(store.BackupDir(dir))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return entries
}

func TestBackupsAreMadeAndBounded(t *testing.T) {
	dir := t.TempDir()
	st := store.NewMemory()
	defer st.Close()
	r := &rooms{
		config: Config{DataDir: dir, BackupEvery: 2 * time.Millisecond, BackupKeep: 2},
		log:    slog.New(slog.DiscardHandler),
		store:  watch(st, slog.New(slog.DiscardHandler)),
	}
	r.addBackups()
	made := map[string]bool{}
	for i, end := 1, time.Now().Add(20*time.Second); len(made) < 4; i++ {
		if err := r.store.Commit([]store.Write{{Key: "x/a", Value: []byte{byte(i)}, Revision: uint64(i)}}); err != nil {
			t.Fatal(err)
		}
		for _, e := range backupsOf(t, dir) {
			if e.Name()[0] != '.' {
				made[e.Name()] = true
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%d backups in 20 s", len(made))
		}
		time.Sleep(time.Millisecond)
	}
	if err := r.close(); err != nil {
		t.Fatal(err)
	}
	if left := backupsOf(t, dir); len(left) != 2 || r.lastBackup.Load() == nil {
		t.Errorf("left are %v, want two; the last was at %v", left, r.lastBackup.Load())
	}
	again := &rooms{config: Config{DataDir: dir, BackupEvery: time.Hour}} // the next start knows of them
	again.addBackups()
	defer again.close()
	if at := again.lastBackup.Load(); at == nil || time.Since(*at).Abs() > time.Minute {
		t.Errorf("after a restart the last backup was at %v", at)
	}
}

// The control: none are made unless they are asked for.
func TestNoBackups(t *testing.T) {
	dir := t.TempDir()
	r := &rooms{config: Config{DataDir: dir}}
	r.addBackups()
	if len(r.cleanup) != 0 || len(backupsOf(t, dir)) != 0 {
		t.Error("backups are made")
	}
}
