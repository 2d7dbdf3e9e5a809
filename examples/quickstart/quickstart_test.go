//go:build unix

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// trial is the quickstart in a process of its own, in surroundings that are as hostile as a stranger's can be: a folder for
// temporary files with a space in its name, no network, no home, and the environment of another mesh.
type trial struct {
	t    *testing.T
	cmd  *exec.Cmd
	temp string // all that it may write to
	out  *bufio.Reader
	said bytes.Buffer // of out, what was read
	errs string       // the file of its standard error
}

// program is the compiled quickstart.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return path
}

func begin(t *testing.T, path string, args ...string) *trial {
	t.Helper()
	temp := filepath.Join(t.TempDir(), "temporary files")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	s := &trial{t: t, temp: temp, cmd: exec.Command(path, args...)}
	s.cmd.Env = append(withoutWeft(os.Environ()), "TMPDIR="+temp, "HOME=/nonexistent", "XDG_CONFIG_HOME=", "XDG_CACHE_HOME=",
		"GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOPROXY=off", "GOFLAGS=-mod=readonly",
		"WEFT_TOKEN=wrong", "WEFT_REGISTRY=127.0.0.1:1", "WEFT_HTTP=127.0.0.1:1", "WEFT_SERVER_STORE=none")
	s.cmd.Dir = "shop" // any folder inside the module will do
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	errs, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	s.cmd.Stderr, s.errs = errs, errs.Name()
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = bufio.NewReader(io.TeeReader(out, &s.said))
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if s.cmd.ProcessState == nil {
			s.interrupt()
			s.cmd.Wait()
		}
	})
	return s
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// until reads the output up to a line that has the text.
func (s *trial) until(text string) {
	s.t.Helper()
	for {
		line, err := s.out.ReadString('\n')
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			s.cmd.Wait()
			s.t.Fatalf("it ended before it said %q: %s\n%s", text, &s.said, s.failures())
		}
	}
}

// failures is what it wrote to its standard error.
func (s *trial) failures() string {
	text, err := os.ReadFile(s.errs)
	if err != nil {
		s.t.Error(err)
	}
	return string(text)
}

// interrupt is Ctrl-C in a terminal: all processes of the group get it.
func (s *trial) interrupt() { syscall.Kill(-s.cmd.Process.Pid, syscall.SIGINT) }

// ends wants the exit code, within a time, and nothing left behind.
func (s *trial) ends(code int) {
	s.t.Helper()
	hung := time.AfterFunc(30*time.Second, func() { s.cmd.Process.Kill() })
	io.Copy(io.Discard, s.out)
	s.cmd.Wait()
	if !hung.Stop() {
		s.t.Error("it had to be killed after 30 s")
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("exit code %d, want %d: %s\n%s", got, code, &s.said, s.failures())
	}
	s.nothingLeft()
}

func (s *trial) nothingLeft() {
	s.t.Helper()
	files, err := os.ReadDir(s.temp)
	if err != nil || len(files) > 0 {
		s.t.Errorf("left in its folder for temporary files: %v, %v", files, err)
	}
	if left := s.processes(); len(left) > 0 {
		s.t.Errorf("left running: %q", left)
	}
}

