package credential

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"go.etcd.io/bbolt"
)

// live makes a data directory that a server has open.
func live(t *testing.T) (dir string, stop func()) {
	t.Helper()
	dir = t.TempDir()
	db, err := bbolt.Open(filepath.Join(dir, storeFile), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { db.Close() })
	t.Cleanup(stop)
	return dir, stop
}

func TestAlive(t *testing.T) {
	dir, stop := live(t)
	f := File{DataDir: dir, GRPC: "127.0.0.1:1"}
	if _, err := isLocked(filepath.Join(dir, storeFile)); errors.Is(err, errors.ErrUnsupported) {
		t.Skip("no such locks here")
	}
	for range 2 { // looking changes nothing
		if alive, err := Alive(f); !alive || err != nil {
			t.Errorf("while it runs: %v, %v", alive, err)
		}
	}
	stop()
	if alive, err := Alive(f); alive || err != nil {
		t.Errorf("when it is gone: %v, %v", alive, err)
	}
	if alive, err := Alive(File{DataDir: t.TempDir()}); alive || err != nil {
		t.Errorf("no store at all: %v, %v", alive, err)
	}
	if alive, err := Alive(File{DataDir: filepath.Join(dir, storeFile)}); alive || err == nil {
		t.Errorf("not a directory: %v, %v; want an error", alive, err)
	}
}

func TestHoldsKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer lis.Close()
	wg.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			c.(*tls.Conn).Handshake()
			c.Close()
		}
	})
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	plain.Close()
	for _, c := range []struct {
		name string
		file File
		want bool
	}{
		{"its key", File{GRPC: lis.Addr().String(), Pin: PinOf(cert)}, true},
		{"a squatter", File{GRPC: lis.Addr().String(), Pin: "ab"}, false},
		{"nobody", File{GRPC: plain.Addr().String(), Pin: PinOf(cert)}, false},
	} {
		if got := holdsKey(c.file); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestFind(t *testing.T) {
	home(t)
	dir, _ := live(t)
	dead := t.TempDir()
	for port, f := range map[int]File{
		1001: {GRPC: "127.0.0.1:1001", HTTP: "127.0.0.1:7080", DataDir: dead},
		1002: {GRPC: "[::1]:1002", HTTP: "127.0.0.1:7080", DataDir: dir},
		1003: {GRPC: "10.0.0.7:1003", HTTP: "10.0.0.7:7080", DataDir: dead},
	} {
		if err := Write(port, f); err != nil {
			t.Fatal(err)
		}
	}
	path, _ := Path(1004)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for asked, want := range map[string]string{
		"127.0.0.1:7080":          "[::1]:1002", // of two the one that lives
		"localhost:7080":          "[::1]:1002",
		"[::1]:7080":              "[::1]:1002",
		"[::ffff:127.0.0.1]:7080": "[::1]:1002",
		"localhost:1002":          "[::1]:1002",
		"localhost:1001":          "127.0.0.1:1001",
		"10.0.0.7:7080":           "10.0.0.7:1003",
		"10.0.0.8:7080":           "",
		"localhost:7081":          "",
	} {
		f, err := Find(asked)
		if f.GRPC != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: found %q, %v; want %q", asked, f.GRPC, err, want)
		}
	}
	for _, bad := range []string{"localhost", "", "localhost:", "a:b:c"} {
		if _, err := Find(bad); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: error %v, want one about the address", bad, err)
		}
	}
}
