package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/weftmesh/weft/internal/registry/server"
)

// asServer, set in the environment, makes the test binary the registry server.
const asServer = "REGISTRY_SERVER_TEST_AS_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(asServer) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

func none(string) string { return "" }

func TestParse(t *testing.T) {
	defaults := server.Config{GRPCAddr: "127.0.0.1:7070", HTTPAddr: "127.0.0.1:7080", DataDir: "./weft-data", Version: buildVersion()}
	with := func(change func(*server.Config)) server.Config {
		c := defaults
		change(&c)
		return c
	}
	for _, c := range []struct {
		name  string
		args  []string
		env   map[string]string
		want  server.Config
		level slog.Level
		err   string
	}{
		{name: "defaults", want: defaults},
		{name: "flag", args: []string{"--grpc-addr", "127.0.0.1:1"}, want: with(func(c *server.Config) { c.GRPCAddr = "127.0.0.1:1" })},
		{name: "environment", env: map[string]string{"WEFT_SERVER_DATA_DIR": "d", "WEFT_SERVER_LOG_LEVEL": "debug"}, want: with(func(c *server.Config) { c.DataDir = "d" }), level: slog.LevelDebug},
		{name: "the flag wins", args: []string{"--http-addr=127.0.0.1:1"}, env: map[string]string{"WEFT_SERVER_HTTP_ADDR": "127.0.0.1:2"}, want: with(func(c *server.Config) { c.HTTPAddr = "127.0.0.1:1" })},
		{name: "store", args: []string{"--store", "memory"}, err: `--store "memory": bolt is the only store`},
		{name: "store by environment", env: map[string]string{"WEFT_SERVER_STORE": "etcd"}, err: `--store "etcd"`},
		{name: "level", args: []string{"--log-level", "loud"}, err: "--help"},
		{name: "level by environment", env: map[string]string{"WEFT_SERVER_LOG_LEVEL": "loud"}, err: `WEFT_SERVER_LOG_LEVEL="loud"`},
		{name: "unknown flag", args: []string{"--port", "1"}, err: "-port"},
		{name: "argument", args: []string{"start"}, err: `argument "start"`},
		{name: "no directory", args: []string{"--data-dir="}, err: `--data-dir "": want a directory`},
		{name: "one port for both", args: []string{"--grpc-addr=127.0.0.1:7080"}, err: "are both 127.0.0.1:7080"},
		{name: "two free ports", args: []string{"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0"},
			want: with(func(c *server.Config) { c.GRPCAddr, c.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, level, done, err := parse(c.args, func(name string) string { return c.env[name] }, new(bytes.Buffer))
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			if err != nil || done {
				t.Fatal(err, done)
			}
			if diff := cmp.Diff(c.want, got); diff != "" || level != c.level {
				t.Error(level, diff)
			}
		})
	}
}

func TestRun(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	dir := filepath.Join(t.TempDir(), "data")
	loopback := []string{"--data-dir", dir, "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}
	for _, c := range []struct {
		name           string
		args           []string
		code           int
		stdout, stderr string
	}{
		{"version", []string{"--version"}, 0, "registry-server " + buildVersion(), ""},
		{"help", []string{"--help"}, 0, "WEFT_SERVER_GRPC_ADDR", ""},
		{"wrong flag", []string{"--port"}, 2, "", "--help lists the flags"},
		{"refused address", append(loopback, "--http-addr", "0.0.0.0:0"), 1, "", "bind to 127.0.0.1"},
		{"started and stopped", loopback, 0, "", "registry server is ready"},
	} {
		var stdout, stderr bytes.Buffer
		if code := run(ended, c.args, none, &stdout, &stderr); code != c.code {
			t.Errorf("%s: code %d, want %d: %s", c.name, code, c.code, &stderr)
		}
		if !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%s: %q and %q", c.name, &stdout, &stderr)
		}
		if c.code != 0 && strings.Count(stderr.String(), "\n") != 1 {
			t.Errorf("%s: more than one line: %q", c.name, &stderr)
		}
	}
}
