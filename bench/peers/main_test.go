package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// childRole makes this binary one of the children: see bare_test.go.
const childRole = "WEFT_PEERS_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := children[role](); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "weft-peers-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	registryBinary = sync.OnceValues(func() (string, error) {
		return build("../..", filepath.Join(dir, "registry-server"), "./registry-server") // with the requirements of its own module
	})
	etcdBinary = sync.OnceValues(func() (string, error) {
		return build(".", filepath.Join(dir, "etcd"), "go.etcd.io/etcd/server/v3")
	})
	return m.Run()
}

// The binaries of the children, built when they are first wanted.
var registryBinary, etcdBinary func() (string, error)

func build(module, path, pkg string) (string, error) {
	cmd := exec.Command("go", "build", "-trimpath", "-o", path, pkg)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build %s: %w: %s", pkg, err, out)
	}
	return path, nil
}

// full reports whether the full size is wanted.
func full() bool { return os.Getenv("WEFT_PROVE") == "full" }

// pick gives the value for the full or for the small run.
func pick[T any](whole, small T) T {
	if full() {
		return whole
	}
	return small
}

// long skips a test that takes many seconds where such are not wanted.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes many seconds")
	}
}
