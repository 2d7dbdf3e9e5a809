package grpcweft

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"

	"github.com/weftmesh/weft/internal/engine"
)

// Directory finds services by the name a caller dialled.
type Directory interface {
	// Service returns the service for a target, "product" or "product.shop". It is asked before each call, so
	// it must be quick. The same target must give the same service for as long as a connection to it is used. An
	// error that is, or wraps, an *[engine.Refusal] keeps its reason; any other one is a misuse.
	Service(target string) (*engine.Service, error)
}

// ClientOptions are the options of [NewClient]. The zero value is complete.
type ClientOptions struct {
	Log *slog.Logger // nil: nothing is logged
}

// Client is the outbound side.
type Client struct {
	directory Directory
	log       *slog.Logger
	methods   methods
	unasked   sync.Once // the warning of [Client.notice]
}

// NewClient returns the outbound side of a process.
func NewClient(dir Directory, opts ClientOptions) *Client {
	return &Client{directory: dir, log: logOrNone(opts.Log)}
}

func logOrNone(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}

// scheme is that of the targets, "weft:///stock"; the balancer has the same name.
const scheme = "weft"

const serviceConfig = `{"loadBalancingConfig":[{"` + scheme + `":{}}]}`

// DialOptions returns what makes a grpc.ClientConn go through Weft. They are for targets "weft:///service"; calls
// to any other target fail. They hold the transport credentials, which must not be replaced.
//
// The balancer is named twice: the resolver's service config wins over the default one, except with
// grpc.WithDisableServiceConfig.
func (c *Client) DialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithResolvers(resolverBuilder{c}),
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithTransportCredentials(newPlaintext()),
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
		grpc.WithDisableRetry(), // the engine retries
		grpc.WithNoProxy(),      // a proxy from the environment would hide the endpoints
		grpc.WithConnectParams(connectParams()),
	}
}

// connectParams dial again sooner than grpc's own defaults (1 s to 120 s): an endpoint that died leaves the list by
// discovery, one that is in it will mostly be back soon.
func connectParams() grpc.ConnectParams {
	return grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
		MinConnectTimeout: 5 * time.Second,
	}
}

// service finds the callee of a connection.
func (c *Client) service(cc *grpc.ClientConn) (*engine.Service, error) {
	if name, ok := strings.CutPrefix(cc.Target(), scheme+":///"); ok && name != "" {
		return c.directory.Service(name)
	}
	name, err := serviceName(cc.CanonicalTarget())
	if err != nil {
		return nil, err
	}
	return c.directory.Service(name)
}

// serviceName takes the name out of a target in the form "scheme://authority/name".
func serviceName(canonical string) (string, error) {
	rest, ours := strings.CutPrefix(canonical, scheme+"://")
	authority, name, _ := strings.Cut(rest, "/")
	switch {
	case !ours:
		return "", fmt.Errorf("target %q: these dial options are for targets %s:///<service> only", canonical, scheme)
	case authority != "" || name == "":
		return "", fmt.Errorf("target %q: write %s:///<service>, with three slashes", canonical, scheme)
	}
	return name, nil
}

func (c *Client) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	service, err := c.service(cc)
	if err != nil {
		return misdialled(cc, method, err)
	}
	u := &unary{req: req, reply: reply, invoker: invoker}
	u.rpc.init(ctx, c, cc, method, opts)
	if r := service.Do(ctx, &u.call, u); r != nil {
		return u.refused(r, u.err)
	}
	c.notice(u.err == nil && !u.last.asked, service, method)
	return u.err
}

func (c *Client) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	service, err := c.service(cc)
	if err != nil {
		return nil, misdialled(cc, method, err)
	}
	s := &stream{desc: desc, streamer: streamer}
	s.rpc.init(ctx, c, cc, method, opts)
	s.call.Stream = true
	if r := service.Do(ctx, &s.call, s); r != nil {
		return nil, s.refused(r, s.err)
	}
	c.notice(s.err == nil && !s.open, service, method)
	return s.handOver(), s.err
}

// notice warns once if a call succeeded without the balancer having been asked: an interceptor answered it, or the
// balancer is not ours.
func (c *Client) notice(unasked bool, service *engine.Service, method string) {
	if !unasked {
		return
	}
	c.unasked.Do(func() {
		c.log.Warn("a call succeeded without Weft having chosen its endpoint: an interceptor of the application answered it, or another balancer is configured. This is logged once.",
			"service", service.Name, "method", method)
	})
}
