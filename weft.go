// Package weft is a service mesh in a library: registration, discovery, load balancing, routing, retries, outlier
// ejection, deadlines and telemetry for Go services over gRPC and HTTP, with no sidecar and no extra hop.
//
//	m, err := weft.New(weft.WithService("web"))
//	if err != nil {
//		return err // a bad option; never because a registry is away
//	}
//	defer m.Close(ctx)
//
//	conn, err := grpc.NewClient("weft:///stock", m.DialOptions()...)
//	client := &http.Client{Transport: m.Transport(nil)}
//	resp, err := client.Get("http://product/items")
//
// The callee's side:
//
//	srv := &http.Server{Handler: m.Handler(mux)}
//	go srv.Serve(m.Listener(lis))
//	reg, err := m.Register(ctx, weft.Instance{Address: lis.Addr().String(), Protocol: weft.HTTP})
//	…
//	reg.Close(ctx)
//	srv.Shutdown(ctx)
//
// Services are found through the registry server at WEFT_REGISTRY, else 127.0.0.1:7070; [WithRegistry], [WithSource] and
// [WithEndpoints] say otherwise. Rules are set at the registry server by REST; [WithRules] sets them in the program.
package weft

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/internal/grpcweft"
	"github.com/weftmesh/weft/internal/httpweft"
	"github.com/weftmesh/weft/internal/plan"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

// Mesh is a process's part in the mesh. It is safe for concurrent use.
type Mesh struct {
	cfg      config
	name     discovery.Name // of the process's own service; zero if it has none
	engine   *engine.Engine
	inbound  *engine.Inbound
	services *services
	grpc     *grpcweft.Client
	grpcIn   *grpcweft.Server
	http     *httpweft.Client
	httpIn   *httpweft.Server
	closers  []func() error

	mu            sync.Mutex
	registrations map[*Registration]bool
	closed        bool
}

// New joins the mesh. It returns an error only for bad options: it never waits, and does not fail because a registry is
// away. Calls made before a registry answered wait for it, or go by the on-disk cache.
func New(options ...Option) (*Mesh, error) {
	cfg, err := configure(options)
	if err != nil {
		return nil, fmt.Errorf("weft.New: %w", err)
	}
	m := &Mesh{cfg: cfg, name: cfg.name, registrations: map[*Registration]bool{}}
	if err := m.build(); err != nil {
		return nil, errors.Join(fmt.Errorf("weft.New: %w", err), m.closeAll())
	}
	return m, nil
}

func (m *Mesh) build() error {
	observer, err := m.cfg.observer()
	if err != nil {
		return err
	}
	if err := m.openSources(); err != nil {
		return err
	}
	m.engine = engine.New(engine.Config{Tracer: m.cfg.tracer(), Classifiers: m.cfg.classifiers})
	planCfg := plan.Config{Caller: m.caller(), Observer: observer, Log: m.cfg.log}
	m.services = newServices(m.engine, planCfg, m.cfg)
	m.inbound = m.engine.NewInbound(m.recorders(planCfg))
	own := ""
	if m.hasService() {
		own = m.name.String()
		if _, err := m.services.full(m.name); err != nil {
			return err
		}
	}
	m.grpc = grpcweft.NewClient(m.services, grpcweft.ClientOptions{Log: m.cfg.log})
	m.grpcIn = grpcweft.NewServer(m.inbound, own, m.cfg.log)
	m.http = httpweft.NewClient(m.services, m.cfg.log)
	m.httpIn = httpweft.NewServer(m.inbound, own, m.cfg.log)
	return nil
}

func (m *Mesh) hasService() bool { return m.name != discovery.Name{} }

func (m *Mesh) caller() *routing.Caller {
	if !m.hasService() {
		return &routing.Caller{Namespace: discovery.DefaultNamespace}
	}
	return &routing.Caller{Service: m.name.Service, Namespace: m.name.Namespace, Labels: m.cfg.labels}
}

