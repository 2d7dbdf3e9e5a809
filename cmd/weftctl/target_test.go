package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weftmesh/weft/internal/credential"
)

// listener is a server that notes whether it was sent a token.
type listener struct {
	*httptest.Server
	asked  atomic.Int32
	tokens atomic.Pointer[string]
}

func listen(t *testing.T, start func(http.Handler) *httptest.Server) *listener {
	t.Helper()
	l := new(listener)
	l.Server = start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.asked.Add(1)
		token := r.Header.Get("Authorization")
		l.tokens.Store(&token)
		w.Write([]byte(page()))
	}))
	l.Config.ErrorLog = nil
	t.Cleanup(l.Close)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	for _, name := range []string{"WEFT_HTTP", "WEFT_TOKEN", "WEFT_PIN"} {
		t.Setenv(name, "")
	}
	return l
}

// address is where a server listens, without the scheme.
func (l *listener) address() string { return l.Listener.Addr().String() }

// TestTheTokenOfADeadServer is not sent to whoever listens on its port now.
func TestTheTokenOfADeadServer(t *testing.T) {
	squatter := listen(t, httptest.NewServer)
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, adminToken), []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := credential.Write(defaultPort, credential.File{HTTP: squatter.address(), DataDir: data}); err != nil {
		t.Fatal(err)
	}
	try := func(want string) {
		t.Helper()
		for _, args := range [][]string{{"get", "services"}, {"get", "services", "--server", squatter.address()}} {
			if code, _, stderr := ctl(t, "", args...); code != exitFailed || !strings.Contains(stderr, want) {
				t.Errorf("%v: %d %q, want %q", args, code, stderr, want)
			}
		}
	}
	try("no ")
	if err := os.WriteFile(filepath.Join(data, "registry.db"), nil, 0o600); err != nil { // it was there, and is unlocked now
		t.Fatal(err)
	}
	try("no ")
	if n := squatter.asked.Load(); n != 0 {
		t.Errorf("the squatter was asked %d times", n)
	}
	// The control: while the server lives, the same file leads there, with the token.
	unlock := lock(t, filepath.Join(data, "registry.db"))
	if code, _, stderr := ctl(t, "", "get", "services"); code != 0 || *squatter.tokens.Load() != "Bearer secret" {
		t.Error(code, stderr)
	}
	unlock()
	try("no ")
}

