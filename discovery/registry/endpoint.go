package registry

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/session"
)

// maxToken bounds a token file, in bytes.
const maxToken = 64 << 10

// finder gives the endpoint for each attempt to connect. One goroutine uses it.
type finder struct {
	addrs     []string
	token     string
	tokenFile string
	pin       string // "": the credential file's
	at        int
}

// next takes the addresses in turn. With a pin and a token of its own the credential file is not looked at.
func (f *finder) next(context.Context) (session.Endpoint, error) {
	addr := f.addrs[f.at%len(f.addrs)]
	f.at++
	var file credential.File
	if f.pin == "" || f.token == "" && f.tokenFile == "" {
		var err error
		if file, err = readFile(addr); err != nil {
			return session.Endpoint{}, fmt.Errorf("registry %s: %w", addr, err)
		}
	}
	endpoint := session.Endpoint{Target: addr}
	if isLoopback(addr) {
		endpoint.Target = cmp.Or(file.GRPC, addr) // it may listen on the other loopback address
	}
	var err error
	if endpoint.Pin, err = parsePin(cmp.Or(f.pin, file.Pin)); err != nil {
		return session.Endpoint{}, fmt.Errorf("registry %s: %w", addr, err)
	}
	endpoint.Token, err = f.readToken(file.Token)
	return endpoint, err
}

func readFile(addr string) (credential.File, error) {
	port, err := portOf(addr)
	if err != nil {
		return credential.File{}, err
	}
	file, err := credential.Read(port)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("no credential file: %w; is registry-server running as this user? A server elsewhere needs its pin and a token (WEFT_PIN, WEFT_TOKEN)", err)
	}
	return file, err
}

func parsePin(text string) (pin [sha256.Size]byte, err error) {
	data, err := hex.DecodeString(text)
	if err != nil || len(data) != len(pin) {
		return pin, fmt.Errorf("pin %.140q: want %d hex digits", text, 2*len(pin))
	}
	copy(pin[:], data)
	return pin, nil
}

func (f *finder) readToken(standard string) (string, error) {
	if f.tokenFile == "" {
		return cmp.Or(f.token, standard), nil
	}
	file, err := os.Open(f.tokenFile)
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxToken+1))
	if err != nil {
		return "", fmt.Errorf("token file: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" || len(data) > maxToken {
		return "", fmt.Errorf("token file %s: want 1 to %d bytes", f.tokenFile, maxToken)
	}
	return token, nil
}

// portOf returns the port of a registry's address.
func portOf(addr string) (int, error) {
	host, text, err := net.SplitHostPort(addr)
	port, perr := strconv.ParseUint(text, 10, 16)
	if err != nil || perr != nil || port == 0 || host == "" {
		return 0, fmt.Errorf("registry address %q: want host:port, such as %q", addr, DefaultAddr)
	}
	return int(port), nil
}

func isLoopback(addr string) bool {
	host, _, _ := net.SplitHostPort(addr)
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}