func (m *Mesh) recorders(cfg plan.Config) (list [engine.NumProtocols]telemetry.Recorder) {
	own := ""
	if m.hasService() {
		own = m.name.String()
	}
	for p := range engine.NumProtocols {
		list[p] = plan.Recorder(cfg, telemetry.Inbound, p, own)
	}
	return list
}

// DialOptions are for grpc.NewClient with a target weft:///service or weft:///service.namespace. They include
// credentials; any other target is an error that says so.
func (m *Mesh) DialOptions() []grpc.DialOption { return m.grpc.DialOptions() }

// ServerOptions are for grpc.NewServer, with a plain listener.
func (m *Mesh) ServerOptions() []grpc.ServerOption { return m.grpcIn.ServerOptions() }

// Transport is for http.Client. Hosts that name a service (a single label without a port, or one that ends in .weft) go
// through the mesh; all others go through base, nil meaning http.DefaultTransport.
func (m *Mesh) Transport(base http.RoundTripper) http.RoundTripper { return m.http.Transport(base) }

// Handler wraps a server's handler: deadlines, retries below and telemetry follow what the caller sent.
func (m *Mesh) Handler(h http.Handler) http.Handler { return m.httpIn.Handler(h) }

// Listener wraps the listener of an HTTP server. Calls between services are in plaintext for now; wrapping it today is
// what turns on TLS when the mesh has it.
func (m *Mesh) Listener(l net.Listener) net.Listener { return m.httpIn.Listener(l) }

// Watch calls apply with the instances of a service now and after every change, until ctx ends, and returns ctx's error.
// The service is named as in a call: a short name is looked up in the process's namespace and then in "default".
func (m *Mesh) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
	return m.services.watchInstances(ctx, service, apply)
}

// Describe says in words what a call to a service goes through: rules, endpoints and the order of the phases. It waits
// for the first plan of the service like a call does.
func (m *Mesh) Describe(service string) (string, error) {
	s, err := m.services.Service(service)
	if err != nil {
		return "", err
	}
	p, err := s.Wait(context.Background())
	if err != nil {
		return "", fmt.Errorf("service %s: no source has answered yet", service)
	}
	var b strings.Builder
	p.Describe(&b)
	return b.String(), nil
}

// Close closes all registrations, each with what is in flight, and everything New began. It is idempotent, and waits
// until ctx ends at the longest, and then a second for a registry that was not told yet; connections and servers made with the mesh's options are closed by who made them.
func (m *Mesh) Close(ctx context.Context) error {
	m.mu.Lock()
	open := make([]*Registration, 0, len(m.registrations))
	for r := range m.registrations {
		open = append(open, r)
	}
	already := m.closed
	m.closed = true
	m.mu.Unlock()
	errs := closeTogether(ctx, open)
	if already {
		return errors.Join(errs...)
	}
	ended := make(chan error, 1)
	go func() { // ends when the sources do, which is now unless one of them ignores its context
		m.services.close()
		m.http.Close()
		ended <- m.closeAll()
	}()
	select {
	case err := <-ended:
		return errors.Join(append(errs, err)...)
	case <-ctx.Done():
		select { // a context that has ended before Close leaves what takes no time
		case err := <-ended:
			return errors.Join(append(errs, err)...)
		case <-time.After(closeGrace):
			return errors.Join(append(errs, ctx.Err())...)
		}
	}
}

// closeGrace is how long Close waits for sources after its context has ended.
const closeGrace = 100 * time.Millisecond

func closeTogether(ctx context.Context, open []*Registration) []error {
	errs := make([]error, len(open))
	var closing sync.WaitGroup
	for i, r := range open {
		closing.Go(func() { errs[i] = r.Close(ctx) })
	}
	closing.Wait()
	return errs
}

func (m *Mesh) closeAll() error {
	var errs []error
	for _, c := range m.closers {
		errs = append(errs, c())
	}
	return errors.Join(errs...)
}
