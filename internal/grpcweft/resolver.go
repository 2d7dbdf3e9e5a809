package grpcweft

import (
	"sync/atomic"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
)

// resolverBuilder makes a resolver for each ClientConn, and another one when it comes out of idleness.
type resolverBuilder struct{ client *Client }

// Scheme implements resolver.Builder.
func (resolverBuilder) Scheme() string { return scheme }

// Build implements resolver.Builder.
func (b resolverBuilder) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	service, err := b.client.directory.Service(target.Endpoint())
	if err != nil {
		return nil, err
	}
	f := &follower{cc: cc, service: service.Name, config: cc.ParseServiceConfig(serviceConfig),
		news: make(chan struct{}, 1), done: make(chan struct{})}
	f.stop = service.Listen(f.note)
	go f.run()
	return f, nil
}

// follower hands the newest plan of a service to one ClientConn. Bringing up many endpoints takes grpc a while, and
// whoever publishes plans must not wait for it: hence a goroutine, which skips plans that are outdated already.
type follower struct {
	cc      resolver.ClientConn
	service string
	config  *serviceconfig.ParseResult
	latest  atomic.Pointer[engine.Plan]
	news    chan struct{} // holds one entry while latest is new
	stop    func()
	done    chan struct{}
}

func (f *follower) note(p *engine.Plan) {
	f.latest.Store(p)
	select {
	case f.news <- struct{}{}:
	default:
	}
}

func (f *follower) run() {
	defer close(f.done)
	for range f.news {
		f.push(f.latest.Load().Protocols[engine.GRPC].Endpoints)
	}
}

// endpointsKey holds the endpoints for our balancer in the resolver's state.
type endpointsKey struct{}

type endpoints struct {
	service string
	list    []*balancer.Endpoint
}

// push hands the endpoints over as an attribute, which only our balancer reads. A balancer that the application put
// in its place finds a single address, and dialling it fails with an explanation: see [plaintext].
func (f *follower) push(list []*balancer.Endpoint) {
	state := resolver.State{ServiceConfig: f.config, Attributes: attributes.New(endpointsKey{}, &endpoints{f.service, list})}
	if len(list) > 0 {
		state.Endpoints = []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: list[0].Address}}}}
	}
	_ = f.cc.UpdateState(state) // its error asks to resolve again, which a push does not need
}

// ResolveNow implements resolver.Resolver. There is nothing to ask: plans are pushed.
func (*follower) ResolveNow(resolver.ResolveNowOptions) {}

// Close implements resolver.Resolver.
func (f *follower) Close() {
	f.stop()
	close(f.news) // nobody notes anything after stop
	<-f.done
}
