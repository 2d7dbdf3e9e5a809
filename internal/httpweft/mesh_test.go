package httpweft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/resilience/outlier"
	"github.com/weftmesh/weft/resilience/retry"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// network is a network in memory, which works in a synctest bubble.
type network struct {
	mu        sync.Mutex
	listeners map[string]*listener
	dials     map[string]int
	delay     time.Duration // of every dial
}

var errRefused = errors.New("connection refused")

func newNetwork() *network {
	return &network{listeners: map[string]*listener{}, dials: map[string]int{}}
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[address]++
	l, delay := n.listeners[address], n.delay
	n.mu.Unlock()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if l == nil {
		return nil, fmt.Errorf("dial %s: %w", address, errRefused)
	}
	return l.dial()
}

func (n *network) dialled(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[address]
}

func (n *network) listen(address string) *listener {
	l := &listener{network: n, address: address, accept: make(chan net.Conn), done: make(chan struct{}), conns: map[*serverConn]struct{}{}}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[address] = l
	return l
}

type listener struct {
	network *network
	address string
	accept  chan net.Conn
	done    chan struct{}
	once    sync.Once

	mu    sync.Mutex
	conns map[*serverConn]struct{}
}

func (l *listener) dial() (net.Conn, error) {
	client, server := net.Pipe()
	own := &serverConn{Conn: server, l: l}
	l.mu.Lock()
	l.conns[own] = struct{}{}
	l.mu.Unlock()
	select {
	case l.accept <- own:
		return client, nil
	case <-l.done:
		return nil, errRefused
	}
}

// open counts the connections that the server has not closed; it closes one when the client does.
func (l *listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *listener) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.network.mu.Lock()
		delete(l.network.listeners, l.address)
		l.network.mu.Unlock()
	})
	return nil
}

func (l *listener) Addr() net.Addr { return memAddr(l.address) }

type memAddr string

func (memAddr) Network() string  { return "mem" }
func (a memAddr) String() string { return string(a) }

type serverConn struct {
	net.Conn
	l *listener
}

func (c *serverConn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

// mesh is a caller, the service "product" and its instances, in memory.
type mesh struct {
	t        testing.TB
	network  *network
	engine   *engine.Engine
	service  *engine.Service
	pool     *balancer.Pool
	detector *outlier.Detector
	plan     engine.Plan
	specs    []balancer.Spec
	rules    routing.Config
	client   *Client
	http     *http.Client
	seen     recording
}

func newMesh(t testing.TB) *mesh {
	m := &mesh{t: t, network: newNetwork(), detector: outlier.New(outlier.Config{}), engine: engine.New(engine.Config{Seed: func() uint64 { return 1 }})}
	m.service = m.engine.NewService("product.default")
	m.pool = balancer.NewPool(func(balancer.Spec) any { return m.detector.Host() })
	m.plan = engine.Plan{Service: m.service.Name, Caller: &routing.Caller{Service: "web", Namespace: "default"},
		Budget: budget.New(budget.Config{PerSecond: 1000}), Retry: engine.RetryPlan{Policy: retry.Policy{Attempts: 3}}}
	m.rules = routing.Config{Key: "default/product", Policy: inOrder{}}
	m.client = NewClient(m, nil)
	m.client.dial = m.network.dial
	m.http = &http.Client{Transport: m.client.Transport(outside{})}
	t.Cleanup(m.client.Close)
	return m
}

// inOrder is a balancer that picks the first endpoint that is usable, by id.
type inOrder struct{}

func (inOrder) Name() string                                    { return "in_order" }
func (inOrder) Picker(eps []*balancer.Endpoint) balancer.Picker { return inOrderPicker(eps) }

type inOrderPicker []*balancer.Endpoint

func (eps inOrderPicker) Pick(p *balancer.Pick) *balancer.Endpoint {
	for _, ep := range eps {
		if p.Filter.Usable(ep) {
			return ep
		}
	}
	return nil
}

// ServiceForHost implements Directory.
func (m *mesh) ServiceForHost(host string) (*engine.Service, bool, error) {
	switch name, _ := IsOurs(host); name {
	case "product", "product.default":
		return m.service, true, nil
	case "broken":
		return nil, true, errors.New("the directory is broken")
	}
	return nil, false, nil
}

// outside answers what is not ours, so that a test sees what passed through.
type outside struct{}

func (outside) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 299, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("outside " + r.URL.Host))}, nil
}

