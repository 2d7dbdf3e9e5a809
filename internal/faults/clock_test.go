//go:build linux

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A registry whose wall clock can jump is built from the real sources with two files laid over them: time.Now adds an
// offset to the wall clock and to nothing else, and at SIGUSR1 the command sets it to a year. The monotonic clock goes on,
// as it does when somebody sets the clock of a machine. Nobody's clock but this process's is touched.
const (
	now     = "sec, nsec, mono := runtimeNow()\n"
	jumping = "var Jump int64 // seconds\n"
	command = `package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGUSR1)
	go func() {
		<-c
		time.Jump = 365 * 24 * 3600
		fmt.Fprintln(os.Stderr, "the wall clock jumped to", time.Now().Year())
	}()
}
`
)

// jumpingBinary builds that registry when it is first wanted, which takes the compiler a minute: the standard library is
// another.
var jumpingBinary = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(scratch, "jumping")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	clock := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(clock)
	if err != nil {
		return "", err
	}
	before, after, found := strings.Cut(string(text), now)
	if !found {
		return "", fmt.Errorf("%s: there is no %q", clock, now)
	}
	main, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/weftmesh/weft/registry-server").Output()
	if err != nil {
		return "", err
	}
	overlay := map[string]string{
		clock: write(dir, "time.go", before+now+"\tsec += Jump\n"+after+jumping),
		filepath.Join(strings.TrimSpace(string(main)), "zz_jump.go"): write(dir, "jump.go", command),
	}
	list, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "registry-server")
	build := exec.Command("go", "build", "-overlay", write(dir, "overlay.json", string(list)), "-o", path, "github.com/weftmesh/weft/registry-server")
	build.Env = usualEnvironment
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, out)
	}
	return path, nil
})

// write writes a file of the overlay; a failure shows when the go command reads it.
func write(dir, name, text string) string {
	path := filepath.Join(dir, name)
	_ = os.WriteFile(path, []byte(text), 0o600)
	return path
}

// newTimedRegistry starts a registry with the ttl of these tests and a clock that can jump.
func newTimedRegistry(t *testing.T) *registry {
	t.Helper()
	return startRegistry(t, jumpingBinary, "--session-ttl", sessionTTL().String())
}

// jump sets its wall clock a year ahead.
func (r *registry) jump(t *testing.T) {
	t.Helper()
	r.signal(syscall.SIGUSR1)
	eventually(t, "the clock jumps", 10*time.Second, func() error {
		return errorUnless(strings.Contains(r.said(), fmt.Sprint("jumped to ", time.Now().Year()+1)), "it did not")
	})
}
