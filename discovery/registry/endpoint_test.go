package registry

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

// home makes an empty configuration directory for the test.
func home(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(dir, "config"))
	t.Setenv("AppData", dir)
}

func write(t *testing.T, port int, f credential.File) {
	t.Helper()
	if err := credential.Write(port, f); err != nil {
		t.Fatal(err)
	}
}

func TestFinder(t *testing.T) {
	home(t)
	pin := strings.Repeat("ab", 32)
	write(t, 7070, credential.File{GRPC: "[::1]:7070", Pin: pin, Token: "workload"})
	write(t, 7071, credential.File{GRPC: "127.0.0.1:7071", Pin: "ab"})
	tokens := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(tokens, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, c := range map[string]struct {
		finder        finder
		target, token string
		err           string
	}{
		"credential file":     {finder{addrs: []string{"127.0.0.1:7070"}}, "[::1]:7070", "workload", ""},
		"by name":             {finder{addrs: []string{"localhost:7070"}}, "[::1]:7070", "workload", ""},
		"another host":        {finder{addrs: []string{"10.0.0.1:7070"}}, "10.0.0.1:7070", "workload", ""},
		"token":               {finder{addrs: []string{"127.0.0.1:7070"}, token: "mine"}, "[::1]:7070", "mine", ""},
		"token file":          {finder{addrs: []string{"127.0.0.1:7070"}, tokenFile: file("t", " mine\n")}, "[::1]:7070", "mine", ""},
		"no token file":       {finder{addrs: []string{"127.0.0.1:7070"}, tokenFile: tokens + "/none"}, "", "", "token file"},
		"empty token file":    {finder{addrs: []string{"127.0.0.1:7070"}, tokenFile: file("e", "\n")}, "", "", "want 1 to"},
		"large token file":    {finder{addrs: []string{"127.0.0.1:7070"}, tokenFile: file("l", strings.Repeat("x", maxToken+1))}, "", "", "want 1 to"},
		"no credential file":  {finder{addrs: []string{"127.0.0.1:7072"}}, "", "", "is registry-server running"},
		"own pin and token":   {finder{addrs: []string{"10.0.0.9:7079"}, pin: pin, token: "mine"}, "10.0.0.9:7079", "mine", ""},
		"own pin alone":       {finder{addrs: []string{"127.0.0.1:7071"}, pin: pin}, "127.0.0.1:7071", "", ""},
		"own pin, no token":   {finder{addrs: []string{"10.0.0.9:7079"}, pin: pin}, "", "", "WEFT_TOKEN"},
		"pin of wrong length": {finder{addrs: []string{"127.0.0.1:7071"}}, "", "", "want 64 hex digits"},
	} {
		got, err := c.finder.next(t.Context())
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil || got.Target != c.target || got.Token != c.token || hex.EncodeToString(got.Pin[:]) != pin {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestFinderTakesAddressesInTurn(t *testing.T) {
	home(t)
	f := finder{addrs: []string{"127.0.0.1:1", "127.0.0.1:2"}}
	for _, want := range []string{":1:", ":2:", ":1:"} {
		if _, err := f.next(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %s", err, want)
		}
	}
}

func TestOptions(t *testing.T) {
	for name, opts := range map[string]Options{
		"want host:port":   {Addrs: []string{"localhost"}},
		`":7070"`:          {Addrs: []string{":7070"}},
		`"h:0"`:            {Addrs: []string{"h:0"}},
		"at most one":      {Token: "t", TokenFile: "f"},
		`pin "abc": want`:  {Pin: "abc"},
		`service "A"`:      {Service: "A"},
		`namespace "a.b"`:  {Namespace: "a.b"},
		`"h:70700": want`:  {Addrs: []string{"h:70700"}},
		`"10.0.0.1": want`: {Addrs: []string{"localhost:1", "10.0.0.1"}},
	} {
		if s, err := New(opts); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: error %v", name, err)
			if s != nil {
				s.Close()
			}
		}
	}
}

// New does not wait for a registry, with or without its credential file.
func TestNewWithoutARegistry(t *testing.T) {
	home(t)
	s, err := New(Options{Addrs: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The credential file is found when it appears, the server's key is checked against its pin, and a wrong pin is refused.
func TestCredentialFileThatAppearsLater(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	right := credential.PinOf(parsed)
	wrong := hex.EncodeToString(make([]byte, sha256.Size))
	for pin, want := range map[string]bool{right: true, wrong: false} {
		home(t)
		synctest.Test(t, func(t *testing.T) {
			server := sessiontest.New(7)
			server.Want = "workload"
			server.Options = []grpc.ServerOption{grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))}
			server.Start()
			opts, err := Options{}.complete()
			if err != nil {
				t.Fatal(err)
			}
			s := open(opts, (&finder{addrs: opts.Addrs}).next, server.Dial)
			settle(time.Minute)
			if s.State() == "connected" || server.Dials() > 0 {
				t.Error("connected without a credential file")
			}
			write(t, 7070, credential.File{GRPC: "127.0.0.1:7070", Pin: pin, Token: "workload"})
			settle(5 * time.Second)
			if got := s.State() == "connected"; got != want {
				t.Errorf("pin %s: state %v, error %v", pin, s.State(), s.LastError())
			}
			if err := s.LastError(); !want && (err == nil || !strings.Contains(err.Error(), right) || !strings.Contains(err.Error(), wrong)) {
				t.Errorf("error %v does not name both pins", err)
			}
			s.Close()
			server.Stop()
		})
	}
}
