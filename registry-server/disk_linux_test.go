package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// child is a server in a process of its own.
type child struct {
	cmd  *exec.Cmd
	log  string
	addr string
	dir  string
}

func command(t *testing.T, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "--data-dir", dir, "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), asServer+"=1", "XDG_CONFIG_HOME="+t.TempDir())
	return cmd
}

var ready = regexp.MustCompile(`registry server is ready.* http=(\S+)`)

func startChild(t *testing.T, dir string) *child {
	t.Helper()
	c := &child{cmd: command(t, dir), log: filepath.Join(t.TempDir(), "log"), dir: dir}
	out, err := os.Create(c.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	c.cmd.Stderr = out
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		text, _ := os.ReadFile(c.log)
		if m := ready.FindSubmatch(text); m != nil {
			c.addr = string(m[1])
			return c
		}
	}
	t.Fatal("the server is not ready after 20 s")
	return nil
}

func (c *child) kill() {
	c.cmd.Process.Kill()
	c.cmd.Wait()
}

// call is a REST call for the Route of a service.
func (c *child) call(t *testing.T, method, service string) (int, string) {
	t.Helper()
	body := fmt.Sprintf(`{"kind": "Route", "name": %q, "service": %q, "spec": {"rules": [{"timeout": "1s"}]}}`, service, service)
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+c.addr+"/v1/rules/route/"+service, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	token, err := os.ReadFile(filepath.Join(c.dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// smallDisk mounts a file system of 4 MiB, which only root can.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("weft-test", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("no file system can be mounted: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill writes until there is no space left.
func fill(t *testing.T, disk string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	return func() { os.Remove(f.Name()) }
}

// A disk that is full refuses writes with 507 and loses nothing; with space again the server goes on by itself.
func TestAFullDisk(t *testing.T) {
	disk := smallDisk(t)
	c := startChild(t, filepath.Join(disk, "data"))
	free := fill(t, disk)
	written := 0
	for {
		code, body := c.call(t, http.MethodPut, fmt.Sprintf("s%d", written))
		if code == http.StatusInsufficientStorage {
			if !strings.Contains(body, "no space left") || !strings.Contains(body, "free some space") {
				t.Errorf("it says %s", body)
			}
			break
		}
		if code != http.StatusCreated || written > 5000 {
			t.Fatalf("write %d on a full disk: %d %s", written, code, body)
		}
		written++
	}
	if code, body := c.call(t, http.MethodGet, "s0"); code != http.StatusOK {
		t.Errorf("reading on a full disk: %d %s", code, body)
	}
	free()
	if code, body := c.call(t, http.MethodPut, "after"); code != http.StatusCreated {
		t.Errorf("with space again: %d %s", code, body)
	}
	c.kill()
	c = startChild(t, c.dir)
	for i := range written {
		if code, body := c.call(t, http.MethodGet, fmt.Sprintf("s%d", i)); code != http.StatusOK {
			t.Fatalf("acknowledged write %d of %d: %d %s", i, written, code, body)
		}
	}
	if code, _ := c.call(t, http.MethodGet, fmt.Sprintf("s%d", written)); code != http.StatusNotFound {
		t.Errorf("the refused write is there: %d", code)
	}
	t.Logf("%d writes fitted in", written)
}

// A disk that is full at the first start is one line, and no obstacle later.
func TestAFullDiskAtTheStart(t *testing.T) {
	disk := smallDisk(t)
	free := fill(t, disk)
	dir := filepath.Join(disk, "data")
	cmd := command(t, dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Run()
	oneLine(t, cmd.ProcessState.ExitCode(), stderr.String(), "no space left", "free some space")
	free()
	startChild(t, dir)
}

// A limit on the size of files is one line too.
func TestALimitOnFileSizes(t *testing.T) {
	cmd := command(t, filepath.Join(t.TempDir(), "data"))
	limited := exec.Command("sh", append([]string{"-c", `ulimit -f 8; exec "$0" "$@"`}, cmd.Args...)...)
	limited.Env = cmd.Env
	var stderr bytes.Buffer
	limited.Stderr = &stderr
	limited.Run()
	oneLine(t, limited.ProcessState.ExitCode(), stderr.String(), "registry.db", "file too large")
}
