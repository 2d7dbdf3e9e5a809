package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// world is the processes of the quickstart and where they live: all in one temporary folder.
type world struct {
	dir      string // everything the processes write
	grpcAddr string // of the registry server
	httpAddr string
	webAddr  string
	running  map[string]*process
}

type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

func newWorld() (*world, error) {
	dir, err := os.MkdirTemp("", "weft-quickstart-")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, running: map[string]*process{}}
	for _, addr := range []*string{&w.grpcAddr, &w.httpAddr, &w.webAddr} {
		if *addr, err = freeAddr(); err != nil {
			return nil, errors.Join(err, os.RemoveAll(dir))
		}
	}
	return w, nil
}

// freeAddr finds a loopback port that nobody uses now. It is below those that systems hand out by themselves, so that it is
// likely to be free still when the registry server comes back to it.
func freeAddr() (addr string, err error) {
	for range 100 {
		addr = net.JoinHostPort("127.0.0.1", strconv.Itoa(20_000+rand.IntN(12_000)))
		l, e := net.Listen("tcp", addr)
		if e == nil {
			return addr, l.Close()
		}
		err = e
	}
	return "", fmt.Errorf("no free port on 127.0.0.1: %w", err)
}

// programs are what is built, by the name of the binary.
var programs = []struct{ name, path string }{
	{"registry-server", "github.com/weftmesh/weft/registry-server"},
	{"weftctl", "github.com/weftmesh/weft/cmd/weftctl"},
	{"shopd", "github.com/weftmesh/weft/examples/quickstart/shopd"},
}

func (w *world) bin(name string) string { return filepath.Join(w.dir, "bin", name) }

// build compiles the programs and shows that it is busy.
func (w *world) build(ctx context.Context) error {
	fmt.Println("building three programs; the first time this takes a minute or two")
	for _, p := range programs {
		if err := w.compile(ctx, p.name, p.path); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) compile(ctx context.Context, name, path string) error {
	start := time.Now()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", w.bin(name), path)
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "GOTMPDIR="+w.dir, "TMPDIR="+w.dir) // interrupted, it and the C compiler may leave files there
	cmd.SysProcAttr = ownGroup()
	cmd.Cancel = func() error { return interruptGroup(cmd.Process) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Start()
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("there is no go command on the PATH: install Go from https://go.dev/dl, or add its bin folder to the PATH")
	case err != nil:
		return fmt.Errorf("go build %s: %w", path, err)
	}
	if err := waitShown("building "+name, cmd); err != nil {
		return fmt.Errorf("go build %s: %w (is the current folder inside Weft's checkout?)", path, err)
	}
	fmt.Printf("   %s: %.1f s\n", name, time.Since(start).Seconds())
	return nil
}

// waitShown waits for a command and prints a line every ten seconds meanwhile.
func waitShown(what string, cmd *exec.Cmd) error {
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	start := time.Now()
	for {
		select {
		case err := <-ended:
			return err
		case <-time.After(10 * time.Second):
			fmt.Printf("   %s: %.0f s and going on\n", what, time.Since(start).Seconds())
		}
	}
}

// start runs a program under a name. Its files go into the world's folder, its output into a log there.
func (w *world) start(name, program string, args ...string) error {
	log := filepath.Join(w.dir, name+".log")
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(w.bin(program), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = w.dir, out, out
	cmd.SysProcAttr = ownGroup()
	cmd.Env = append(withoutWeft(os.Environ()), "WEFT_REGISTRY="+w.grpcAddr, "XDG_CONFIG_HOME="+filepath.Join(w.dir, "config"),
		"XDG_CACHE_HOME="+filepath.Join(w.dir, "cache", name))
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() { cmd.Wait(); close(p.done) }()
	w.running[name] = p
	return nil
}

// withoutWeft leaves out what the user has set for another mesh.
func withoutWeft(env []string) []string {
	return slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "WEFT_") })
}

func (w *world) startRegistry() error {
	return w.start("registry", "registry-server", "--grpc-addr", w.grpcAddr, "--http-addr", w.httpAddr, "--data-dir", filepath.Join(w.dir, "data"))
}

// kill ends a process as a crash would, and waits until it is gone.
func (w *world) kill(name string) error {
	p := w.running[name]
	if p == nil {
		return fmt.Errorf("no process %s", name)
	}
	delete(w.running, name)
	err := p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.done
	return err
}

// patience is how long a process may take to end before it is killed.
const patience = 10 * time.Second

// close ends what runs, politely first and the registry last, and removes the folder.
func (w *world) close() {
	registry := w.running["registry"]
	delete(w.running, "registry")
	for _, p := range w.running {
		p.cmd.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range w.running {
		p.await()
	}
	if registry != nil {
		registry.cmd.Process.Signal(syscall.SIGTERM)
		registry.await()
	}
	os.RemoveAll(w.dir)
}

func (p *process) await() {
	select {
	case <-p.done:
	case <-time.After(patience):
		p.cmd.Process.Kill()
		<-p.done
	}
}

// dead is an error if a process has ended that should be running: its last word says why, such as a port that
// somebody else has taken meanwhile.
func (w *world) dead() error {
	for name, p := range w.running {
		select {
		case <-p.done:
			return fmt.Errorf("the process %s has ended: %s", name, p.lastWord())
		default:
		}
	}
	return nil
}

func (p *process) lastWord() string {
	text, _ := os.ReadFile(p.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return lines[len(lines)-1]
}

// showLogs prints the end of every process's log.
func (w *world) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		fmt.Fprintf(os.Stderr, "\n--- %s\n%s", filepath.Base(log), text[max(0, len(text)-2000):])
	}
}

// eventually asks until it gets a nil error, for at most ten seconds and as long as all processes run. One question may
// take three seconds.
func (w *world) eventually(ctx context.Context, ask func(context.Context) error) (time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		if err := w.dead(); err != nil {
			return 0, err
		}
		question, done := context.WithTimeout(ctx, 3*time.Second)
		err := ask(question)
		done()
		if err == nil {
			return time.Since(start), nil
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return 0, errors.Join(ctx.Err(), err)
		}
	}
}

// invite says what to try while all is running.
func (w *world) invite() {
	token, weftctl := quoted(filepath.Join(w.dir, "data", "admin.token")), quoted(w.bin("weftctl"))
	fmt.Printf(`
Everything is still running; Ctrl-C ends it. In another terminal:

  export WEFT_HTTP=http://%s WEFT_TOKEN="$(cat %s)"
  %s get services
  %s get instances product
  %s get rules -o yaml
  curl -s -H "Authorization: Bearer $WEFT_TOKEN" $WEFT_HTTP/v1/services/product/instances
  curl -s -H "Authorization: Bearer $WEFT_TOKEN" -H 'Content-Type: application/yaml' -X PUT $WEFT_HTTP/v1/rules/route/product-canary --data-binary @- <<'EOF'
kind: Route
name: product-canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules: [{split: [{subset: v1, weight: 50}, {subset: v2, weight: 50}]}]
EOF
  curl -s 'http://%s/calls?via=grpc&n=1000'
  curl -s http://%s/metrics | grep weft_
`, w.httpAddr, token, weftctl, weftctl, weftctl, w.webAddr, w.webAddr)
}

// quoted makes a path one word of a shell.
func quoted(path string) string {
	if !strings.ContainsAny(path, " '\"$`\\&;()*?<>|#~") {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
}
