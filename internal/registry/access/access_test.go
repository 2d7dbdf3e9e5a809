package access

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestTokensAreMadeOnceAndKept(t *testing.T) {
	dir := t.TempDir()
	first := open(t, dir)
	again := open(t, dir)
	if first.AdminToken() != again.AdminToken() || first.WorkloadToken() != again.WorkloadToken() {
		t.Error("the second start has other tokens")
	}
	for _, name := range []string{AdminTokenFile, WorkloadTokenFile} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v; want mode 600", name, info, err)
		}
	}
}

func TestWhoMayDoWhat(t *testing.T) {
	dir := t.TempDir()
	tokens := open(t, dir)
	data, err := os.ReadFile(filepath.Join(dir, AdminTokenFile))
	if err != nil {
		t.Fatal(err)
	}
	admin, workload := strings.TrimSpace(string(data)), tokens.WorkloadToken()
	for _, c := range []struct {
		name, token string
		want        Role
	}{
		{"admin", admin, Admin},
		{"workload", workload, Workload},
		{"none", "", ""},
		{"prefix of admin", admin[:len(admin)-1], ""},
		{"admin and a newline", admin + "\n", ""},
		{"wrong", strings.Repeat("x", len(admin)), ""},
	} {
		if got, err := tokens.Check(c.token, "127.0.0.1"); got.Role != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: the role is %q: %v", c.name, got.Role, err)
		}
	}
}

func TestOpenTokensRefuses(t *testing.T) {
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"own token", "a-token-of-my-own-choice", 0o600, ""},
		{"empty", "\n", 0o600, "at least 16"},
		{"two lines", "aaaaaaaaaaaaaaaaaa\nbbbbbbbbbbbbbbbbbb\n", 0o600, "on one line"},
		{"open to all", "a-token-of-my-own-choice", 0o644, "chmod 600"},
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, AdminTokenFile)
		if err := os.WriteFile(path, []byte(c.content), c.mode); err != nil {
			t.Fatal(err)
		}
		tokens, err := OpenTokens(dir, store.NewMemory(), nil)
		if err == nil {
			tokens.Close()
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

func TestIdentityIsPinned(t *testing.T) {
	dir := t.TempDir()
	ours, err := OpenIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	other, err := OpenIdentity(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if ours.Pin() != again.Pin() || ours.Pin() == other.Pin() {
		t.Fatalf("pins %s, %s, %s: want the first two alike", ours.Pin(), again.Pin(), other.Pin())
	}
	for _, c := range []struct {
		name       string
		pin        string
		maxVersion uint16
		want       string
	}{
		{"its pin", ours.Pin(), 0, ""},
		{"another pin", other.Pin(), 0, "not the pinned key"},
		{"TLS 1.2", ours.Pin(), tls.VersionTLS12, "protocol version"},
	} {
		config := pinned(c.pin)
		config.MaxVersion = c.maxVersion
		err = handshake(t, ours.TLS(), config)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
}

// pinned is the configuration of a client that takes only the holder of the pinned key.
func pinned(pin string) *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, // the pin replaces the chain
		VerifyConnection: func(s tls.ConnectionState) error {
			if credential.PinOf(s.PeerCertificates[0]) != pin {
				return errors.New("not the pinned key")
			}
			return nil
		},
	}
}

// handshake returns the client's error. The pipe of net has no buffer, and both ends may want to write an alert:
// hence a real connection.
func handshake(t *testing.T, server, client *tls.Config) error {
	t.Helper()
	lis, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c, err := lis.Accept(); err == nil {
			c.(*tls.Conn).Handshake()
			c.Close()
		}
	}()
	c, err := tls.Dial("tcp", lis.Addr().String(), client)
	if err == nil {
		c.Close()
	}
	lis.Close()
	<-done
	return err
}

func TestOpenIdentityRefusesABrokenFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, IdentityFile), []byte("no PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIdentity(dir); err == nil || !strings.Contains(err.Error(), "delete the file to get a new key") {
		t.Errorf("error %v, want one that says what to do", err)
	}
}
