//go:build unix

package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// TestMain is the main function of the instances too, which are this binary started again: see product_test.go.
func TestMain(m *testing.M) {
	if id := os.Getenv(productID); id != "" {
		if err := serveProducts(id); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "weft-faults-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	usualEnvironment = os.Environ()
	scratch = dir
	// One configuration directory for all: each registry has a file of its own there, named after its port.
	os.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	os.Setenv("XDG_CACHE_HOME", filepath.Join(dir, "cache"))
	serverBinary = sync.OnceValues(func() (string, error) { return build(filepath.Join(dir, "registry-server")) })
	flag.Parse()
	flag.Set("test.parallel", "4") // they wait, most of the time
	code := m.Run()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// serverBinary builds the registry server when it is first wanted.
var serverBinary func() (string, error)

// usualEnvironment is that of the go command, whose cache is the usual one; scratch is a folder for what is built.
var (
	usualEnvironment []string
	scratch          string
)

func build(path string) (string, error) {
	cmd := exec.Command("go", "build", "-o", path, "github.com/weftmesh/weft/registry-server")
	cmd.Env = usualEnvironment
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
}

// proving reports whether the tests that take long are wanted.
func proving() bool { return full() || os.Getenv("WEFT_PROVE") == "ci" }

// full reports whether the long version of a test is wanted.
func full() bool { return os.Getenv("WEFT_PROVE") == "full" }
