//go:build linux

package faults

import (
	"net"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/internal/credential"
)

// proxy stands between some processes and the registry. Who connects by it needs the pin and the token of the registry: with
// the credential file the SDK would go to the address in there, past the proxy.
type proxy struct {
	credential.File
	addr string
	to   string
	slow time.Duration // what the registry says arrives so much later
	wg   sync.WaitGroup

	mu    sync.Mutex
	lis   net.Listener // nil while it is cut
	conns map[net.Conn]bool
	used  bool
}

func newProxy(t *testing.T, r *registry, slow time.Duration) *proxy {
	t.Helper()
	p := &proxy{File: r.credentials(t), addr: freeAddr(t), to: r.grpc, slow: slow, conns: map[net.Conn]bool{}}
	p.restore(t)
	t.Cleanup(func() {
		p.cut()
		if !p.used {
			t.Errorf("nobody came by the proxy %s", p.addr)
		}
	})
	return p
}

// caller is a caller that reaches the registry by the proxy.
func (p *proxy) caller(t *testing.T, rules string) *caller {
	t.Helper()
	return newCallerWith(t, rules, weft.WithRegistry(p.addr), weft.WithPin(p.Pin), weft.WithToken(p.Token))
}

// restore lets connections pass.
func (p *proxy) restore(t *testing.T) {
	t.Helper()
	lis, err := net.Listen("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lis = lis
	p.wg.Go(func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			p.wg.Go(func() { p.pass(c) })
		}
	})
}

// cut breaks all connections, and refuses new ones.
func (p *proxy) cut() {
	p.mu.Lock()
	if p.lis != nil {
		p.lis.Close()
		p.lis = nil
	}
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
	p.mu.Unlock()
	p.wg.Wait()
}

func (p *proxy) pass(near net.Conn) {
	far, err := net.Dial("tcp", p.to)
	if err != nil {
		near.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lis == nil {
		near.Close()
		far.Close()
		return
	}
	p.used, p.conns[near], p.conns[far] = true, true, true
	p.wg.Go(func() { p.copy(near, far, p.slow) })
	p.wg.Go(func() { p.copy(far, near, 0) })
}

// copy passes on what comes, each piece after the delay.
func (p *proxy) copy(to, from net.Conn, delay time.Duration) {
	type piece struct {
		data []byte
		due  time.Time
	}
	pieces := make(chan piece, 1000)
	p.wg.Go(func() {
		for piece := range pieces {
			time.Sleep(time.Until(piece.due))
			to.Write(piece.data) // what cannot be written is lost, as in a network
		}
		to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, to)
	})
	defer close(pieces)
	for {
		data := make([]byte, 16<<10)
		n, err := from.Read(data)
		if err != nil {
			return
		}
		pieces <- piece{data[:n], time.Now().Add(delay)}
	}
}
