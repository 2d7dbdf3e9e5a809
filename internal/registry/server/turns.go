package server

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"google.golang.org/grpc/credentials"
)

// How many handshakes may be under way, in all and with one address: less than a processor does in the 5 s for which
// clients wait, and not all for one host, which could let them hang.
const (
	maxHandshakes     = 1024
	handshakesAddress = 256
)

// turns bounds the handshakes that are under way. After a crash thousands of clients come back within a second or two; if
// all their handshakes shared the processors, each would take longer than its client waits, and none would ever end. One
// above the bound is turned away at once, which costs next to nothing: its client tries again a moment later.
type turns struct {
	credentials.TransportCredentials
	*underWay
}

type underWay struct {
	mu   sync.Mutex
	all  int
	from map[netip.Addr]int
}

var errTurnedAway = errors.New("too many handshakes are under way")

func newTurns(c credentials.TransportCredentials) turns {
	return turns{c, &underWay{from: make(map[netip.Addr]int)}}
}

// ServerHandshake implements [credentials.TransportCredentials].
func (t turns) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	addr, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	if !t.begin(addr.Addr()) {
		conn.Close()
		return nil, nil, errTurnedAway
	}
	defer t.end(addr.Addr())
	return t.TransportCredentials.ServerHandshake(conn)
}

func (u *underWay) begin(addr netip.Addr) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all >= maxHandshakes || u.from[addr] >= handshakesAddress {
		return false
	}
	u.all++
	u.from[addr]++
	return true
}

func (u *underWay) end(addr netip.Addr) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all--
	if u.from[addr]--; u.from[addr] == 0 {
		delete(u.from, addr)
	}
}

// Clone implements [credentials.TransportCredentials]: what is under way is the same.
func (t turns) Clone() credentials.TransportCredentials {
	t.TransportCredentials = t.TransportCredentials.Clone()
	return t
}
