package grpcweft

import (
	"fmt"
	"sync"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	weftbalancer "github.com/weftmesh/weft/balancer"
)

// grpc finds balancers by name in a global table only. The builder has no state, so registering it changes nothing
// for anybody else.
func init() { balancer.Register(builder{}) }

type builder struct{}

// Name implements balancer.Builder.
func (builder) Name() string { return scheme }

// Build implements balancer.Builder.
func (builder) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	return &fanout{cc: cc, opts: opts, picker: new(picker), children: map[endpointKey]*child{}}
}

// fanout keeps a pick_first child for each endpoint, and one picker for ever, which reads the children's slots. An
// update costs what it changes and one pass over the endpoints. (grpc's endpointsharding makes a picker of all
// endpoints whenever one of them changes its state: bringing up n of them costs n².)
//
// Lock order: child.mu, then pick_first's own, then fanout.mu, then grpc's. No child is called under fanout.mu.
type fanout struct {
	cc       balancer.ClientConn
	opts     balancer.BuildOptions
	picker   *picker
	children map[endpointKey]*child // used by grpc's calls only, which come one at a time

	mu        sync.Mutex
	counts    [connectivity.Shutdown + 1]int // of the children in each state
	published connectivity.State
	inhibited bool // an update is under way: it will publish once, at its end
	closed    bool
	wakers    sync.WaitGroup // goroutines that get children out of idleness
}

// endpointKey is what makes an endpoint another one for its connection. Its weight and labels do not.
type endpointKey struct{ id, address string }

// UpdateClientConnState implements balancer.Balancer.
func (f *fanout) UpdateClientConnState(s balancer.ClientConnState) error {
	eps, err := f.endpoints(s)
	if err != nil {
		f.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(err)})
		return balancer.ErrBadResolverState
	}
	f.inhibit()
	fresh, gone := f.reconcile(eps)
	for _, c := range fresh {
		c.connect()
	}
	for _, c := range gone {
		c.close()
	}
	f.release()
	return nil
}

// endpoints takes our resolver's list out of an update.
func (f *fanout) endpoints(s balancer.ClientConnState) (*endpoints, error) {
	eps, ok := s.ResolverState.Attributes.Value(endpointsKey{}).(*endpoints)
	if !ok {
		return nil, misuse("the balancer %q is for targets %s:///<service>, not for %s", scheme, scheme, f.opts.Target.String())
	}
	if _, ok := f.opts.DialCreds.(plaintext); !ok {
		return nil, misuse("the dial options include transport credentials; remove your own")
	}
	return eps, nil
}

// misuse is an error that ends every call, also those that wait for readiness.
func misuse(format string, args ...any) error {
	return status.Errorf(codes.Internal, "weft: "+format, args...)
}

// reconcile makes children for new endpoints and finds those of endpoints that are gone. Picks see the new ones
// from here on; what they still find in the old ones they give back.
func (f *fanout) reconcile(eps *endpoints) (fresh []*child, gone map[endpointKey]*child) {
	gone, f.children = f.children, make(map[endpointKey]*child, len(eps.list))
	slots := make(map[*weftbalancer.Stats]*child, len(eps.list))
	callee := attributes.New(calleeKey{}, eps.service)
	for _, ep := range eps.list {
		key := endpointKey{ep.ID, ep.Address}
		c := gone[key]
		if c == nil {
			c = f.newChild(ep.Address, callee)
			fresh = append(fresh, c)
		}
		delete(gone, key)
		f.children[key] = c
		slots[ep.Stats] = c
	}
	f.picker.table.Store(&table{eps.service, slots})
	return fresh, gone
}

func (f *fanout) newChild(address string, callee *attributes.Attributes) *child {
	c := &child{ClientConn: f.cc, parent: f, address: address, callee: callee}
	c.state.Store(&childState{state: connectivity.Connecting})
	f.mu.Lock()
	f.counts[connectivity.Connecting]++
	f.mu.Unlock()
	c.balancer = balancer.Get(pickfirst.Name).Build(c, f.opts)
	return c
}

func (f *fanout) inhibit() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inhibited = true
}

func (f *fanout) release() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inhibited = false
	f.publish()
}

// move notes the new state of a child and wakes calls that wait, if it concerns them.
func (f *fanout) move(c *child, next *childState) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c.removed {
		return
	}
	prev := c.state.Load()
	if next.conn == nil {
		next.conn = prev.conn
	}
	c.state.Store(next)
	f.counts[prev.state]--
	f.counts[next.state]++
	if !f.inhibited && f.news(prev.state, next.state) {
		f.publish()
	}
}

// news reports whether a change must be published. Whoever was given a connection that has just been lost waits for
// it, whatever the other children do. Those that wait for a connection want to hear of each new one, not only
// of the first, which may belong to another subset; or that the last one they could hope for has failed. Without
// waiters only a change of the whole counts, or bringing up n endpoints would wake everybody n times.
func (f *fanout) news(prev, next connectivity.State) bool {
	switch {
	case f.aggregate() != f.published, prev == connectivity.Ready && next != connectivity.Ready:
		return true
	case next == connectivity.Ready:
		return f.picker.waiters.Load()
	case next == connectivity.TransientFailure && prev != next:
		return f.pending() == 0 && f.picker.waiters.Load()
	}
	return false
}

// pending counts the children that may soon be ready. One that failed is not among them until it is ready again.
func (f *fanout) pending() int {
	return f.counts[connectivity.Connecting] + f.counts[connectivity.Idle]
}

func (f *fanout) aggregate() connectivity.State {
	switch {
	case f.counts[connectivity.Ready] > 0:
		return connectivity.Ready
	case f.pending() > 0:
		return connectivity.Connecting
	}
	return connectivity.TransientFailure
}

func (f *fanout) publish() {
	f.published = f.aggregate()
	f.picker.waiters.Store(false)
	f.cc.UpdateState(balancer.State{ConnectivityState: f.published, Picker: f.picker})
}

// remove takes a child out of the counts.
func (f *fanout) remove(c *child) {
	f.mu.Lock()
	defer f.mu.Unlock()
	c.removed = true
	f.counts[c.state.Load().state]--
}

// wake gets a child out of idleness. It cannot be done by who reports the idleness, as that holds the child's lock.
func (f *fanout) wake(c *child) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.wakers.Go(c.exitIdle)
	}
}

// ResolverError implements balancer.Balancer. Our resolver reports none; another one's target is not ours.
func (f *fanout) ResolverError(err error) {
	if f.picker.table.Load() == nil {
		f.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: base.NewErrPicker(fmt.Errorf("weft: %w", err))})
	}
}

// UpdateSubConnState implements balancer.Balancer. The children listen to their connections themselves.
func (f *fanout) UpdateSubConnState(balancer.SubConn, balancer.SubConnState) {}

// ExitIdle implements balancer.Balancer.
func (f *fanout) ExitIdle() {
	for _, c := range f.children {
		c.exitIdle()
	}
}

// Close implements balancer.Balancer.
func (f *fanout) Close() {
	f.mu.Lock()
	f.inhibited, f.closed = true, true
	f.mu.Unlock()
	for _, c := range f.children {
		c.close()
	}
	f.wakers.Wait()
}
