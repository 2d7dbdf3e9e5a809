package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/weftmesh/weft/internal/credential"
)

// lookEvery is how often, at most, a handshake looks whether the files have changed.
const lookEvery = 5 * time.Second

// certificate is that of REST: the one of two files, read again when they change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	changed           func() // called after another one was read; nil: nobody wants to know

	mu      sync.Mutex
	current *tls.Certificate
	seen    stamp // of what was read last, good or bad
	looked  time.Time
}

// stamp tells versions of the two files apart.
type stamp struct {
	certAt, keyAt     time.Time
	certSize, keySize int64
}

// openCertificate reads the files for the first time.
func openCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, looked: time.Now()}
	var err error
	if c.seen, err = c.stat(); err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	if c.current, err = c.read(); err != nil {
		return nil, fmt.Errorf("--tls-cert %s, --tls-key %s: %w; want a certificate and its key in PEM", certFile, keyFile, err)
	}
	return c, nil
}

func (c *certificate) stat() (stamp, error) {
	cert, err := os.Stat(c.certFile)
	if err != nil {
		return stamp{}, err
	}
	key, err := os.Stat(c.keyFile)
	if err != nil {
		return stamp{}, err
	}
	return stamp{cert.ModTime(), key.ModTime(), cert.Size(), key.Size()}, nil
}

func (c *certificate) read() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	return &pair, err
}

// get gives the certificate for a handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	fresh := time.Since(c.looked) >= lookEvery && c.refresh()
	current := c.current
	c.mu.Unlock()
	if fresh && c.changed != nil {
		c.changed()
	}
	return current, nil
}

// refresh reads the files again if they changed. What cannot be read, such as a new certificate beside the old key,
// leaves the old pair in use until the files change once more. It runs under mu.
func (c *certificate) refresh() bool {
	c.looked = time.Now()
	now, err := c.stat()
	if err == nil && now == c.seen {
		return false
	}
	pair := c.current
	if err == nil {
		c.seen = now
		pair, err = c.read()
	}
	if err != nil {
		c.log.Warn("the new certificate of REST cannot be read, so the old one is used", "error", err)
		return false
	}
	c.current = pair
	c.log.Info("REST has a new certificate", "file", c.certFile, "until", pair.Leaf.NotAfter)
	return true
}

// pin of the certificate's key.
func (c *certificate) pin() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return credential.PinOf(c.current.Leaf)
}
