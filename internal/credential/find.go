package credential

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"time"
)

// Find gives the file of the server whose REST, or whose sessions, are at host:port, where localhost and the
// addresses of loopback are alike. If several say so, one whose server lives is preferred. The error wraps
// [fs.ErrNotExist] if there is none.
//
// Connect to the address in the file, not to the one that was asked for: behind another spelling of loopback somebody
// else may listen.
func Find(hostport string) (File, error) {
	want, err := canonical(hostport)
	if err != nil {
		return File{}, err
	}
	ports, err := Ports()
	if err != nil {
		return File{}, err
	}
	var found *File
	for _, port := range ports {
		f, err := Read(port)
		if err != nil || !f.listensAt(want) {
			continue // a file that cannot be read is of no use, and not necessarily the one
		}
		if alive, _ := Alive(f); alive {
			return f, nil
		}
		found = &f
	}
	if found == nil {
		return File{}, fmt.Errorf("no registry server of this user is known at %s: %w", hostport, fs.ErrNotExist)
	}
	return *found, nil
}

func (f *File) listensAt(want string) bool {
	for _, address := range []string{f.HTTP, f.GRPC} {
		if got, err := canonical(address); err == nil && got == want {
			return true
		}
	}
	return false
}

// canonical gives host:port with one name for loopback.
func canonical(hostport string) (string, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || port == "" {
		return "", fmt.Errorf("address %.140q: want host:port, such as 127.0.0.1:7080", hostport)
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.Unmap().IsLoopback() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port), nil
}

// holdsKey reports whether the server of the file answers at its gRPC port with the key of the pin.
func holdsKey(f File) bool {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		NextProtos:         []string{"h2"},
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection compares the key instead
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 || PinOf(s.PeerCertificates[0]) != f.Pin {
				return errors.New("not the pinned key")
			}
			return nil
		},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", f.GRPC)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
