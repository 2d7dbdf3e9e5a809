package server_test

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/server"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is a server of this process.
type running struct {
	*server.Server
	dir, token string
	stop       func() error // idempotent
}

func config(t *testing.T, dir string) server.Config {
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(t.TempDir(), "config"))
	return server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DataDir: dir, Version: "v0"}
}

// start runs a server until the test ends.
func start(t *testing.T, c server.Config) *running {
	t.Helper()
	s, err := server.New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	var failed error
	go func() {
		defer close(ended)
		failed = s.Run(ctx)
	}()
	stop := func() error {
		cancel()
		<-ended
		return failed
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return &running{s, c.DataDir, s.AdminToken(), stop}
}

// call returns status and body. Headers are given as "Name: value".
func (s *running) call(t *testing.T, method, path, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://"+s.HTTPAddr()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Content-Type", "application/yaml")
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(data)
}

const canary = `
kind: Route
name: canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules:
    - split: [{subset: v1, weight: 90}, {subset: v2, weight: 10}]
`

const asJSON = "Content-Type: application/json"

// TestBadInput sends what must be refused to a real server, and then the same corrected, which must be taken.
func TestBadInput(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	if code, body := s.call(t, "PUT", "/v1/rules/route/canary", canary); code != 201 {
		t.Fatal(code, body)
	}
	const instance = "/v1/services/product/instances/p1"
	for _, c := range []struct {
		name, method, path, bad, good string
		headers                       []string
		status                        int
		location                      string // in errors, "" for a problem without
		says                          string
	}{
		{name: "wrong token", method: "GET", path: "/v1/services", headers: []string{"Authorization: Bearer wrong"}, status: 401, says: "admin.token"},
		{name: "unknown field", method: "PUT", path: instance, bad: `{"adress": "127.0.0.1:1", "protocol": "http"}`, good: `{"address": "127.0.0.1:1", "protocol": "http"}`,
			headers: []string{asJSON}, status: 400, location: "body.adress", says: "address"},
		{name: "unknown field of a rule", method: "PUT", path: "/v1/rules/route/canary", bad: strings.Replace(canary, "split", "spilt", 1), good: canary, status: 400, location: "body.spec.rules[0].spilt", says: "spilt"},
		{name: "weights that do not total 100", method: "PUT", path: "/v1/rules/route/canary", bad: strings.Replace(canary, "90", "80", 1), good: canary, status: 422, location: "body.spec.rules[0].split", says: "100"},
		{name: "unknown subset", method: "PUT", path: "/v1/rules/route/canary", bad: strings.Replace(canary, "subset: v2", "subset: v3", 1), good: canary, status: 422, location: "body.spec.rules[0].split[1].subset", says: "v3"},
		{name: "oversized body", method: "PUT", path: "/v1/rules/route/canary", bad: canary + "#" + strings.Repeat("x", 256<<10), good: canary + "#" + strings.Repeat("x", 200<<10), status: 413, location: "body", says: "262144"},
		{name: "duplicate keys in JSON", method: "PUT", path: instance, bad: `{"address": "127.0.0.1:1", "protocol": "http", "protocol": "grpc"}`, good: `{"address": "127.0.0.1:1", "protocol": "http"}`,
			headers: []string{asJSON}, status: 400, location: "body.protocol", says: "twice"},
		{name: "duplicate keys in a rule", method: "PUT", path: "/v1/rules/route/canary", bad: canary + "service: product\n", good: canary, status: 400, location: "body.service", says: "service"},
		{name: "a key in another case", method: "PUT", path: instance, bad: `{"Address": "127.0.0.1:1", "protocol": "http"}`, good: `{"address": "127.0.0.1:1", "protocol": "http"}`,
			headers: []string{asJSON}, status: 400, location: "body.Address", says: "address"},
		{name: "wrong revision", method: "PUT", path: "/v1/rules/route/canary", bad: canary, headers: []string{`If-Match: "1-1"`}, status: 412, location: "header.If-Match", says: "read it again"},
		{name: "a second Route for a service", method: "PUT", path: "/v1/rules/route/other", bad: strings.Replace(canary, "name: canary", "name: other", 1),
			good: strings.NewReplacer("name: canary", "name: other", "service: product", "service: stock").Replace(canary), status: 409, location: "body.service", says: "Route/default/canary"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, body := s.call(t, c.method, c.path, c.bad, c.headers...)
			var p struct {
				Status int
				Detail string
				Errors []struct{ Location, Message string }
			}
			if err := json.Unmarshal([]byte(body), &p); err != nil {
				t.Fatalf("%v: %s", err, body)
			}
			if code != c.status || p.Status != c.status || p.Detail == "" || !strings.Contains(body, c.says) {
				t.Errorf("status %d, want %d and %q: %s", code, c.status, c.says, body)
			}
			if c.location != "" && (len(p.Errors) == 0 || p.Errors[0].Location != c.location || p.Errors[0].Message == "") {
				t.Errorf("errors %v, want location %s", p.Errors, c.location)
			}
			if c.good == "" {
				return
			}
			if code, body := s.call(t, c.method, c.path, c.good, c.headers...); code != 200 && code != 201 {
				t.Errorf("corrected, and still %d: %s", code, body)
			}
		})
	}
}

