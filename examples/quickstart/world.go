package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
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
			return nil, err
		}
	}
	return w, nil
}

// freeAddr finds a loopback port that nobody uses now.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// programs are what is built, by the name of the binary.
var programs = []struct{ name, path string }{
	{"registry-server", "github.com/weftmesh/weft/registry-server"},
	{"weftctl", "github.com/weftmesh/weft/cmd/weftctl"},
	{"shopd", "github.com/weftmesh/weft/examples/quickstart/shopd"},
}

func (w *world) bin(name string) string { return filepath.Join(w.dir, "bin", name) }

// build compiles the programs and shows that it is busy: the first time it takes a minute or two.
func (w *world) build(ctx context.Context) error {
	for _, p := range programs {
		start := time.Now()
		cmd := exec.CommandContext(ctx, "go", "build", "-o", w.bin(p.name), p.path)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("go build %s: %w (is the go command on the PATH?)", p.path, err)
		}
		if err := waitShown("building "+p.name, cmd); err != nil {
			return fmt.Errorf("go build %s: %w", p.path, err)
		}
		fmt.Printf("building %s: %.1f s\n", p.name, time.Since(start).Seconds())
	}
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
			fmt.Printf("%s: %.0f s and going on\n", what, time.Since(start).Seconds())
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
	cmd.Env = append(os.Environ(), "WEFT_REGISTRY="+w.grpcAddr, "XDG_CONFIG_HOME="+filepath.Join(w.dir, "config"),
		"XDG_CACHE_HOME="+filepath.Join(w.dir, "cache", name))
	if err := cmd.Start(); err != nil {
		return err
	}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	go func() { cmd.Wait(); close(p.done) }()
	w.running[name] = p
	return nil
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

// close ends what runs, politely first, and removes the folder.
func (w *world) close() {
	for _, name := range w.order() {
		p := w.running[name]
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(5 * time.Second):
			p.cmd.Process.Kill()
			<-p.done
		}
	}
	os.RemoveAll(w.dir)
}

// order lists the processes, the registry last.
func (w *world) order() []string {
	var names []string
	for name := range w.running {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		switch {
		case a == "registry":
			return 1
		case b == "registry":
			return -1
		}
		return 0
	})
	return names
}

// showLogs prints the end of every process's log.
func (w *world) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(w.dir, "*.log"))
	for _, log := range logs {
		text, _ := os.ReadFile(log)
		fmt.Fprintf(os.Stderr, "\n--- %s\n%s", filepath.Base(log), text[max(0, len(text)-2000):])
	}
}

// eventually asks until it gets a nil error, for at most ten seconds.
func eventually(ctx context.Context, ask func() error) (time.Duration, error) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		err := ask()
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
	fmt.Printf(`
Everything is still running; Ctrl-C ends it. In another terminal:

  export WEFT_HTTP=http://%s WEFT_TOKEN=$(cat %s)
  %s get services
  %s get rules -o yaml
  curl -s -H "Authorization: Bearer $WEFT_TOKEN" $WEFT_HTTP/v1/services/product/instances
  curl -s -H "Authorization: Bearer $WEFT_TOKEN" -X PUT $WEFT_HTTP/v1/rules/route/product-canary --data-binary @- <<'EOF'
kind: Route
name: product-canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules: [{split: [{subset: v1, weight: 50}, {subset: v2, weight: 50}]}]
EOF
  curl -s 'http://%s/calls?via=grpc&n=1000'
  curl -s http://%s/metrics | grep weft_
`, w.httpAddr, filepath.Join(w.dir, "data", "admin.token"), w.bin("weftctl"), w.bin("weftctl"), w.webAddr, w.webAddr)
}
