package pick

import (
	"context"
	"encoding/json"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/balancer/roundrobin"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"

	"github.com/weftmesh/weft/bench/measure"
)

// The names of grpc-go's balancers.
const (
	LeastRequest = leastrequest.Name
	RoundRobin   = roundrobin.Name
)

// GRPC picks with one of grpc-go's own balancers, brought up over connections that are ready at once.
func GRPC(name string, endpoints int) (measure.Case, error) {
	picker, err := bringUp(name, endpoints)
	if err != nil {
		return measure.Case{}, err
	}
	info := balancer.PickInfo{FullMethodName: "/bench.Service/Get", Ctx: context.Background()}
	return measure.Case{Name: fmt.Sprintf("grpc-%s-%d", name, endpoints), Work: measure.Always(func() error {
		result, err := picker.Pick(info)
		if err != nil {
			return err
		}
		if result.Done != nil {
			result.Done(balancer.DoneInfo{BytesSent: true, BytesReceived: true})
		}
		return nil
	})}, nil
}

// bringUp runs a balancer until its picker knows all endpoints.
func bringUp(name string, endpoints int) (balancer.Picker, error) {
	builder := balancer.Get(name)
	cc := new(clientConn)
	b := builder.Build(cc, balancer.BuildOptions{})
	ccs := balancer.ClientConnState{}
	for i := range endpoints {
		address := resolver.Address{Addr: fmt.Sprintf("10.0.%d.%d:80", i/250, i%250)}
		ccs.ResolverState.Endpoints = append(ccs.ResolverState.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{address}})
	}
	if p, ok := builder.(balancer.ConfigParser); ok {
		config, err := p.ParseConfig(json.RawMessage("{}"))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		ccs.BalancerConfig = config
	}
	if err := b.UpdateClientConnState(ccs); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	cc.connect()
	if cc.ready != endpoints || cc.state.ConnectivityState != connectivity.Ready {
		return nil, fmt.Errorf("%s: %d of %d connections are ready and the balancer is %s", name, cc.ready, endpoints, cc.state.ConnectivityState)
	}
	return cc.state.Picker, nil
}

// clientConn stands in for a grpc.ClientConn: it keeps the newest picker and connects when told.
type clientConn struct {
	balancer.ClientConn // nil: what is not below is not asked for
	dialled             []*subConn
	ready               int
	state               balancer.State
}

func (c *clientConn) NewSubConn(_ []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	return &subConn{owner: c, listen: o.StateListener}, nil
}

func (c *clientConn) UpdateState(s balancer.State) { c.state = s }

func (c *clientConn) MetricsRecorder() stats.MetricsRecorder {
	return &stats.UnimplementedMetricsRecorder{}
}

// connect makes every connection that was asked for ready. Balancers must not be told from within their own calls.
func (c *clientConn) connect() {
	for len(c.dialled) > 0 {
		s := c.dialled[0]
		c.dialled = c.dialled[1:]
		s.listen(balancer.SubConnState{ConnectivityState: connectivity.Connecting})
		s.listen(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		c.ready++
		if s.healthy != nil {
			s.healthy(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		}
	}
}

type subConn struct {
	balancer.SubConn // nil, as above
	owner            *clientConn
	listen, healthy  func(balancer.SubConnState)
}

func (s *subConn) Connect() { s.owner.dialled = append(s.owner.dialled, s) }

func (s *subConn) Shutdown() {}

func (s *subConn) RegisterHealthListener(listen func(balancer.SubConnState)) { s.healthy = listen }
