package peers

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// process is a child, gone when the test ends.
type process struct {
	cmd   *exec.Cmd
	log   string
	trace string // strace's output; "" without
	pid   int    // of the server itself, not of strace
	done  chan struct{}
}

// spawn starts a program; with trace, under strace, which notes each sync to disk.
func spawn(t *testing.T, trace bool, env []string, name string, args ...string) *process {
	t.Helper()
	p := &process{log: filepath.Join(t.TempDir(), "log"), done: make(chan struct{})}
	if trace {
		p.trace = filepath.Join(t.TempDir(), "syncs")
		args = append([]string{"-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync,fdatasync", "-e", "signal=none", "-o", p.trace, name}, args...)
		name = "strace"
	}
	out, err := os.Create(p.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p.cmd = exec.Command(name, args...)
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Env = out, out, append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.pid = p.cmd.Process.Pid
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			text, _ := os.ReadFile(p.log)
			t.Logf("%s said:\n%s", name, text[max(0, len(text)-3000):])
		}
	})
	return p
}

// kill is a crash.
func (p *process) kill() { p.end(syscall.SIGKILL) }

// stop is a stop as it should be.
func (p *process) stop(t *testing.T) {
	t.Helper()
	t.Log("stopping took", p.end(syscall.SIGTERM))
}

// end signals the process and all that it started, and waits.
func (p *process) end(s syscall.Signal) time.Duration {
	start := time.Now()
	_ = syscall.Kill(-p.cmd.Process.Pid, s) // it may be gone already
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
	return time.Since(start).Round(time.Millisecond)
}

// cpu is the processor time of the process so far, user and system. It comes in steps of 10 ms.
func (p *process) cpu(t *testing.T) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * (time.Second / 100)
}

// memory in bytes: what is the process's alone, and that together with the pages of files that it has mapped.
type memory struct{ anonymous, resident int }

func (p *process) memory(t *testing.T) (m memory) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		kb, _ := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
		switch name {
		case "RssAnon":
			m.anonymous = kb << 10
		case "VmRSS":
			m.resident = kb << 10
		}
	}
	return m
}

// syncs counts the calls of fsync and fdatasync so far.
func (p *process) syncs(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile(p.trace)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("sync("))
}

// canTrace reports whether strace is there and may trace.
func canTrace() bool {
	return exec.Command("strace", "-f", "--seccomp-bpf", "-qq", "-e", "trace=fsync", "-o", os.DevNull, "true").Run() == nil
}

// freePort finds a loopback port below those that the system gives to clients.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20_000 + rand.IntN(12_000)
		if l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("100 ports are all in use")
	return 0
}

// eventually asks until the answer is nil, and gives how long that took.
func eventually(t *testing.T, what string, limit time.Duration, ask func() error) time.Duration {
	t.Helper()
	for start := time.Now(); ; time.Sleep(2 * time.Millisecond) {
		err := ask()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > limit {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
	}
}

// dropCache makes the system forget the pages of all files in a directory, so that the next reader waits for the disk. It
// gives the number of bytes on disk.
func dropCache(t *testing.T, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		size += info.Sys().(*syscall.Stat_t).Blocks * 512
		return errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}