// serve starts an instance; publish makes it known.
func (m *mesh) serve(id string, h http.HandlerFunc, configure ...func(*http.Server)) *listener {
	m.t.Helper()
	l := m.network.listen(id + ":80")
	m.start(l, h, configure...)
	m.specs = append(m.specs, balancer.Spec{ID: id, Address: l.address})
	return l
}

func (m *mesh) start(l net.Listener, h http.HandlerFunc, configure ...func(*http.Server)) {
	srv := &http.Server{Handler: h}
	for _, f := range configure {
		f(srv)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = srv.Serve(l)
	}()
	m.t.Cleanup(func() {
		m.client.Close()
		srv.Close()
		<-stopped
	})
}

// down makes an instance known that nobody runs.
func (m *mesh) down(id string) {
	m.specs = append(m.specs, balancer.Spec{ID: id, Address: id + ":80"})
}

func (m *mesh) publish() {
	m.t.Helper()
	up := m.pool.Update(m.specs)
	router, err := routing.New(m.rules, up, nil)
	if err != nil {
		m.t.Fatal(err)
	}
	p := m.plan
	p.Protocols[engine.HTTP] = engine.ProtocolPlan{Router: router, Endpoints: up, Recorder: &m.seen}
	m.service.Publish(&p)
}

func (m *mesh) request(method, url string, body io.Reader) *http.Request {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), method, url, body)
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// do sends a request and reads the answer.
func (m *mesh) do(r *http.Request) (int, string, error) {
	m.t.Helper()
	resp, err := m.http.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func (m *mesh) get(url string) (int, string, error) {
	m.t.Helper()
	return m.do(m.request("GET", url, nil))
}

// mustGet fails the test unless the answer is 200.
func (m *mesh) mustGet(url string) string {
	m.t.Helper()
	code, body, err := m.get(url)
	if err != nil || code != http.StatusOK {
		m.t.Fatalf("GET %s = %d %q, %v; want 200", url, code, body, err)
	}
	return body
}

// idle fails the test unless all attempts have settled and all peers were released.
func (m *mesh) idle() {
	m.t.Helper()
	for _, ep := range m.pool.Endpoints() {
		if n := ep.Stats.Pending(); n != 0 {
			m.t.Errorf("endpoint %s has %d attempts pending after all is over", ep.ID, n)
		}
	}
	m.client.mu.Lock()
	defer m.client.mu.Unlock()
	for _, p := range m.client.peers {
		if n := p.inFlight.Load(); n != 0 {
			m.t.Errorf("peer %s has %d attempts in flight after all is over", p.address, n)
		}
	}
}

// recording keeps what the engine reports.
type recording struct {
	mu       sync.Mutex
	attempts []telemetry.AttemptEvent
	calls    []telemetry.CallEvent
}

func (r *recording) Attempt(e *telemetry.AttemptEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts = append(r.attempts, *e)
}

func (r *recording) Call(e *telemetry.CallEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, *e)
}

// classes tells the verdict on each attempt, in order of settling.
func (r *recording) classes() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []string
	for _, a := range r.attempts {
		list = append(list, fmt.Sprintf("%d %s", a.Code, a.Class))
	}
	return strings.Join(list, ", ")
}

func (r *recording) finished() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.calls)
}

// bubble runs a test on fake time; it fails if a goroutine is left.
func bubble(t *testing.T, f func(t *testing.T, m *mesh)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { f(t, newMesh(t)) })
}

func ok(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "ok") }

func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, name) }
}

func answer(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(code)
		_, _ = io.WriteString(w, http.StatusText(code))
	}
}

var quiet = log.New(io.Discard, "", 0)

// noRecorder is told of everything and keeps nothing.
type noRecorder struct{}

func (noRecorder) Attempt(*telemetry.AttemptEvent) {}
func (noRecorder) Call(*telemetry.CallEvent)       {}
