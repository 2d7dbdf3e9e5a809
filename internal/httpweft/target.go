package httpweft

import (
	"sync"
	"sync/atomic"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
)

// A target is a service as this client sees it: its endpoints and the peers behind them.
type target struct {
	client   *Client
	identity string // expected of the peers; connections are pooled by it
	peers    atomic.Pointer[map[*balancer.Endpoint]*peer]
	once     sync.Once
	cancel   func() // ends listening for plans; nil before
}

// target returns the target of a service, and follows the service's plans from the first call on.
func (c *Client) target(s *engine.Service) *target {
	found, ok := c.targets.Load(s)
	if !ok {
		t := &target{client: c, identity: s.Name}
		t.peers.Store(&map[*balancer.Endpoint]*peer{})
		found, _ = c.targets.LoadOrStore(s, t)
	}
	t := found.(*target)
	t.once.Do(func() { t.follow(s) })
	return t
}

func (t *target) follow(s *engine.Service) {
	t.cancel = s.Listen(t.apply)
	if t.client.closed.Load() { // Close may not have seen this target
		t.cancel()
	}
}

func (t *target) stop() {
	t.once.Do(func() {})
	if t.cancel != nil {
		t.cancel()
	}
}

// apply makes the peers follow a plan. Those that it no longer has go as soon as nothing uses them.
func (t *target) apply(plan *engine.Plan) {
	c := t.client
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return
	}
	endpoints := plan.Protocols[engine.HTTP].Endpoints
	next := make(map[*balancer.Endpoint]*peer, len(endpoints))
	for _, ep := range endpoints {
		next[ep] = c.peer(t.identity, ep)
	}
	t.swap(next)
}

// swap replaces the peers of the plan. The caller holds Client.mu.
func (t *target) swap(next map[*balancer.Endpoint]*peer) {
	old := *t.peers.Swap(&next)
	for _, p := range old {
		p.planned.Store(false)
	}
	for _, p := range next {
		p.planned.Store(true)
	}
	for _, p := range old {
		p.dropIfUnused()
	}
}

// retireAll takes all peers out of use.
func (c *Client) retireAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		p.planned.Store(false)
		p.dropIfUnused()
	}
}

// ready says how good the way to an endpoint is, and through whom it leads if that is known.
func (t *target) ready(ep *balancer.Endpoint) (engine.Ready, *peer) {
	p := t.find(ep)
	if p == nil {
		return engine.MayDial, nil
	}
	return p.ready(), p
}

// find returns the peer of an endpoint without making one. An endpoint of a plan that is not, or no longer, applied
// here is looked up by what it is.
func (t *target) find(ep *balancer.Endpoint) *peer {
	if p := (*t.peers.Load())[ep]; p != nil {
		return p
	}
	t.client.mu.Lock()
	defer t.client.mu.Unlock()
	return t.client.peers[peerID(t.identity, ep.Address, speaksHTTP2(ep))]
}

// acquire returns the peer of an endpoint for one attempt, which says release.
func (t *target) acquire(ep *balancer.Endpoint) *peer {
	if p := (*t.peers.Load())[ep]; p != nil && p.acquire() {
		return p
	}
	t.client.mu.Lock() // under it nobody drops a peer
	defer t.client.mu.Unlock()
	p := t.client.peer(t.identity, ep)
	p.acquire()
	return p
}

// speaksHTTP2 chooses the transport for an endpoint.
func speaksHTTP2(ep *balancer.Endpoint) bool { return ep.HTTP2 }
