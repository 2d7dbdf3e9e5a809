package server

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"testing"

	"google.golang.org/grpc/credentials"
)

// stalled is a handshake that stalls until it is told to go on.
type stalled struct {
	credentials.TransportCredentials
	on chan struct{}
}

func (h stalled) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	<-h.on
	return conn, nil, nil
}

type addressed struct {
	net.Conn
	addr string
}

func (a addressed) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(a.addr), 1))
}
func (a addressed) Close() error { return nil }

// Handshakes above the bounds are turned away, and others take the place of those that are over. One address cannot take
// all places.
func TestHandshakesAreBounded(t *testing.T) {
	h := stalled{on: make(chan struct{})}
	turns := newTurns(h)
	ended := make(chan error)
	shake := func(addr string) {
		_, _, err := turns.ServerHandshake(addressed{addr: addr})
		ended <- err
	}
	begun := func(n int) {
		for {
			turns.mu.Lock()
			all := turns.all
			turns.mu.Unlock()
			if all == n {
				return
			}
			runtime.Gosched()
		}
	}
	n := 0
	for _, addr := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4"} {
		for range handshakesAddress {
			go shake(addr)
			n++
		}
		begun(n)
		if n < maxHandshakes {
			go shake(addr)
			if err := <-ended; !errors.Is(err, errTurnedAway) {
				t.Fatalf("one more of %s: %v", addr, err)
			}
		}
	}
	go shake("10.0.0.5")
	if err := <-ended; n != maxHandshakes || !errors.Is(err, errTurnedAway) {
		t.Fatalf("one more than %d: %v", n, err)
	}
	h.on <- struct{}{}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	go shake("10.0.0.5")
	begun(n)
	close(h.on)
	for range n {
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	if begun(0); len(turns.from) != 0 {
		t.Errorf("%d addresses are remembered", len(turns.from))
	}
}
