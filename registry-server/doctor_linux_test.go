package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftmesh/weft/internal/registry/store"
)

// said runs a command to its end.
func said(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(t.Context(), args, none, &out, &err)
	return code, out.String(), err.String()
}

func doctorOf(t *testing.T, dir string, args ...string) (code int, stdout string) {
	t.Helper()
	code, stdout, stderr := said(t, append([]string{"doctor", "--data-dir", dir, "--max-sessions", "10"}, args...)...)
	if stderr != "" {
		t.Errorf("it complains: %s", stderr)
	}
	return code, stdout
}

// A server as it is with no flag at all has no weakness; each weakness is told with its remedy.
func TestDoctor(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir := used(t)
	if code, out := doctorOf(t, dir); code != 0 || !strings.Contains(out, "ok    store: ") || strings.Contains(out, "weak") {
		t.Fatalf("a new server: code %d\n%s", code, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if code, out := doctorOf(t, dir); code != 1 || !strings.Contains(out, "weak  data directory: ") || !strings.Contains(out, "→ chmod 700 "+dir) {
		t.Errorf("a directory for everybody: code %d\n%s", code, out)
	}
}

func TestDoctorBesideARunningServer(t *testing.T) {
	c := startChild(t, filepath.Join(t.TempDir(), "data"))
	if code, out := doctorOf(t, c.dir); code != 0 || !strings.Contains(out, "?     store: a server has it open") {
		t.Errorf("code %d\n%s", code, out)
	}
	if code, body := c.call(t, "PUT", "after"); code != 201 {
		t.Errorf("the server was disturbed: %d %s", code, body)
	}
}

func TestBackupAndRestore(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	dir, file := filepath.Join(t.TempDir(), "data"), filepath.Join(t.TempDir(), "b")
	c := startChild(t, dir)
	c.call(t, "PUT", "kept")
	if code, _, stderr := said(t, "backup", "--data-dir", dir, "--to", file); code != 1 || !strings.Contains(stderr, "in use by another process") || !strings.Contains(stderr, "weftctl backup") {
		t.Errorf("while it runs: %d %s", code, stderr)
	}
	if code, _, stderr := said(t, "restore", "--data-dir", dir, "--from", os.Args[0]); code != 1 || !strings.Contains(stderr, "in use by another process") {
		t.Errorf("restored while it runs: %d %s", code, stderr)
	}
	c.kill()
	if code, stdout, stderr := said(t, "backup", "--data-dir", dir, "--to", file); code != 0 || !strings.Contains(stdout, file) {
		t.Fatal(code, stdout, stderr)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 600", info, err)
	}
	if code, _, stderr := said(t, "backup", "--data-dir", dir, "--to", file); code != 1 || !strings.Contains(stderr, "choose another name") {
		t.Errorf("over a file: %d %s", code, stderr)
	}
	c = startChild(t, dir)
	c.call(t, "PUT", "newer")
	c.kill()
	if code, _, stderr := said(t, "restore", "--data-dir", dir, "--from", os.Args[0]); code != 1 || !strings.Contains(stderr, store.ErrBackup.Error()) {
		t.Errorf("from what is no backup: %d %s", code, stderr)
	}
	if code, stdout, stderr := said(t, "restore", "--data-dir", dir, "--from", file); code != 0 {
		t.Fatal(code, stdout, stderr)
	}
	c = startChild(t, dir)
	if code, _ := c.call(t, "GET", "kept"); code != 200 {
		t.Errorf("what was backed up: %d", code)
	}
	if code, _ := c.call(t, "GET", "newer"); code != 404 {
		t.Errorf("what came later: %d", code)
	}
	if old, _ := filepath.Glob(filepath.Join(dir, "registry.db.replaced-*")); len(old) != 1 {
		t.Errorf("what was replaced is in %v", old)
	}
}

func TestABackupThatFailsLeavesNoFile(t *testing.T) {
	st := store.NewMemory()
	st.Close()
	path := filepath.Join(t.TempDir(), "b")
	if err := writeBackup(st, path); !errors.Is(err, store.ErrClosed) {
		t.Errorf("error %v, want store.ErrClosed", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file is left: %v", err)
	}
}
