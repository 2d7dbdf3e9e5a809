package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/credential"
)

// certificateIn writes a new certificate and gives its pin.
func certificateIn(t *testing.T, certFile, keyFile string) (pin string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"registry.test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return credential.PinOf(parsed)
}

// getTLS calls /readyz by HTTPS of whoever has the pinned key.
func getTLS(t *testing.T, s *running, pin string, change func(*tls.Config)) error {
	t.Helper()
	_, port, _ := net.SplitHostPort(s.HTTPAddr())
	config := pinned(pin)
	if change != nil {
		change(config)
	}
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), "GET", "https://127.0.0.1:"+port+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := transport.RoundTrip(r)
	if err == nil {
		answer.Body.Close()
	}
	return err
}

// Where other hosts can listen in, nothing is plain, and no flag is needed for that.
func TestBeyondLoopbackRESTIsTLS(t *testing.T) {
	c := config(t, t.TempDir())
	c.HTTPAddr, c.GRPCAddr = "0.0.0.0:0", "0.0.0.0:0"
	s := start(t, c)
	if err := getTLS(t, s, s.Pin(), nil); err != nil {
		t.Errorf("with the server's own key: %v", err)
	}
	if err := getTLS(t, s, strings.Repeat("00", 32), nil); err == nil {
		t.Error("another key is taken")
	}
	if err := getTLS(t, s, s.Pin(), func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err == nil {
		t.Error("TLS 1.2 is spoken")
	}
	_, port, _ := net.SplitHostPort(s.HTTPAddr())
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: weft\r\n\r\n")
	answer, _ := io.ReadAll(conn)
	if !strings.Contains(string(answer), "400") || strings.Contains(string(answer), "ready\n") {
		t.Errorf("plain HTTP is answered by %q", answer)
	}
	ports, _ := credential.Ports()
	f, err := credential.Read(ports[0])
	if err != nil || f.HTTPPin != s.Pin() || f.HTTP != "127.0.0.1:"+port || f.Pin != s.Pin() {
		t.Errorf("the credential file says %+v, %v", f, err)
	}
	if alive, err := credential.Alive(f); !alive || err != nil {
		t.Errorf("the server is alive: %v, %v", alive, err)
	}
	if err := hello(t, f.GRPC, f.Pin, f.Token); err != nil {
		t.Errorf("a session as the file says: %v", err)
	}
}

func TestOnLoopbackRESTIsPlain(t *testing.T) {
	s := start(t, config(t, t.TempDir()))
	if f := readCredential(t, s); f.HTTPPin != "" {
		t.Errorf("the credential file says %+v", f)
	}
	if code, _ := s.call(t, "GET", "/readyz", ""); code != 200 {
		t.Error(code)
	}
}

func TestAGivenCertificate(t *testing.T) {
	dir := t.TempDir()
	c := config(t, filepath.Join(dir, "data"))
	c.TLSCert, c.TLSKey = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	pin := certificateIn(t, c.TLSCert, c.TLSKey)
	s := start(t, c)
	if err := getTLS(t, s, pin, nil); err != nil {
		t.Error(err)
	}
	if f := readCredential(t, s); f.HTTPPin != pin || f.Pin == pin {
		t.Errorf("the credential file says %+v", f)
	}
	if err := hello(t, s.GRPCAddr(), s.Pin(), s.WorkloadToken()); err != nil {
		t.Errorf("sessions have the server's own key: %v", err)
	}
}

func TestAStoreInMemory(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	s := start(t, inMemory())
	if code, body := s.call(t, "PUT", "/v1/rules/route/canary", canary); code != 201 {
		t.Error(code, body)
	}
	if err := hello(t, s.GRPCAddr(), s.Pin(), s.WorkloadToken()); err != nil {
		t.Error(err)
	}
	if ports, _ := credential.Ports(); len(ports) != 0 {
		t.Errorf("credential files for %v", ports)
	}
	other := start(t, inMemory())
	if other.Pin() == s.Pin() || other.AdminToken() == s.AdminToken() || other.WorkloadToken() == s.WorkloadToken() {
		t.Error("two servers share a secret")
	}
}

func TestSessionsAreBounded(t *testing.T) {
	c := inMemory()
	c.MaxSessions = 1
	s := start(t, c)
	stop := session(t, s)
	err := hello(t, s.GRPCAddr(), s.Pin(), s.WorkloadToken())
	if err == nil || !strings.Contains(err.Error(), "--max-sessions") {
		t.Errorf("a second session: %v", err)
	}
	stop()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if err = hello(t, s.GRPCAddr(), s.Pin(), s.WorkloadToken()); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("when the first was over: %v", err)
		}
	}
}
