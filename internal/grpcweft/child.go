package grpcweft

import (
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// child is the way to one endpoint: a pick_first balancer with one address, which dials, backs off and dials again.
// It is that balancer's ClientConn.
type child struct {
	balancer.ClientConn // of the parent
	parent              *fanout
	address             string
	callee              *attributes.Attributes

	state   atomic.Pointer[childState] // written under parent.mu, read by picks
	removed bool                       // under parent.mu

	mu       sync.Mutex // one call to balancer at a time
	balancer balancer.Balancer
	closed   bool
}

// childState is immutable.
type childState struct {
	state connectivity.State
	// conn is the connection that is ready, or else was: a pick that raced with its loss may still give it to
	// grpc, which then picks again.
	conn balancer.SubConn
	err  error // of the last dial, in TRANSIENT_FAILURE
}

// UpdateState implements balancer.ClientConn.
func (c *child) UpdateState(s balancer.State) {
	next := &childState{state: s.ConnectivityState}
	switch s.ConnectivityState {
	case connectivity.Ready, connectivity.TransientFailure: // others have nothing, and one that is idle would wake up
		result, err := s.Picker.Pick(balancer.PickInfo{})
		next.conn, next.err = result.SubConn, err
	}
	c.parent.move(c, next)
	if s.ConnectivityState == connectivity.Idle {
		c.parent.wake(c)
	}
}

// connect gives the child its address, for good.
func (c *child) connect() {
	c.mu.Lock()
	defer c.mu.Unlock()
	address := resolver.Address{Addr: c.address, Attributes: c.callee}
	_ = c.balancer.UpdateClientConnState(balancer.ClientConnState{ // fails for an empty list only
		ResolverState: resolver.State{Endpoints: []resolver.Endpoint{{Addresses: []resolver.Address{address}}}}})
}

func (c *child) exitIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.balancer.ExitIdle()
	}
}

// close ends the connection once the calls on it are over.
func (c *child) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.balancer.Close()
	c.parent.remove(c)
}
