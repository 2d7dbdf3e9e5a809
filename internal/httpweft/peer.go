package httpweft

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
)

// keySuffix ends the hosts that stand for endpoints. It is no top-level domain and never reaches a resolver.
const keySuffix = ".weft-ep"

// A peer is one address under one identity and protocol: the unit of connection pooling and of readiness. It lives
// as long as a plan has an endpoint for it or an attempt is on its way to it.
type peer struct {
	client  *Client
	id      string // hash of identity, address and protocol
	key     string // host in the URLs of its requests
	address string
	http2   bool

	planned  atomic.Bool  // some plan has it; written under Client.mu
	inFlight atomic.Int64 // attempts that use it; far below 0 when it was dropped
	open     atomic.Int64 // connections
	until    atomic.Int64 // end of the backoff, nanoseconds after Client.origin; 0: none

	mu       sync.Mutex
	conns    map[*conn]struct{}
	failures int   // dials in a row
	err      error // of the last failed dial
	dropped  bool
}

// dropped is what inFlight holds when a peer may no longer be used.
const dropped = math.MinInt64 / 2

// peerID hashes what connections are pooled by. A record in discovery cannot be forged to collide with another.
func peerID(identity, address string, http2 bool) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %t", identity, address, http2))
	return hex.EncodeToString(sum[:16])
}

// peer returns the peer of an endpoint, making it if needed. The caller holds mu.
//
// A peer that was dropped and is made again gets another key: net/http learns only after a moment that the old one's
// connections are closed, and must not take one of them for the new one.
func (c *Client) peer(identity string, ep *balancer.Endpoint) *peer {
	id := peerID(identity, ep.Address, speaksHTTP2(ep))
	p := c.peers[id]
	if p == nil {
		c.made++
		p = &peer{client: c, id: id, key: fmt.Sprintf("%s-%d%s", id, c.made, keySuffix), address: ep.Address,
			http2: speaksHTTP2(ep), conns: map[*conn]struct{}{}}
		c.peers[id] = p
	}
	return p
}

// ready says how good the way to the peer is.
func (p *peer) ready() engine.Ready {
	switch until := p.until.Load(); {
	case until != 0 && p.client.elapsed() < until:
		return engine.NotReady
	case p.open.Load() > 0:
		return engine.Connected
	}
	return engine.MayDial
}

func (c *Client) elapsed() int64 { return int64(time.Since(c.origin)) }

// acquire says that an attempt will use the peer. false: it was dropped.
func (p *peer) acquire() bool {
	if p.inFlight.Add(1) > 0 {
		return true
	}
	p.inFlight.Add(-1)
	return false
}

// release ends what acquire began. The last one of a peer that no plan has drops it.
func (p *peer) release() {
	if p.inFlight.Add(-1) == 0 && !p.planned.Load() {
		p.client.mu.Lock()
		defer p.client.mu.Unlock()
		p.dropIfUnused()
	}
}

// dropIfUnused forgets the peer and closes its connections, unless a plan has it or an attempt uses it. The caller
// holds Client.mu.
func (p *peer) dropIfUnused() {
	if p.planned.Load() || !p.inFlight.CompareAndSwap(0, dropped) {
		return
	}
	delete(p.client.peers, p.id)
	p.mu.Lock()
	p.dropped = true
	conns := p.conns
	p.conns = nil
	p.mu.Unlock()
	for nc := range conns {
		nc.Close()
	}
}

// dialKey is the DialContext of the transports: it knows the address behind a key and asks no resolver for another.
func (c *Client) dialKey(ctx context.Context, network, hostport string) (net.Conn, error) {
	id, _, _ := strings.Cut(hostport, "-")
	key, _, _ := strings.Cut(hostport, ":")
	c.mu.Lock()
	p := c.peers[id]
	c.mu.Unlock()
	if p == nil || p.key != key {
		return nil, fmt.Errorf("weft: %q stands for no endpoint in use", hostport)
	}
	nc, err := c.dial(ctx, network, p.address)
	if err != nil {
		if ctx.Err() == nil {
			p.dialFailed(err)
		}
		return nil, err
	}
	return p.adopt(nc)
}

// The backoff after failed dials in a row.
const (
	firstBackoff  = 100 * time.Millisecond
	maxBackoff    = 5 * time.Second
	backoffGrowth = 1.6
	backoffJitter = 0.2 // of the length, up and down
)

func backoff(failures int) time.Duration {
	d := min(float64(firstBackoff)*math.Pow(backoffGrowth, float64(failures-1)), float64(maxBackoff))
	return time.Duration(d * (1 + backoffJitter*(2*rand.Float64()-1)))
}

// dialFailed starts a backoff. A failure within one is that of a dial begun before, and counts no further.
func (p *peer) dialFailed(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	now := p.client.elapsed()
	if now < p.until.Load() {
		return
	}
	p.failures++
	wait := backoff(p.failures)
	p.until.Store(now + int64(wait))
	p.client.log.Debug("dial failed", slog.String("address", p.address), slog.Int("failures", p.failures),
		slog.Duration("backoff", wait), slog.Any("error", err))
}

func (p *peer) lastError() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

var errDropped = errors.New("weft: the endpoint was removed while it was dialled")

// adopt takes a new connection into the peer's care.
func (p *peer) adopt(nc net.Conn) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.dropped {
		nc.Close()
		return nil, errDropped
	}
	p.failures = 0
	p.until.Store(0)
	own := &conn{Conn: nc, peer: p}
	p.conns[own] = struct{}{}
	p.open.Store(int64(len(p.conns)))
	return own, nil
}

func (p *peer) forget(own *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, own)
	p.open.Store(int64(len(p.conns)))
}

// conn is a connection that its peer counts.
type conn struct {
	net.Conn
	peer *peer
}

// Close closes the connection and lets the peer know.
func (c *conn) Close() error {
	c.peer.forget(c)
	return c.Conn.Close()
}

// ReadFrom keeps sendfile for request bodies that are files.
func (c *conn) ReadFrom(r io.Reader) (int64, error) { return io.Copy(c.Conn, r) }

// CloseWrite half-closes an upgraded connection.
func (c *conn) CloseWrite() error {
	if cw, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return cw.CloseWrite()
	}
	return fmt.Errorf("CloseWrite: %w", errors.ErrUnsupported)
}