// TestStartRefuses wants one line that says what to do.
func TestStartRefuses(t *testing.T) {
	other := start(t, config(t, t.TempDir()))
	broken := t.TempDir()
	if err := os.WriteFile(filepath.Join(broken, "registry.db"), []byte(strings.Repeat("not a store ", 4096)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*server.Config)
		says   []string
	}{
		{"data directory in use", func(c *server.Config) { c.DataDir = other.dir }, []string{other.dir, "in use by another process", "--data-dir"}},
		{"gRPC port in use", func(c *server.Config) { c.GRPCAddr = other.GRPCAddr() }, []string{"--grpc-addr " + other.GRPCAddr(), "in use by another process", "choose another port"}},
		{"HTTP port in use", func(c *server.Config) { c.HTTPAddr = other.HTTPAddr() }, []string{"--http-addr " + other.HTTPAddr(), "in use by another process", "choose another port"}},
		{"broken store", func(c *server.Config) { c.DataDir = broken }, []string{broken, "damaged", "move it away"}},
		{"a name of nobody", func(c *server.Config) { c.HTTPAddr = "host.invalid:7080" }, []string{"--http-addr host.invalid:7080", "choose another address"}},
		{"an address of another host", func(c *server.Config) { c.HTTPAddr = "192.0.2.1:0" }, []string{"--http-addr 192.0.2.1:0", "choose another address"}},
		{"no certificate", func(c *server.Config) { c.TLSCert, c.TLSKey = "none.crt", "none.key" }, []string{"--tls-cert", "none.crt"}},
		{"a certificate that is none", func(c *server.Config) {
			c.TLSCert, c.TLSKey = filepath.Join(broken, "registry.db"), filepath.Join(broken, "registry.db")
		}, []string{"--tls-cert", "PEM"}},
		{"a file for a directory", func(c *server.Config) { c.DataDir = filepath.Join(broken, "registry.db", "x") }, []string{"cannot be made", "--data-dir"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := config(t, t.TempDir())
			c.change(&cfg)
			s, err := server.New(cfg)
			if err == nil {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				s.Run(ctx)
				t.Fatal("it started")
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			for _, want := range c.says {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if ports, _ := credential.Ports(); len(ports) != 0 {
				t.Errorf("credential files for %v", ports)
			}
		})
	}
}

func TestLocalhostIsLoopback(t *testing.T) {
	c := config(t, t.TempDir())
	c.HTTPAddr = "localhost:0"
	s := start(t, c)
	if code, _ := s.call(t, "GET", "/healthz", ""); code != 200 {
		t.Error(code)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	c := config(t, dir)
	s := start(t, c)
	before := readCredential(t, s)
	s.call(t, "PUT", "/v1/rules/route/canary", canary)
	s.call(t, "PUT", "/v1/services/product/instances/p1", `{"address": "127.0.0.1:1", "protocol": "http"}`, asJSON)
	_, rules := s.call(t, "GET", "/v1/rules/route/canary", "")
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	s = start(t, c)
	if code, again := s.call(t, "GET", "/v1/rules/route/canary", ""); code != 200 || again != rules {
		t.Errorf("%d %s, was %s", code, again, rules)
	}
	if code, body := s.call(t, "GET", "/v1/services/product/instances", ""); code != 200 || !strings.Contains(body, `"id":"p1"`) {
		t.Error(code, body)
	}
	if after := readCredential(t, s); after.Pin != before.Pin || after.Token != before.Token {
		t.Errorf("%+v, was %+v", after, before)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v; want mode 700", info.Mode(), err)
	}
}

func readCredential(t *testing.T, s *running) credential.File {
	t.Helper()
	ports, err := credential.Ports()
	if err != nil || len(ports) != 1 {
		t.Fatalf("ports %v, %v; want one", ports, err)
	}
	f, err := credential.Read(ports[0])
	if err != nil {
		t.Fatal(err)
	}
	if f.GRPC != s.GRPCAddr() || f.HTTP != s.HTTPAddr() || !filepath.IsAbs(f.DataDir) {
		t.Fatalf("%+v; the server is at %s and %s", f, s.GRPCAddr(), s.HTTPAddr())
	}
	return f
}

func TestCredentialFileGoesWithTheServer(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	f := readCredential(t, s)
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if ports, _ := credential.Ports(); len(ports) != 0 {
		t.Errorf("files of ports %v are left", ports)
	}
	if _, err := net.Dial("tcp", f.GRPC); err == nil {
		t.Error("the port is still open")
	}
}

func TestAForeignCredentialFileStays(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	f := readCredential(t, s)
	f.Pin = strings.Repeat("00", 32)
	ports, _ := credential.Ports()
	if err := credential.Write(ports[0], f); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := credential.Read(ports[0]); err != nil {
		t.Errorf("the other server's file is gone: %v", err)
	}
}

// TestFilesOfKilledServersGo has files as a server leaves them that is killed.
func TestFilesOfKilledServersGo(t *testing.T) {
	dir := t.TempDir()
	c := config(t, dir)
	for port, f := range map[int]credential.File{
		1001: {DataDir: dir, HTTP: "127.0.0.1:1"},              // the same data: gone
		1002: {DataDir: "/elsewhere", HTTP: "127.0.0.1:50123"}, // another server: may live
	} {
		if err := credential.Write(port, f); err != nil {
			t.Fatal(err)
		}
	}
	s := start(t, c)
	_, port, _ := net.SplitHostPort(s.GRPCAddr())
	ports, err := credential.Ports()
	if got := fmt.Sprint(ports); err != nil || got != "[1002 "+port+"]" {
		t.Errorf("files of %s, %v; want those of 1002 and %s", got, err, port)
	}
}

// TestRequestsUnderWayAreFinished stops the server in the middle of a body.
func TestRequestsUnderWayAreFinished(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	conn, err := net.Dial("tcp", s.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "PUT /v1/rules/route/canary HTTP/1.1\r\nHost: weft\r\nAuthorization: Bearer %s\r\nContent-Type: application/yaml\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", s.token, len(canary))
	answers := bufio.NewReader(conn)
	if line, err := answers.ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") { // the handler reads
		t.Fatal(line, err)
	}
	answers.ReadString('\n')
	stopped := make(chan error)
	go func() { stopped <- s.stop() }()
	for ready := true; ready; { // until the listener is closed
		c, err := net.Dial("tcp", s.HTTPAddr())
		if ready = err == nil; ready {
			c.Close()
		}
	}
	io.WriteString(conn, canary)
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Error(answer.Status)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestWithoutAConfigurationDirectory(t *testing.T) {
	c := config(t, t.TempDir())
	t.Setenv("XDG_CONFIG_HOME", "")
	t.Setenv("HOME", "")
	s := start(t, c)
	if code, _ := s.call(t, "GET", "/readyz", ""); code != 200 {
		t.Error(code)
	}
}

// TestSessionsArePinned opens a session as an SDK does, with what is in the credential file.
func TestSessionsArePinned(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	f := readCredential(t, s)
	for _, c := range []struct {
		name, pin, token string
		want             codes.Code
	}{
		{"as the file says", f.Pin, f.Token, codes.OK},
		{"the administrator", f.Pin, s.token, codes.OK},
		{"another pin", strings.Repeat("00", 32), f.Token, codes.Unavailable},
		{"another token", f.Pin, "wrong", codes.Unauthenticated},
		{"no token", f.Pin, "", codes.Unauthenticated},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := hello(t, f.GRPC, c.pin, c.token); status.Code(err) != c.want {
				t.Errorf("%v, want %s", err, c.want)
			}
		})
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

// hello opens a session and waits for the Welcome.
func hello(t *testing.T, address, pin, token string) error {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(credentials.NewTLS(pinned(pin))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(ctx)
	if err != nil {
		return err
	}
	err = stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: rand.Text()}}})
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	_, err = stream.Recv()
	return err
}

// TestStopWithASessionOpen wants the stop not to wait for sessions, which never end by themselves.
func TestStopWithASessionOpen(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	f := readCredential(t, s)
	conn, err := grpc.NewClient(f.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(pinned(f.Pin))))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+f.Token))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: rand.Text()}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "is stopping") {
		t.Errorf("the session ended with %v, want the server's own word, not a broken connection", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "registry.db")); errors.Is(err, fs.ErrNotExist) {
		t.Error("the store is gone")
	}
}

func TestRunWithAnEndedContext(t *testing.T) {
	c := config(t, t.TempDir())
	for range 20 {
		s, err := server.New(c)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// inMemory is a server without a data directory.
func inMemory() server.Config {
	return server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: store.NewMemory()}
}

// session opens one that stays until stop is called or the test ends.
func session(t *testing.T, s *running) (stop func()) {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(pinned(s.Pin()))))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+s.WorkloadToken()))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: "first"}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	return func() { conn.Close() }
}