// processes lists those that the quickstart started, by the folder in their environment. It needs Linux.
func (s *trial) processes() (found []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, path := range all {
		env, err := os.ReadFile(path)
		if err == nil && bytes.Contains(env, []byte("TMPDIR="+s.temp+"\x00")) {
			cmdline, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			found = append(found, string(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// figures are what the quickstart must say. A group in parentheses is a number of at least min.
var figures = []struct {
	pattern string
	min     float64
}{
	{`building three programs`, 0},
	{`registry ready after (\d+) ms`, 0},
	{`6 product instances registered (\d+) ms after`, 0},
	{`grpc: calls by name reach all three`, 0},
	{`http: calls by name reach all three`, 0},
	{`grpc: 2000 calls, ([\d.]+) % to v2`, 7},
	{`http: 2000 calls, ([\d.]+) % to v2`, 7},
	{`grpc, header=x-user-tier:gold: 200 of 200 calls to v2`, 0},
	{`http, header=x-user-tier:gold: 200 of 200 calls to v2`, 0},
	{`grpc, cookie=beta=1: 200 of 200 calls to v2`, 0},
	{`http, cookie=beta=1: 200 of 200 calls to v2`, 0},
	{`100 users, 10 calls each over both protocols: (\d+) on v2, 0 moved`, 1},
	{`(\d+) reads, which may be repeated: 0 failed`, 500},
	{`(\d+) orders, which must not be: \d+ failed`, 500},
	{`(\d+) calls before, while it was gone \(3 s\) and after: 0 failed`, 1000},
	{`back: all 6 instances are up and 2 of 2 rules are there`, 0},
	{`weft_requests_total\{caller="web.default",.*service="product.default"\} (\d+)`, 1000},
	{`trace [0-9a-f]{32}:\n +web .*\n +web .*\n +web .*\n +product `, 0},
	{`All 7 steps went as they should, in (\d+) s`, 1},
}

func TestQuickstart(t *testing.T) {
	before := files(t)
	s := begin(t, program(t), "-keep")
	s.until("curl -s http") // the last line
	if runtime.GOOS == "linux" && len(s.processes()) != 6 {
		t.Errorf("running: %q, want the quickstart, a registry, web and three products", s.processes())
	}
	said := s.said.String()
	for _, f := range figures {
		m := regexp.MustCompile(f.pattern).FindStringSubmatch(said)
		if m == nil {
			t.Errorf("it does not say %s", f.pattern)
		} else if len(m) == 2 {
			if n, err := strconv.ParseFloat(m[1], 64); err != nil || n < f.min {
				t.Errorf("%q, want at least %g", m[0], f.min)
			}
		}
	}
	if got := s.failures(); got != "" {
		t.Errorf("on standard error: %s", got)
	}
	s.pasted(said)
	s.interrupt()
	s.ends(0)
	if t.Failed() {
		t.Log(said)
	}
	if after := files(t); !slices.Equal(before, after) {
		t.Errorf("files here: %v, were %v", after, before)
	}
}

func files(t *testing.T) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// pasted runs each line that -keep suggests as a shell would, and wants it to work.
func (s *trial) pasted(said string) {
	t := s.t
	t.Helper()
	_, lines, _ := strings.Cut(said, "In another terminal:\n\n")
	commands := split(lines)
	wants := []string{
		"", // the variables
		`product +6 +6 +2|product .*6`,
		`p1-grpc`,
		`kind: Retry`,
		`"id":"p1-grpc"`,
		`"outcome":"configured"`,
		`"v2":\d{2,}.*"failed":0`,
		`weft_requests_total`,
	}
	if len(commands) != len(wants) {
		t.Fatalf("%d commands, want %d: %q", len(commands), len(wants), commands)
	}
	for i, want := range wants {
		if _, err := exec.LookPath("curl"); err != nil && strings.Contains(commands[i], "curl") {
			t.Logf("not tried, as there is no curl: %s", commands[i])
			continue
		}
		cmd := exec.Command("sh", "-c", commands[0]+"\n"+commands[i])
		cmd.Env = append(withoutWeft(os.Environ()), "XDG_CONFIG_HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil || !regexp.MustCompile(want).Match(out) {
			t.Errorf("%s: %v, want %s: %s", commands[i], err, want, out)
		}
	}
	s.half()
}

// half wants the pasted rule to be in force.
func (s *trial) half() {
	s.t.Helper()
	addr := regexp.MustCompile(`http://(\S+)/metrics`).FindStringSubmatch(s.said.String())[1]
	w := &world{webAddr: addr}
	took, err := w.eventually(s.t.Context(), func(ctx context.Context) error {
		c, err := w.calls(ctx, "via=grpc&n=200")
		if err == nil && c.Versions["v2"] < 50 {
			err = fmt.Errorf("%v, want about half on v2", c.Versions)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
	s.t.Logf("the pasted rule was in force after %s", took)
}

// split cuts text into commands: one a line, a here-document with its first line.
func split(text string) (commands []string) {
	inside := false
	for line := range strings.Lines(text) {
		switch {
		case inside:
			commands[len(commands)-1] += line
			inside = line != "EOF\n"
		case strings.TrimSpace(line) != "":
			commands = append(commands, strings.TrimPrefix(line, "  "))
			inside = strings.HasSuffix(line, "<<'EOF'\n")
		}
	}
	return commands
}

func TestInterrupted(t *testing.T) {
	path := program(t)
	for _, during := range []string{"building", "2. A canary"} {
		s := begin(t, path)
		s.until(during)
		time.Sleep(200 * time.Millisecond) // into it
		s.interrupt()
		s.ends(1)
		if got := s.failures(); !strings.Contains(got, "interrupted; all that it started has ended") || strings.Contains(got, "---") {
			t.Errorf("%s: it says %q", during, got)
		}
	}
}

func TestWithoutGo(t *testing.T) {
	temp := t.TempDir()
	cmd := exec.Command(program(t))
	cmd.Env = []string{"PATH=/nonexistent", "TMPDIR=" + temp}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "there is no go command on the PATH: install Go") {
		t.Errorf("%v: %s", err, out)
	}
	s := &trial{t: t, temp: temp}
	s.nothingLeft()
}

func TestWrongArgument(t *testing.T) {
	cmd := exec.Command(program(t), "keep")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 2 || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), "-keep") {
		t.Errorf("%v: %s", err, out)
	}
}

// A port that somebody takes between the choice and the start is named, at once.
func TestAPortIsTaken(t *testing.T) {
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	if err := w.compile(t.Context(), programs[0].name, programs[0].path); err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", w.httpAddr)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	err = discover(t.Context(), w)
	if err == nil || !strings.Contains(err.Error(), w.httpAddr+" is in use by another process") {
		t.Errorf("error %v", err)
	}
}
