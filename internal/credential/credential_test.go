package credential

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func home(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("XDG_CONFIG_HOME", dir)
	return filepath.Join(dir, "weft")
}

var sample = File{GRPC: "127.0.0.1:7070", HTTP: "127.0.0.1:7080", DataDir: "/var/lib/weft", Pin: strings.Repeat("ab", 32), Token: "weft-workload-x"}

func TestWriteThenRead(t *testing.T) {
	dir := home(t)
	if err := Write(7070, sample); err != nil {
		t.Fatal(err)
	}
	got, err := Read(7070)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sample, got); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, "7070.json"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want mode %o", path, info.Mode(), err, want)
		}
	}
	entries, _ := os.ReadDir(dir)
	if len(entries) != 1 {
		t.Errorf("%d files in %s, want the one", len(entries), dir)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := home(t)
	path := filepath.Join(dir, "7070.json")
	for _, c := range []struct {
		name  string
		spoil func() error
		want  string // "" is the control: it is read
	}{
		{"untouched", func() error { return nil }, ""},
		{"group readable", func() error { return os.Chmod(path, 0o640) }, "chmod 600"},
		{"others writable", func() error { return os.Chmod(path, 0o602) }, "chmod 600"},
		{"not JSON", func() error { return os.WriteFile(path, []byte("{"), 0o600) }, "restart the registry server"},
		{"too large", func() error { return os.WriteFile(path, make([]byte, MaxSize+1), 0o600) }, "more than 65536 bytes"},
		{"a directory", func() error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "not a regular file"},
		{"of another user", func() error { return os.Chown(path, 12345, -1) }, "belongs to user 12345"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := errors.Join(os.RemoveAll(path), Write(7070, sample)); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(); errors.Is(err, fs.ErrPermission) {
				t.Skip("only root can give files away")
			} else if err != nil {
				t.Fatal(err)
			}
			_, err := Read(7070)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestReadWithoutFile(t *testing.T) {
	home(t)
	if _, err := Read(7070); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	if _, err := Read(70700); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v for port 70700, want one about the port", err)
	}
}

func TestRemoveOnlyItsOwn(t *testing.T) {
	home(t)
	successor := sample
	successor.DataDir = "/elsewhere"
	if err := Write(7070, successor); err != nil {
		t.Fatal(err)
	}
	if err := Remove(7070, sample); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(7070); err != nil {
		t.Fatalf("the successor's file is gone: %v", err)
	}
	if err := Remove(7070, successor); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(7070); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist", err)
	}
	if err := Remove(7070, successor); err != nil {
		t.Errorf("removing nothing: %v", err)
	}
}

func TestPorts(t *testing.T) {
	dir := home(t)
	if ports, err := Ports(); err != nil || ports != nil {
		t.Errorf("%v, %v with no directory", ports, err)
	}
	for _, port := range []int{9000, 7070} {
		if err := Write(port, sample); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	ports, err := Ports()
	if diff := cmp.Diff([]int{7070, 9000}, ports); diff != "" || err != nil {
		t.Error(diff, err)
	}
}
