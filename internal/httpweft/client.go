package httpweft

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
)

// Directory finds the service that a host names.
type Directory interface {
	// ServiceForHost is asked about hosts for which [IsOurs] is true. With ours false the host is not one of the
	// mesh and its request passes through untouched. It must not block.
	ServiceForHost(host string) (s *engine.Service, ours bool, err error)
}

// What the transports of the mesh allow themselves; the rest is as in http.DefaultTransport.
const (
	idlePerHost = 100
	idleTimeout = 90 * time.Second
	dialTimeout = 5 * time.Second // long enough for two lost SYNs
	keepAlive   = 30 * time.Second
	pingAfter   = 15 * time.Second // an HTTP/2 connection that is silent for so long is asked whether it lives
	pingTimeout = 5 * time.Second
)

// Client is the caller's side: connections to the endpoints of services, shared by all the transports it gives
// out. It is safe for concurrent use.
type Client struct {
	directory    Directory
	log          *slog.Logger
	dial         func(ctx context.Context, network, address string) (net.Conn, error)
	http1, http2 *http.Transport
	origin       time.Time // monotonic zero of the backoffs

	targets sync.Map // *engine.Service → *target
	closed  atomic.Bool
	mu      sync.Mutex       // guards what follows and whether a peer is planned; taken after a Service's lock and before a peer's
	peers   map[string]*peer // by id
	made    int              // peers so far
}

// NewClient returns a client without connections. A nil log discards.
func NewClient(dir Directory, log *slog.Logger) *Client {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive}
	c := &Client{directory: dir, log: log, dial: dialer.DialContext, origin: time.Now(), peers: map[string]*peer{}}
	c.http1, c.http2 = c.transport(), c.transport()
	c.http1.Protocols.SetHTTP1(true)
	c.http2.Protocols.SetUnencryptedHTTP2(true)
	c.http2.HTTP2 = &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout}
	return c
}

// transport returns one with no proxy: what leads from service to service is the mesh.
func (c *Client) transport() *http.Transport {
	return &http.Transport{
		DialContext:           c.dialKey,
		MaxIdleConnsPerHost:   idlePerHost,
		IdleConnTimeout:       idleTimeout,
		ExpectContinueTimeout: time.Second,
		Protocols:             new(http.Protocols),
	}
}

// Transport returns a RoundTripper for an http.Client. base carries hosts that are not ours; nil means
// http.DefaultTransport.
func (c *Client) Transport(base http.RoundTripper) http.RoundTripper {
	if base == nil {
		base = http.DefaultTransport
	}
	return &roundTripper{client: c, base: base}
}

// Close refuses new calls to services and closes the connections to them: idle ones now, those in use when their
// response has ended. It may be called more than once.
func (c *Client) Close() {
	if c.closed.Swap(true) {
		return
	}
	c.targets.Range(func(_, t any) bool {
		t.(*target).stop()
		return true
	})
	c.retireAll()
	c.http1.CloseIdleConnections()
	c.http2.CloseIdleConnections()
}

type roundTripper struct {
	client *Client
	base   http.RoundTripper
}

// RoundTrip sends a request to a service of the mesh, or hands it to the base transport.
func (t *roundTripper) RoundTrip(r *http.Request) (*http.Response, error) {
	service, err := t.service(r)
	if err != nil {
		closeBody(r)
		return nil, err
	}
	if service == nil {
		return t.base.RoundTrip(r)
	}
	return t.client.roundTrip(service, r)
}

// CloseIdleConnections lets http.Client.CloseIdleConnections work as with any transport.
func (t *roundTripper) CloseIdleConnections() {
	if b, ok := t.base.(interface{ CloseIdleConnections() }); ok {
		b.CloseIdleConnections()
	}
	t.client.http1.CloseIdleConnections()
	t.client.http2.CloseIdleConnections()
}

// service returns the callee of a request, nil if it passes through; so does one that net/http will refuse.
func (t *roundTripper) service(r *http.Request) (*engine.Service, error) {
	if r.URL == nil || r.Header == nil || r.URL.Scheme != "http" && r.URL.Scheme != "https" {
		return nil, nil
	}
	if _, ours := IsOurs(r.URL.Host); !ours {
		return nil, nil
	}
	s, ours, err := t.client.directory.ServiceForHost(r.URL.Host)
	switch {
	case err != nil:
		reason := engine.Misused
		if ref, ok := errors.AsType[*engine.Refusal](err); ok {
			reason, err = ref.Reason, ref.Err
		}
		return nil, refuse(r.URL.Host, r, reason, err)
	case !ours:
		return nil, nil
	case r.URL.Scheme == "https":
		return nil, refuse(s.Name, r, engine.Misused, fmt.Errorf("write http://%s: the TLS rule, not the URL, decides whether a call in the mesh is encrypted", r.URL.Host))
	case t.client.closed.Load():
		return nil, refuse(s.Name, r, engine.Closed, errClosed)
	}
	return s, nil
}

var errClosed = errors.New("the mesh was closed")

// refuse makes the error for a request that does not come as far as the engine.
func refuse(service string, r *http.Request, reason engine.Reason, err error) *callerr.Error {
	return &callerr.Error{Service: service, Method: label(r), Reason: callerr.Reason(reason), Err: err, Local: true}
}

func closeBody(r *http.Request) {
	if r.Body != nil {
		r.Body.Close()
	}
}
