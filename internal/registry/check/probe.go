package check

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// userAgent tells those who are asked who asks.
const userAgent = "weft-registry"

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// prober asks one instance once. It keeps no connection.
type prober struct {
	guard guard
	tls   *tls.Config

	// Seams of tests.
	names     func(ctx context.Context, network, address string) (net.Conn, error) // connects to a name server
	redirects bool                                                                 // follow them
}

func newProber(opt Options) *prober {
	return &prober{
		names: new(net.Dialer).DialContext,
		guard: guard{allow: masked(opt.Allow), own: opt.Own, hosts: net.InterfaceAddrs},
		// A check asks whether somebody answers. Who it is, callers verify, with a name that is not known here.
		tls: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, //nolint:gosec // as said
	}
}

// probe is nil if the instance is well. ctx has the timeout, which includes the resolution of the name.
func (p *prober) probe(ctx context.Context, c catalog.Checked) error {
	err := p.ask(ctx, c)
	if ctx.Err() != nil && err != nil {
		return fmt.Errorf("no answer within %s: %w", c.Check.Timeout, err)
	}
	return err
}

func (p *prober) ask(ctx context.Context, c catalog.Checked) error {
	switch c.Check.Type {
	case "tcp":
		return p.tcp(ctx, c.Instance.Address)
	case "http":
		return p.http(ctx, c.Instance, c.Check.Path)
	case "grpc":
		return p.grpc(ctx, c.Instance, c.Check.Service)
	}
	return fmt.Errorf("check type %q: want tcp, http or grpc", c.Check.Type)
}

// dial makes the one kind of connection that there is in here.
func (p *prober) dial(ctx context.Context, address string) (net.Conn, error) {
	d := net.Dialer{Control: p.guard.control, Resolver: &net.Resolver{PreferGo: true, Dial: p.nameServer}, KeepAlive: -1}
	return d.DialContext(ctx, "tcp", address)
}

// nameServer makes a connection that ends with the check. Else a lookup which nobody waits for any more would go on for
// as long as the name server says nothing.
func (p *prober) nameServer(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := p.names(ctx, network, address)
	if err == nil {
		context.AfterFunc(ctx, func() { conn.Close() })
	}
	return conn, err
}

func (p *prober) tcp(ctx context.Context, address string) error {
	conn, err := p.dial(ctx, address)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (p *prober) http(ctx context.Context, in discovery.Instance, path string) error {
	u, err := address(in, path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", userAgent)
	transport := p.transport(in)
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, CheckRedirect: p.redirect}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.CopyN(io.Discard, resp.Body, maxAnswer)
	switch {
	case resp.StatusCode < 200 || resp.StatusCode > 399:
		return fmt.Errorf("GET %s: status %d, want 200 to 399", path, resp.StatusCode)
	case err != nil && !errors.Is(err, io.EOF):
		return fmt.Errorf("GET %s: status %d, then %w", path, resp.StatusCode, err)
	}
	return nil
}

// address gives the URL to GET. The path is never taken for a URL of its own.
func address(in discovery.Instance, path string) (*url.URL, error) {
	if path == "" {
		path = "/"
	}
	u, err := url.ParseRequestURI(path)
	if err != nil || !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("check path %q: want a path from /", path)
	}
	u.Scheme, u.Host = "http", in.Address
	if in.TLS {
		u.Scheme = "https"
	}
	return u, nil
}

// transport speaks what the instance speaks, and nothing else: without a proxy and without cookies.
func (p *prober) transport(in discovery.Instance) *http.Transport {
	var protocols http.Protocols
	protocols.SetHTTP1(!in.HTTP2)
	protocols.SetHTTP2(in.HTTP2)
	protocols.SetUnencryptedHTTP2(in.HTTP2)
	return &http.Transport{
		DialContext:            func(ctx context.Context, _, address string) (net.Conn, error) { return p.dial(ctx, address) },
		TLSClientConfig:        p.tls.Clone(),
		Protocols:              &protocols,
		DisableKeepAlives:      true,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxAnswer,
		ReadBufferSize:         512, // net/http logs so much of what a server says unasked
	}
}

func (p *prober) redirect(*http.Request, []*http.Request) error {
	if p.redirects {
		return nil
	}
	return http.ErrUseLastResponse
}

func (p *prober) grpc(ctx context.Context, in discovery.Instance, service string) error {
	creds := insecure.NewCredentials()
	if in.TLS {
		creds = credentials.NewTLS(p.tls)
	}
	raw, err := p.dial(ctx, in.Address) // here, as gRPC tells only the text of what a dial failed with
	if err != nil {
		return err
	}
	defer raw.Close()
	once := &single{conn: raw}
	conn, err := grpc.NewClient("passthrough:///"+in.Address,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(once.take),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithUserAgent(userAgent),
		grpc.WithMaxHeaderListSize(maxAnswer),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxAnswer)),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	if resp.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("health of %q: %s, want SERVING", service, resp.GetStatus())
	}
	return nil
}

// single gives one connection away, once.
type single struct {
	mu   sync.Mutex
	conn net.Conn
}

func (s *single) take(context.Context, string) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil, errors.New("the connection of the check was closed")
	}
	conn := s.conn
	s.conn = nil
	return conn, nil
}
