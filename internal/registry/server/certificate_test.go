package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/internal/credential"
)

// pair makes a certificate and its key in PEM.
func pair(t *testing.T) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// TestCertificateIsReadAgain changes one file after the other, as whoever renews certificates does.
func TestCertificateIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
		version := time.Now()
		write := func(path string, data []byte) {
			t.Helper()
			version = version.Add(time.Second)
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chtimes(path, version, version); err != nil {
				t.Fatal(err)
			}
		}
		cert, key := pair(t)
		write(certFile, cert)
		write(keyFile, key)
		c, err := openCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		changes := 0
		c.changed = func() { changes++ }
		served := func() string {
			t.Helper()
			time.Sleep(lookEvery)
			got, err := c.get(nil)
			if err != nil {
				t.Fatal(err)
			}
			return credential.PinOf(got.Leaf)
		}
		first := served()
		cert, key = pair(t)
		write(certFile, cert)
		if served() != first {
			t.Error("a certificate without its key is served")
		}
		write(keyFile, key)
		second := served()
		if second == first || second != c.pin() {
			t.Error("the new pair is not served")
		}
		if err := os.Remove(certFile); err != nil {
			t.Fatal(err)
		}
		if served() != second {
			t.Error("without the file the old pair is not served")
		}
		write(certFile, cert)
		write(keyFile, []byte("no key"))
		if served() != second {
			t.Error("with a broken key the old pair is not served")
		}
		if changes != 1 {
			t.Errorf("%d changes were told, want 1", changes)
		}
	})
}
