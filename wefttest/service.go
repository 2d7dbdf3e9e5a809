package wefttest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft"
)

// Service is a fake instance of a service: a real server in the test, joined to the mesh as the real one would be, which
// records what it is asked and fails or dawdles on demand. Its methods are safe for concurrent use, except those that
// close it.
type Service struct {
	registry *Registry
	mesh     *weft.Mesh
	instance weft.Instance
	reg      *weft.Registration
	stop     func() // the server, and its connections
	close    sync.Once

	mu    sync.Mutex
	calls []Call // the newest, at most 2*maxCalls
	count int    // of all since Reset
	fail  int    // how many calls are still to fail; below 0: all
	delay time.Duration
}

// maxCalls bounds the calls that a fake remembers.
const maxCalls = 10_000

// Call is what a fake was asked.
type Call struct {
	Method string      // GET; over gRPC the full method, /package.Service/Method
	Path   string      // over HTTP, without the query
	Header http.Header // over gRPC the metadata, with the same canonical names
	Failed bool        // it was answered with an error because of [Service.Fail]
}

// Service starts a fake instance of a service ("product" or "product.shop") that is called over HTTP, and ends it with the
// test. The handler is what it does; nil answers 200 and nothing. Labels are given as "version=v2". Each call of Service
// adds an instance: the ids are product-1, product-2 and so on. All meshes know it when Service returns.
func (r *Registry) Service(name string, handler http.Handler, labels ...string) *Service {
	r.t.Helper()
	if handler == nil {
		handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	}
	s, lis := r.fake(name, weft.HTTP, labels)
	server := &http.Server{Handler: keepConnection(s.mesh.Handler(s.recording(handler))), ReadHeaderTimeout: patience}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(s.mesh.Listener(lis)) // ends when the fake does
	}()
	s.stop = func() { server.Close(); <-served }
	s.join()
	return s
}

// GRPCService is [Registry.Service] for a fake that is called over gRPC. register puts the implementation into the server:
//
//	reg.GRPCService("product", func(g *grpc.Server) { shop.RegisterProductServer(g, fakeProduct{}) })
func (r *Registry) GRPCService(name string, register func(*grpc.Server), labels ...string) *Service {
	r.t.Helper()
	s, lis := r.fake(name, weft.GRPC, labels)
	server := grpc.NewServer(append(s.mesh.ServerOptions(), grpc.ChainUnaryInterceptor(s.unary), grpc.ChainStreamInterceptor(s.stream))...)
	register(server)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(lis)
	}()
	s.stop = func() { server.Stop(); <-served }
	s.join()
	return s
}

// fake makes a fake that listens but does not serve yet.
func (r *Registry) fake(service string, protocol weft.Protocol, labels []string) (*Service, net.Listener) {
	r.t.Helper()
	name, in := r.name(service), weft.Instance{Protocol: protocol, Labels: r.labels(labels)}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.t.Fatalf("wefttest: %v", err)
	}
	r.mu.Lock()
	r.serial[name.String()]++
	id := fmt.Sprintf("%s-%d", name.Service, r.serial[name.String()])
	r.mu.Unlock()
	in.ID, in.Address = id, lis.Addr().String()
	return &Service{registry: r, mesh: r.Mesh(weft.WithService(name.String())), instance: in}, lis
}

func (r *Registry) labels(pairs []string) map[string]string {
	r.t.Helper()
	labels := make(map[string]string, len(pairs))
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			r.t.Fatalf("wefttest: label %q: want key=value", pair)
		}
		labels[key] = value
	}
	return labels
}

// join registers the fake once it serves.
func (s *Service) join() {
	t := s.registry.t
	t.Helper()
	t.Cleanup(s.end)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	reg, err := s.mesh.Register(ctx, s.instance)
	if err != nil {
		t.Fatalf("wefttest: %s: %v", s.instance.ID, err)
	}
	select {
	case <-reg.Acked():
	case <-ctx.Done():
		t.Fatalf("wefttest: %s: not registered after %s", s.instance.ID, patience)
	}
	s.reg, s.instance = reg, reg.Instance()
	s.registry.settle(s.registry.name(s.Name()))
}

// Name is the full name of its service, such as "product.default".
func (s *Service) Name() string { return s.instance.Service + "." + s.instance.Namespace }

// ID is the instance's id.
func (s *Service) ID() string { return s.instance.ID }

// Address is where it listens, host:port, for calls past the mesh.
func (s *Service) Address() string { return s.instance.Address }

// Close takes the instance out as a program that is stopped well does: callers are told, calls under way are answered, then
// it is deregistered and its server stops. All meshes know when Close returns. It is done at the end of the test anyway.
func (s *Service) Close() {
	s.registry.t.Helper()
	s.end()
	s.registry.settle(s.registry.name(s.Name()))
}

func (s *Service) end() {
	s.close.Do(func() {
		if s.reg != nil {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if err := s.reg.Close(ctx); err != nil && !errors.Is(err, context.Canceled) {
				s.registry.t.Errorf("wefttest: closing %s: %v", s.ID(), err)
			}
		}
		s.stop()
	})
}

// Kill ends the server as a crash of its process looks to callers: connections break, nobody is told, and new ones are
// refused. The registry still lists the instance, as it does for the first moments after a real crash. What callers do
// then is up to their retries and their outlier ejection, which is what Kill is there to test. Close takes it out.
func (s *Service) Kill() {
	s.stop()
}

// Calls lists what the instance was asked, the oldest first: of more than 10,000 calls, the newest 10,000. A call is in
// the list before it is answered.
func (s *Service) Calls() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls[max(0, len(s.calls)-maxCalls):])
}

// Count is how often the instance was called.
func (s *Service) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Reset forgets the calls.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls, s.count = nil, 0
}

// Fail makes the next n calls fail without asking the handler: with 503 over HTTP, with Unavailable over gRPC. Below 0 all
// fail until the next Fail; 0 ends it.
func (s *Service) Fail(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = n
}

// Delay makes every call wait before it is answered or fails. A call whose caller gives up waits no longer. 0 ends it, for
// calls that come later.
func (s *Service) Delay(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delay = d
}

// record notes a call and says what is to be done with it.
func (s *Service) record(c Call) (delay time.Duration, fail bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.Failed = s.fail != 0
	if s.fail > 0 {
		s.fail--
	}
	if len(s.calls) == 2*maxCalls { // not each time: that would move all of them for every call
		s.calls = slices.Delete(s.calls, 0, maxCalls)
	}
	s.calls = append(s.calls, c)
	s.count++
	return s.delay, c.Failed
}

// dawdle waits; its error is the caller's having given up.
func dawdle(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
