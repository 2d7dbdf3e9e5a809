package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/doctor"
	"github.com/weftmesh/weft/internal/registry/server"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// keeper writes the tokens of a store that nobody else writes.
type keeper struct{ st store.Store }

func (k keeper) Audit() *audit.Log { return nil }

func (k keeper) Do(ctx context.Context, op func(*store.Batch) error) (discovery.Revision, error) {
	c := store.NewCommitter(k.st, nil)
	defer c.Close()
	return discovery.Revision{}, c.Do(ctx, op)
}

// directory makes the data directory of a server that has run, with a token if there is a description of one.
func directory(t *testing.T, specs ...access.Spec) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := access.OpenTokens(dir, st, keeper{st})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range specs {
		if _, _, err := tokens.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
	tokens.Close()
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := access.OpenIdentity(dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

func config(dir string) server.Config {
	return server.Config{GRPCAddr: "127.0.0.1:7070", HTTPAddr: "127.0.0.1:7080", DataDir: dir, MaxSessions: 10, BackupEvery: time.Hour}
}

// backUp makes a backup of a directory's store.
func backUp(t *testing.T, dir string) string {
	t.Helper()
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	path, err := store.SaveBackup(st, dir, time.Now(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestWeaknesses spoils one thing at a time in what is healthy otherwise.
func TestWeaknesses(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("modes and limits are those of Linux")
	}
	day := 24 * time.Hour
	file := func(name string) func(*testing.T, *server.Config) string {
		return func(_ *testing.T, c *server.Config) string { return filepath.Join(c.DataDir, name) }
	}
	chmod := func(path func(*testing.T, *server.Config) string, mode os.FileMode) func(*testing.T, *server.Config) {
		return func(t *testing.T, c *server.Config) {
			if err := os.Chmod(path(t, c), mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	write := func(path func(*testing.T, *server.Config) string, content string) func(*testing.T, *server.Config) {
		return func(t *testing.T, c *server.Config) {
			if err := os.WriteFile(path(t, c), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	newest := func(t *testing.T, c *server.Config) string { return backUp(t, c.DataDir) }
	for _, c := range []struct {
		name  string
		spoil func(*testing.T, *server.Config)
		later time.Duration // the examination is as much later
		want  string        // how the one line with a weakness starts; "" if there is none
		says  string        // in that line, or in any if there is none
	}{
		{"nothing", func(*testing.T, *server.Config) {}, 0, "", "values, all of them with the right checksum"},
		{"no directory", func(_ *testing.T, c *server.Config) { c.DataDir += "x" }, 0, "bad   data directory", "--data-dir"},
		{"a file for it", func(_ *testing.T, c *server.Config) { c.DataDir += "/server.pem" }, 0, "bad   data directory", "is a file"},
		{"directory for all", chmod(file(""), 0o755), 0, "weak  data directory", "chmod 700"},
		{"store for all", chmod(file("registry.db"), 0o644), 0, "weak  registry.db", "chmod 600"},
		{"directory of another user", func(t *testing.T, c *server.Config) {
			if err := os.Chown(c.DataDir, 12345, -1); err != nil {
				t.Skip("only root can give files away")
			}
		}, 0, "weak  data directory", "belongs to user 12345"},
		{"thought up", write(file("admin.token"), "password-password"), 0, "weak  token in admin.token", "17 characters"},
		{"too short", write(file("admin.token"), "password"), 0, "bad   token in admin.token", "does not start with less than 16"},
		{"old tokens", func(t *testing.T, c *server.Config) {
			c.BackupEvery = 1000 * day
			then := time.Now().Add(-400 * day)
			if err := os.Chtimes(filepath.Join(c.DataDir, "workload.token"), then, then); err != nil {
				t.Fatal(err)
			}
		}, 0, "weak  token in workload.token", "400 days old"},
		{"no backups", func(_ *testing.T, c *server.Config) { c.BackupEvery = 0 }, 0, "weak  backups", "--backup-every"},
		{"no backup for long", func(*testing.T, *server.Config) {}, 4 * time.Hour, "weak  backups", "there is none"},
		{"a backup", func(t *testing.T, c *server.Config) { backUp(t, c.DataDir) }, 4 * time.Hour, "", "is whole: "},
		{"a backup that is none", write(newest, "none"), 0, "bad   backups", "not a whole backup"},
		{"a damaged store", write(file("registry.db"), strings.Repeat("x", 1<<15)), 0, "bad   store", "is damaged"},
		{"a key that is none", write(file("server.pem"), "x"), 0, "bad   certificate in server.pem", "delete the file"},
		{"an expired certificate", func(t *testing.T, c *server.Config) {
			c.BackupEvery = math.MaxInt64 / 4
			for _, name := range []string{"admin.token", "workload.token"} {
				then := time.Now().Add(4000 * day)
				if err := os.Chtimes(filepath.Join(c.DataDir, name), then, then); err != nil {
					t.Fatal(err)
				}
			}
		}, 4000 * day, "bad   certificate in server.pem", "expired"},
		{"a clock that was set back", func(*testing.T, *server.Config) {}, -30 * time.Minute, "weak  clock", "NTP"},
		{"no certificate of REST", func(_ *testing.T, c *server.Config) { c.TLSCert, c.TLSKey = "none", "none" }, 0, "bad   certificate of --tls-cert", "PEM"},
		{"a key for everybody", func(t *testing.T, c *server.Config) {
			c.TLSCert = filepath.Join(c.DataDir, "server.pem")
			c.TLSKey = filepath.Join(t.TempDir(), "tls.key")
			data, err := os.ReadFile(c.TLSCert)
			if err := errors.Join(err, os.WriteFile(c.TLSKey, data, 0o644)); err != nil {
				t.Fatal(err)
			}
		}, 0, "weak  key of --tls-key", "chmod o="},
		{"more sessions than files", func(_ *testing.T, c *server.Config) { c.MaxSessions = math.MaxInt / 2 }, 0, "weak  open files", "LimitNOFILE"},
		{"other hosts", func(_ *testing.T, c *server.Config) { c.HTTPAddr, c.GRPCAddr = ":7080", "[::]:7070" }, 0, "", "which clients must pin"},
		{"checks", func(_ *testing.T, c *server.Config) { c.Checks = true }, 0, "", "not towards loopback"},
		{"checks of a network", checks("10.0.0.0/8"), 0, "", "also towards"},
		{"checks of this host", checks("127.0.0.1/32"), 0, "weak  active checks", "loopback"},
		{"checks of this host by IPv6", checks("::1/128"), 0, "weak  active checks", "loopback"},
		{"checks of credentials", checks("169.254.169.254/32"), 0, "weak  active checks", "credentials"},
		{"checks of all", checks("0.0.0.0/0"), 0, "weak  active checks", "everywhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			config := config(directory(t))
			c.spoil(t, &config)
			expect(t, doctor.Examine(config, time.Now().Add(c.later)), c.want, c.says)
		})
	}
}

func checks(network string) func(*testing.T, *server.Config) {
	return func(_ *testing.T, c *server.Config) {
		c.Checks, c.CheckAllow = true, []netip.Prefix{netip.MustParsePrefix(network)}
	}
}

// expect wants one weakness, or none.
func expect(t *testing.T, findings []doctor.Finding, want, says string) {
	t.Helper()
	var weak []string
	var all bytes.Buffer
	for _, f := range findings {
		fmt.Fprintln(&all, f)
		if f.Status == doctor.Weak || f.Status == doctor.Bad {
			weak = append(weak, f.String())
		}
	}
	if doctor.Healthy(findings) != (want == "") || len(weak) != min(1, len(want)) {
		t.Fatalf("weaknesses %q, want %q\n%s", weak, want, &all)
	}
	if want == "" && !strings.Contains(all.String(), says) {
		t.Errorf("it does not say %q:\n%s", says, &all)
	}
	if want != "" && (!strings.HasPrefix(weak[0], want) || !strings.Contains(weak[0], says)) {
		t.Errorf("%q, want %q and %q", weak[0], want, says)
	}
}

func TestCreatedTokens(t *testing.T) {
	expect(t, doctor.Examine(config(directory(t,
		access.Spec{Name: "ci", Role: access.Operator}, access.Spec{Name: "root", Role: access.Admin, TTL: time.Hour})), time.Now()),
		"", "created tokens: 2, and no admin")
	expect(t, doctor.Examine(config(directory(t, access.Spec{Name: "root", Role: access.Admin})), time.Now()),
		"weak  created tokens", `"root"`)
}

// It changes nothing: what it looked at is as it was.
func TestNothingIsChanged(t *testing.T) {
	dir := directory(t)
	before := listing(t, dir)
	doctor.Examine(config(dir), time.Now())
	if after := listing(t, dir); after != before {
		t.Errorf("after it:\n%s\nbefore:\n%s", after, before)
	}
}

// listing gives names and contents but that of the store's lock and times.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var out strings.Builder
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&out, "%s %d %x\n", e.Name(), len(data), data[:min(len(data), 64)])
	}
	return out.String()
}

// The pin that clients on other hosts need is in what is printed.
func TestThePinIsPrinted(t *testing.T) {
	c := config(directory(t))
	identity, err := access.OpenIdentity(c.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range doctor.Examine(c, time.Now()) {
		if strings.Contains(f.String(), identity.Pin()) {
			return
		}
	}
	t.Errorf("no finding names %s", identity.Pin())
}
