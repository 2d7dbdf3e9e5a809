package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// checkLoopback refuses what other hosts could reach: what protects such a listener is not built.
func checkLoopback(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--%s %q: want host:port, such as 127.0.0.1:7070", flag, addr)
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--%s %q is not a loopback address, which is refused until TLS and access control for other hosts are there; bind to 127.0.0.1", flag, addr)
}

// listen opens both listeners.
func (s *Server) listen(c Config) (err error) {
	if s.grpcLis, err = listenOn("grpc-addr", c.GRPCAddr); err != nil {
		return err
	}
	s.onRelease(func() error { return ignoreClosed(s.grpcLis.Close()) })
	if s.httpLis, err = listenOn("http-addr", c.HTTPAddr); err != nil {
		return err
	}
	s.onRelease(func() error { return ignoreClosed(s.httpLis.Close()) })
	return nil
}

func listenOn(flag, addr string) (net.Listener, error) {
	lis, err := net.Listen("tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("--%s %s is in use by another process; stop it, or choose another port (0 takes a free one)", flag, addr)
	case err != nil:
		return nil, fmt.Errorf("--%s %s: %w; choose another address", flag, addr, err)
	}
	return lis, nil
}

// ignoreClosed passes over a listener that its server has closed already.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
