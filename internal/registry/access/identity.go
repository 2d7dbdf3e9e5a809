package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"time"

	"github.com/weftmesh/weft/internal/credential"
)

// IdentityFile is the name of the server's key and certificate in the data directory. They share a file, so that
// a crash cannot leave one without the other.
const IdentityFile = "server.pem"

// lifetime of the server's certificate. Clients pin its key and do not look at dates.
const lifetime = 10 * 365 * 24 * time.Hour

// Identity is the server's key and self-signed certificate.
type Identity struct {
	certificate tls.Certificate
}

// OpenIdentity reads the identity of a data directory, and makes one (P-256) if there is none; that of the directory ""
// is new and kept in memory only.
func OpenIdentity(dir string) (*Identity, error) {
	if dir == "" {
		return parseIdentity(newIdentity(time.Now()))
	}
	path := filepath.Join(dir, IdentityFile)
	data, err := credential.ReadPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if data, err = newIdentity(time.Now()); err == nil {
			err = credential.WritePrivate(path, data)
		}
	}
	if err != nil {
		return nil, err
	}
	i, err := parseIdentity(data, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; delete the file to get a new key, and restart the SDKs that pinned the old one", path, err)
	}
	return i, nil
}

// parseIdentity reads a key and a certificate, unless they could not be had.
func parseIdentity(data []byte, err error) (*Identity, error) {
	if err != nil {
		return nil, err
	}
	certificate, err := tls.X509KeyPair(data, data)
	return &Identity{certificate}, err
}

func newIdentity(now time.Time) ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := x509.Certificate{
		Subject:     pkix.Name{CommonName: "weft registry server"},
		NotBefore:   now.Add(-time.Hour),
		NotAfter:    now.Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	cert, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...), nil
}

// Pin returns the pin of the server's key, as [credential.PinOf] gives it.
func (i *Identity) Pin() string { return credential.PinOf(i.certificate.Leaf) }

// TLS returns the configuration of the server: TLS 1.3 only.
func (i *Identity) TLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.certificate}}
}
