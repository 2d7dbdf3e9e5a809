package peers

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
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
	debug.SetGCPercent(400) // the clients share the processors with the servers: they should not spend them on garbage
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

// extent is how much is measured, as WEFT_PROVE says.
type extent int

const (
	smoke extent = iota // does the harness work? Nothing is held to a bound that depends on time
	small               // ci
	full
)

func wanted() extent {
	return map[string]extent{"ci": small, "full": full}[os.Getenv("WEFT_PROVE")]
}

// pick gives the value for the run that is wanted.
func pick[T any](whole, ci, tiny T) T { return [...]T{tiny, ci, whole}[wanted()] }
