package registry

import (
	"cmp"
	"context"
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
	at        int
}

// next takes the addresses in turn.
func (f *finder) next(context.Context) (session.Endpoint, error) {
	addr := f.addrs[f.at%len(f.addrs)]
	f.at++
	port, err := portOf(addr)
	if err != nil {
		return session.Endpoint{}, err
	}
	file, err := credential.Read(port)
	if errors.Is(err, fs.ErrNotExist) {
		return session.Endpoint{}, fmt.Errorf("registry %s: no credential file: %w; is registry-server running as this user?", addr, err)
	}
	if err != nil {
		return session.Endpoint{}, fmt.Errorf("registry %s: %w", addr, err)
	}
	endpoint := session.Endpoint{Target: addr}
	if isLoopback(addr) {
		endpoint.Target = cmp.Or(file.GRPC, addr) // it may listen on the other loopback address
	}
	pin, err := hex.DecodeString(file.Pin)
	if err != nil || copy(endpoint.Pin[:], pin) != len(pin) || len(pin) != len(endpoint.Pin) {
		return session.Endpoint{}, fmt.Errorf("registry %s: credential file: pin %q: want %d hex digits", addr, file.Pin, 2*len(endpoint.Pin))
	}
	endpoint.Token, err = f.readToken(file.Token)
	return endpoint, err
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