// TestNoTokenInPlainText wants neither a flag nor a resolver to send a token to another host unencrypted.
func TestNoTokenInPlainText(t *testing.T) {
	l := listen(t, httptest.NewServer)
	t.Setenv("WEFT_TOKEN", "secret")
	for _, server := range []string{"http://10.0.0.7:7080", "http://registry.example:7080", "http://localhost.example", "http://[2001:db8::1]:7080"} {
		if code, _, stderr := ctl(t, "", "get", "services", "--server", server); code != exitUsage || !strings.Contains(stderr, "plain text") || !strings.Contains(stderr, "want https://") {
			t.Errorf("%s: %d %q", server, code, stderr)
		}
	}
	// localhost is loopback by name; if it resolves to something else, the connection is looked at.
	tr := target{base: "http://localhost"}.transport()
	c := &http.Client{Transport: tr}
	defer c.CloseIdleConnections()
	if outside := outsideAddress(t); outside != "" {
		lis, err := net.Listen("tcp", net.JoinHostPort(outside, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer lis.Close()
		answer, err := c.Get("http://" + lis.Addr().String())
		if err == nil {
			answer.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "not sent in plain text") {
			t.Errorf("dialling %s: %v", lis.Addr(), err)
		}
	}
	// The control.
	if code, _, stderr := ctl(t, "", "get", "services", "--server", "http://"+l.address()); code != 0 || l.asked.Load() != 1 {
		t.Error(code, stderr)
	}
}

// outsideAddress is an address of this host that is not loopback; "" if it has none.
func outsideAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	return ""
}

// TestPin trusts the key that is pinned and no other.
func TestPin(t *testing.T) {
	l := listen(t, httptest.NewTLSServer)
	l.Config.ErrorLog = nil
	t.Setenv("WEFT_TOKEN", "secret")
	pin := credential.PinOf(l.Certificate())
	other := strings.Repeat("ab", 32)
	for _, c := range []struct {
		name, env string
		args      []string
		code      int
		says      string
	}{
		{"flag", "", []string{"--pin", pin}, 0, ""},
		{"environment", pin, nil, 0, ""},
		{"capitals", strings.ToUpper(pin), nil, 0, ""},
		{"the flag wins", other, []string{"--pin", pin}, 0, ""},
		{"another key", "", []string{"--pin", other}, exitFailed, "its key is not the one that is pinned: it is " + pin},
		{"none", "", nil, exitFailed, "--pin or WEFT_PIN is for a server whose certificate is its own"},
		{"no pin", "", []string{"--pin", "abc"}, exitUsage, `--pin "abc": want the SHA-256`},
		{"no pin in the environment", strings.Repeat("zz", 32), nil, exitUsage, "WEFT_PIN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l.asked.Store(0)
			t.Setenv("WEFT_PIN", c.env)
			code, _, stderr := ctl(t, "", append([]string{"get", "services", "--server", "https://" + l.address()}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.says) || (l.asked.Load() == 1) != (code == 0) {
				t.Errorf("%d %q, asked %d times", code, stderr, l.asked.Load())
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:7080": "http://127.0.0.1:7080", "localhost:7080": "http://localhost:7080", "[::1]:7080": "http://[::1]:7080",
		"registry.example:7080": "https://registry.example:7080", "10.0.0.7:7080": "https://10.0.0.7:7080",
		"https://127.0.0.1:7080/": "https://127.0.0.1:7080/", "http://10.0.0.7": "http://10.0.0.7",
		"": "", "ftp://x": "", "https://x/ui": "", "https://x?y": "", "https://u:p@x": "", "http://": "", "a b": "", ":7080": "",
	} {
		u, _, err := baseURL(address)
		switch {
		case err == nil && u.String() != want:
			t.Errorf("%q: %s, want %q", address, u, want)
		case err != nil && (want != "" || !strings.Contains(err.Error(), "want host:port")):
			t.Errorf("%q: %v, want %q", address, err, want)
		}
	}
}

func TestTokensAreWords(t *testing.T) {
	l := listen(t, httptest.NewServer)
	for _, c := range []struct {
		env  string
		args []string
		want string // "" refuses
	}{
		{"from-environment", nil, "Bearer from-environment"},
		{"from-environment", []string{"--token", "from-flag\n"}, "Bearer from-flag"},
		{"two words", nil, ""},
		{"", []string{"--token", "tökn"}, ""},
	} {
		t.Setenv("WEFT_TOKEN", c.env)
		code, _, stderr := ctl(t, "", append([]string{"get", "services", "--server", l.address()}, c.args...)...)
		switch {
		case c.want == "" && (code != exitUsage || !strings.Contains(stderr, "want one word")):
			t.Errorf("%+v: %d %q", c, code, stderr)
		case c.want != "" && (code != 0 || *l.tokens.Load() != c.want):
			t.Errorf("%+v: %d %q, sent %q", c, code, stderr, *l.tokens.Load())
		}
	}
}

// TestUnreadableFiles says which file is wrong when no other leads to a server.
func TestUnreadableFiles(t *testing.T) {
	listen(t, httptest.NewServer)
	if err := credential.Write(defaultPort, credential.File{}); err != nil {
		t.Fatal(err)
	}
	path, err := credential.Path(defaultPort)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := ctl(t, "", "get", "services"); code != exitFailed || !strings.Contains(stderr, path) || !strings.Contains(stderr, "chmod 600") {
		t.Error(code, stderr)
	}
}

// TestInterrupted says that it is not known what the server did.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	}))
	defer s.Close()
	t.Setenv("WEFT_TOKEN", "secret")
	go func() {
		<-asked
		cancel()
	}()
	var out, errs strings.Builder
	code := run(ctx, []string{"remove", "product", "p1", "--server", s.URL}, world{strings.NewReader(""), &out, &errs, nil})
	if code != exitFailed || !strings.Contains(errs.String(), "interrupted; whether the server did it is not known") {
		t.Error(code, errs.String())
	}
}

// TestTheFileSaysHow finds a server of this user that speaks TLS: its file has the pin, and what listens behind another
// spelling of its address is not asked.
func TestTheFileSaysHow(t *testing.T) {
	l := listen(t, httptest.NewTLSServer)
	data := t.TempDir()
	for name, text := range map[string]string{adminToken: "secret\n", "registry.db": ""} {
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	lock(t, filepath.Join(data, "registry.db"))
	_, port, err := net.SplitHostPort(l.address())
	if err != nil {
		t.Fatal(err)
	}
	file := credential.File{HTTP: l.address(), HTTPPin: credential.PinOf(l.Certificate()), DataDir: data}
	for _, c := range []struct {
		args string
		pin  string
		says string // "" is let in
	}{
		{"", file.HTTPPin, ""},
		{"--server localhost:" + port, file.HTTPPin, ""},
		{"--server https://[::1]:" + port, file.HTTPPin, ""},
		{"--server " + l.address(), strings.Repeat("ab", 32), "not the one that is pinned"},
		{"--server http://" + l.address(), file.HTTPPin, "is not a registry server"},
	} {
		file.HTTPPin = c.pin
		if err := credential.Write(defaultPort, file); err != nil {
			t.Fatal(err)
		}
		code, _, stderr := ctl(t, "", append([]string{"get", "services"}, strings.Fields(c.args)...)...)
		if (code == 0) != (c.says == "") || !strings.Contains(stderr, c.says) {
			t.Errorf("%q: %d %q", c.args, code, stderr)
		}
	}
}
