package main

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// used makes a data directory as a server leaves it.
func used(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if code, said := started(t, dir); code != 0 {
		t.Fatal(said)
	}
	return dir
}

// started runs a server on free ports that stops at once if it starts at all.
func started(t *testing.T, dir string, args ...string) (code int, said string) {
	t.Helper()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr bytes.Buffer
	code = run(ended, append([]string{"--data-dir", dir, "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}, args...), none, &stdout, &stderr)
	return code, stderr.String()
}

// oneLine wants the failure of a server that was called rightly: one line, with all of the words.
func oneLine(t *testing.T, code int, said string, words ...string) {
	t.Helper()
	if code != 1 || strings.Count(said, "\n") != 1 {
		t.Errorf("code %d, want 1 and one line: %q", code, said)
	}
	for _, w := range words {
		if !strings.Contains(said, w) {
			t.Errorf("%q does not say %q", said, w)
		}
	}
}

// TestDamagedData spoils one file of a good directory, which starts while nothing is spoiled.
func TestDamagedData(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	random := make([]byte, 32<<10)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	write := func(data []byte) func(string) error {
		return func(path string) error { return os.WriteFile(path, data, 0o600) }
	}
	cut := func(size int64) func(string) error {
		return func(path string) error { return os.Truncate(path, size) }
	}
	directory := func(path string) error {
		os.Remove(path)
		return os.Mkdir(path, 0o700)
	}
	for _, c := range []struct {
		name, file string
		spoil      func(path string) error
		words      []string // none: it starts
	}{
		{"nothing", "registry.db", func(string) error { return nil }, nil},
		{"cut off", "registry.db", cut(20_000), []string{"damaged", "restore it", "move it away", "cut off"}},
		{"cut in the first page", "registry.db", cut(100), []string{"damaged", "restore it", "move it away"}},
		{"zeros", "registry.db", write(make([]byte, 32<<10)), []string{"damaged", "restore it", "move it away"}},
		{"random bytes", "registry.db", write(random), []string{"damaged", "restore it", "move it away"}},
		{"a directory", "registry.db", directory, []string{"damaged", "move it away"}},
		{"an empty token", "admin.token", cut(0), []string{"delete the file"}},
		{"a token for everybody", "workload.token", func(path string) error { return os.Chmod(path, 0o644) }, []string{"chmod 600"}},
		{"a certificate that is none", "server.pem", write([]byte("none")), []string{"delete the file", "restart the SDKs"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := used(t)
			path := filepath.Join(dir, c.file)
			if err := c.spoil(path); err != nil {
				t.Fatal(err)
			}
			code, said := started(t, dir)
			if c.words == nil {
				if code != 0 {
					t.Error(said)
				}
				return
			}
			oneLine(t, code, said, append(c.words, path)...)
		})
	}
}

func TestWhatIsTaken(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--grpc-addr", "--http-addr"} {
		code, said := started(t, t.TempDir(), flag, lis.Addr().String())
		oneLine(t, code, said, flag+" "+lis.Addr().String(), "in use by another process", "choose another port")
	}
	code, said := started(t, file)
	oneLine(t, code, said, file, "not a directory", "choose another --data-dir")
}
