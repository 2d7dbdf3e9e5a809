package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	defaults := server.Config{GRPCAddr: "127.0.0.1:7070", HTTPAddr: "127.0.0.1:7080", DataDir: "./weft-data",
		SessionTTL: 7 * time.Second, MaxSessions: 10_000, BackupEvery: time.Hour, BackupKeep: 24, Version: buildVersion()}
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
		{name: "argument", args: []string{"--checks", "start"}, err: `argument "start"`},
		{name: "other hosts", args: []string{"--http-addr=:7080", "--tls-cert=c", "--tls-key=k"}, want: with(func(c *server.Config) { c.HTTPAddr, c.TLSCert, c.TLSKey = ":7080", "c", "k" })},
		{name: "a certificate without its key", args: []string{"--tls-cert=c"}, err: "give both"},
		{name: "bad port", args: []string{"--http-addr=127.0.0.1:65536"}, err: "0 to 65535"},
		{name: "checks", args: []string{"--checks", "--check-allow=127.0.0.1, 10.1.2.3/8", "--check-allow=::1"}, want: with(func(c *server.Config) {
			c.Checks, c.CheckAllow = true, []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")}
		})},
		{name: "no network", args: []string{"--checks", "--check-allow=10.0.0.0/33"}, err: `"10.0.0.0/33": want a network`},
		{name: "networks without checks", args: []string{"--check-allow=10.0.0.0/8"}, err: "--check-allow without --checks"},
		{name: "backups", args: []string{"--backup-every=30m", "--backup-keep=3"}, want: with(func(c *server.Config) { c.BackupEvery, c.BackupKeep = 30*time.Minute, 3 })},
		{name: "no backups", env: map[string]string{"WEFT_SERVER_BACKUP_EVERY": "0"}, want: with(func(c *server.Config) { c.BackupEvery = 0 })},
		{name: "too many backups", args: []string{"--backup-every=1s"}, err: "--backup-every 1s"},
		{name: "session ttl", args: []string{"--session-ttl=999ms"}, err: "--session-ttl 999ms: want 1s to 5m0s"},
		{name: "sessions", args: []string{"--max-sessions=-1"}, err: "--max-sessions -1"},
		{name: "log format", args: []string{"--log-format=xml"}, err: `--log-format "xml": want text or json`},
		{name: "no directory", args: []string{"--data-dir="}, err: `--data-dir "": want a directory`},
		{name: "one port for both", args: []string{"--grpc-addr=127.0.0.1:7080"}, err: "are both 127.0.0.1:7080"},
		{name: "two free ports", args: []string{"--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0"},
			want: with(func(c *server.Config) { c.GRPCAddr, c.HTTPAddr = "127.0.0.1:0", "127.0.0.1:0" })},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := parse(c.args, func(name string) string { return c.env[name] })
			if c.err != "" {
				if _, ok := errors.AsType[usage](err); !ok || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q, and one of usage", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got.Config, cmpopts.EquateComparable(netip.Prefix{})); diff != "" || got.level != c.level {
				t.Error(got.level, diff)
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
		{"bad address", append(loopback, "--http-addr", "0.0.0.0"), 2, "", "want host:port"},
		{"bad port", append(loopback, "--http-addr", "127.0.0.1:x"), 2, "", "0 to 65535"},
		{"taken address", append(loopback, "--http-addr", "192.0.2.1:0"), 1, "", "choose another address"},
		{"wrong command", []string{"start"}, 2, "", "--help says more"},
		{"version command", []string{"version"}, 0, "registry-server " + buildVersion(), ""},
		{"version of something", []string{"version", "x"}, 2, "", "it takes no arguments"},
		{"help command", []string{"help"}, 0, "doctor", ""},
		{"help of doctor", []string{"doctor", "--help"}, 0, "doctor", ""},
		{"doctor called wrongly", []string{"doctor", "--port"}, 2, "", "--help lists the flags"},
		{"backup called wrongly", []string{"backup"}, 2, "", "--to is missing"},
		{"backup to an argument", []string{"backup", "--to", "a", "b"}, 2, "", "registry-server backup --data-dir DIR --to FILE"},
		{"help of backup", []string{"backup", "-h"}, 0, "--to FILE", ""},
		{"restore called wrongly", []string{"restore", "--to", "a"}, 2, "", "registry-server restore --data-dir DIR --from FILE"},
		{"restore from nowhere", []string{"restore", "--data-dir", dir, "--from", filepath.Join(dir, "none")}, 1, "", "say with --from"},
		{"backup of nothing", []string{"backup", "--data-dir", dir + "x", "--to", dir + "y"}, 1, "", "nothing to back up"},
		{"json", append(loopback, "--log-format", "json"), 0, "", `"msg":"registry server is ready"`},
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
