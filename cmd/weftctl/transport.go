package main

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/weftmesh/weft/internal/credential"
)

// errWrongPin is in the chain of the error about a server with another key than the pin says.
var errWrongPin = errors.New("its key is not the one that is pinned")

// pinFor takes --pin or WEFT_PIN, or else what the running server of this user has written down.
func pinFor(flag string, base *url.URL, f credential.File) (string, error) {
	if base.Scheme != "https" {
		return "", nil
	}
	for _, given := range []struct{ from, pin string }{{"--pin", flag}, {"WEFT_PIN", os.Getenv("WEFT_PIN")}} {
		pin := strings.ToLower(strings.TrimSpace(given.pin))
		if pin == "" {
			continue
		}
		if sum, err := hex.DecodeString(pin); err != nil || len(sum) != 32 {
			return "", fmt.Errorf("%s %q: want the SHA-256 of the server's public key, 64 hexadecimal digits", given.from, given.pin)
		}
		return pin, nil
	}
	return f.HTTPPin, nil
}

// transport is how the server is reached: never by a proxy, which would see the token.
func (t target) transport() *http.Transport {
	out := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, TLSHandshakeTimeout: 10 * time.Second}
	if t.pin != "" {
		out.TLSClientConfig.InsecureSkipVerify = true // the pin says whom to trust, not the name
		out.TLSClientConfig.VerifyConnection = t.pinned
	}
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	out.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dialer.DialContext(ctx, network, address)
		if err == nil && strings.HasPrefix(t.base, "http:") && !onLoopback(conn) {
			conn.Close()
			return nil, fmt.Errorf("it is %s, and a token is not sent in plain text to another host", conn.RemoteAddr())
		}
		return conn, err
	}
	return out
}

// pinned wants the server's key to be the one that is pinned. Unlike VerifyPeerCertificate, it is asked for resumed
// connections too.
func (t target) pinned(state tls.ConnectionState) error {
	got := credential.PinOf(state.PeerCertificates[0])
	if subtle.ConstantTimeCompare([]byte(got), []byte(t.pin)) == 1 {
		return nil
	}
	return fmt.Errorf("%w: it is %s and must be %s; if the server was set up anew, correct --pin or WEFT_PIN, else somebody stands in between", errWrongPin, got, t.pin)
}

func onLoopback(conn net.Conn) bool {
	a, ok := conn.RemoteAddr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// isTLS reports whether the server's certificate is at fault.
func (c *client) isTLS(err error) bool {
	_, invalid := errors.AsType[*tls.CertificateVerificationError](err)
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	return invalid || unknown
}
