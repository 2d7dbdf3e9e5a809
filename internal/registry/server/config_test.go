package server

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

func TestConfigIsChecked(t *testing.T) {
	good := Config{GRPCAddr: "127.0.0.1:7070", HTTPAddr: ":7080", DataDir: "data"}
	for _, c := range []struct {
		change func(*Config)
		says   []string // nil: it is right
	}{
		{func(*Config) {}, nil},
		{func(c *Config) { c.GRPCAddr = "127.0.0.1" }, []string{"--grpc-addr", "want host:port"}},
		{func(c *Config) { c.HTTPAddr = "127.0.0.1:65536" }, []string{"--http-addr", `port "65536"`, "0 to 65535"}},
		{func(c *Config) { c.HTTPAddr = "127.0.0.1:http" }, []string{"--http-addr", `port "http"`, "0 to 65535"}},
		{func(c *Config) { c.HTTPAddr = c.GRPCAddr }, []string{"both 127.0.0.1:7070", "want two ports"}},
		{func(c *Config) { c.HTTPAddr, c.GRPCAddr = "127.0.0.1:0", "127.0.0.1:0" }, nil},
		{func(c *Config) { c.DataDir = "" }, []string{`--data-dir ""`, "want a directory"}},
		{func(c *Config) { c.Store = store.NewMemory() }, []string{"want one of them"}},
		{func(c *Config) { c.Store, c.DataDir = store.NewMemory(), "" }, nil},
		{func(c *Config) { c.TLSCert = "a" }, []string{"--tls-cert and --tls-key", "give both"}},
		{func(c *Config) { c.TLSKey = "a" }, []string{"--tls-cert and --tls-key", "give both"}},
		{func(c *Config) { c.MaxSessions = -1 }, []string{"--max-sessions -1", "1 to 1000000"}},
		{func(c *Config) { c.MaxSessions = maxSessions + 1 }, []string{"--max-sessions 1000001"}},
		{func(c *Config) { c.MaxSessions = maxSessions }, nil},
		{func(c *Config) { c.BackupEvery = time.Second }, []string{"--backup-every 1s", "at least 1m"}},
		{func(c *Config) { c.BackupEvery = time.Minute }, nil},
		{func(c *Config) { c.BackupKeep = maxBackups + 1 }, []string{"--backup-keep 10001"}},
		{func(c *Config) { c.CheckAllow = []netip.Prefix{{}} }, []string{"--check-allow without --checks"}},
		{func(c *Config) { c.CheckAllow, c.Checks = []netip.Prefix{{}}, true }, nil},
	} {
		config := good
		c.change(&config)
		err := config.Check()
		if (err == nil) != (c.says == nil) {
			t.Errorf("%+v: error %v, want %q", config, err, c.says)
			continue
		}
		for _, want := range c.says {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q does not say %q", err, want)
			}
		}
	}
}
