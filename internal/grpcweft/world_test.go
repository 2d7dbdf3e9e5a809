package grpcweft

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/resilience/outlier"
	"github.com/weftmesh/weft/resilience/retry"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a mesh with one service, "stock.default", in memory.
type world struct {
	t        testing.TB
	engine   *engine.Engine
	service  *engine.Service
	client   *Client
	recorder *recorder

	// What the next plan is made of.
	rules   routing.Config
	retry   engine.RetryPlan
	outlier outlier.Config
	pool    *balancer.Pool

	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	dials     map[string]int
}

func newWorld(t testing.TB, log *slog.Logger) *world {
	w := &world{t: t, engine: engine.New(engine.Config{}), recorder: &recorder{}, listeners: map[string]*bufconn.Listener{}, dials: map[string]int{},
		rules: routing.Config{Key: "default/stock", Policy: balancer.RoundRobin()}}
	w.service = w.engine.NewService("stock.default")
	w.client = NewClient(w, ClientOptions{Log: log})
	detector := outlier.New(w.outlier)
	w.pool = balancer.NewPool(func(balancer.Spec) any { return detector.Host() })
	return w
}

// Service implements Directory.
func (w *world) Service(target string) (*engine.Service, error) {
	switch target {
	case "stock", "stock.default":
		return w.service, nil
	case "closed":
		return nil, &engine.Refusal{Reason: engine.Closed, Err: errors.New("the mesh was closed")}
	}
	return nil, fmt.Errorf("no service %q", target)
}

// publish makes a plan whose endpoints are the servers with these names; their address is the name.
func (w *world) publish(names ...string) {
	specs := make([]balancer.Spec, len(names))
	for i, n := range names {
		specs[i] = balancer.Spec{ID: n, Address: n, Labels: map[string]string{"name": n}}
	}
	w.publishSpecs(specs)
}

func (w *world) publishSpecs(specs []balancer.Spec) {
	eps := w.pool.Update(specs)
	router, err := routing.New(w.rules, eps, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &engine.Plan{Service: w.service.Name, Revision: "1-1", Budget: budget.New(budget.Config{PerSecond: 1_000_000}), Retry: w.retry}
	for i := range p.Protocols {
		p.Protocols[i] = engine.ProtocolPlan{Router: router, Recorder: w.recorder}
	}
	p.Protocols[engine.GRPC].Endpoints = eps
	w.service.Publish(p)
}

// dial connects to the service; the connection is closed when the test ends.
func (w *world) dial(opts ...grpc.DialOption) *grpc.ClientConn {
	return w.dialTarget("weft:///stock", opts...)
}

func (w *world) dialTarget(target string, opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	all := append(w.client.DialOptions(), grpc.WithContextDialer(w.connect))
	cc, err := grpc.NewClient(target, append(all, opts...)...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cc.Close() })
	return cc
}

// bare connects to one server without Weft.
func (w *world) bare(name string, opts ...grpc.DialOption) *grpc.ClientConn {
	opts = append(opts, grpc.WithContextDialer(w.connect), grpc.WithTransportCredentials(insecure.NewCredentials()))
	cc, err := grpc.NewClient("passthrough:///"+name, opts...)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cc.Close() })
	return cc
}

func (w *world) connect(ctx context.Context, address string) (net.Conn, error) {
	w.mu.Lock()
	w.dials[address]++
	lis := w.listeners[address]
	w.mu.Unlock()
	if lis == nil {
		return nil, errors.New("connection refused by " + address)
	}
	return lis.DialContext(ctx)
}

func (w *world) dialled() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.dials)
}

// server is one instance.
type server struct {
	testpb.UnimplementedTestServiceServer
	name  string
	calls atomic.Int64
	*grpc.Server

	unary  func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	duplex func(testpb.TestService_FullDuplexCallServer) error
	output func(*testpb.StreamingOutputCallRequest, testpb.TestService_StreamingOutputCallServer) error
}

// serve starts a server; it is stopped when the test ends. Without a handler of its own it answers with its name.
func (w *world) serve(name string, change func(*server), opts ...grpc.ServerOption) *server {
	s := &server{name: name, Server: grpc.NewServer(opts...)}
	if change != nil {
		change(s)
	}
	testpb.RegisterTestServiceServer(s.Server, s)
	lis := bufconn.Listen(1 << 20)
	w.mu.Lock()
	w.listeners[name] = lis
	w.mu.Unlock()
	stopped := make(chan struct{})
	go func() { defer close(stopped); _ = s.Serve(lis) }()
	w.t.Cleanup(func() { s.Stop(); <-stopped })
	return s
}

// kill stops a server; dialling it is refused from now on.
func (w *world) kill(s *server) {
	w.mu.Lock()
	delete(w.listeners, s.name)
	w.mu.Unlock()
	s.Stop()
}

func (s *server) UnaryCall(ctx context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	s.calls.Add(1)
	if s.unary != nil {
		return s.unary(ctx, r)
	}
	return &testpb.SimpleResponse{Username: s.name, Payload: r.Payload}, nil
}

func (s *server) FullDuplexCall(stream testpb.TestService_FullDuplexCallServer) error {
	s.calls.Add(1)
	if s.duplex != nil {
		return s.duplex(stream)
	}
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(&testpb.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
			return err
		}
	}
}

func (s *server) StreamingOutputCall(r *testpb.StreamingOutputCallRequest, stream testpb.TestService_StreamingOutputCallServer) error {
	s.calls.Add(1)
	if s.output != nil {
		return s.output(r, stream)
	}
	for range r.ResponseParameters {
		if err := stream.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) StreamingInputCall(stream testpb.TestService_StreamingInputCallServer) error {
	s.calls.Add(1)
	var n int32
	for {
		r, err := stream.Recv()
		if err == io.EOF {
			return stream.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		}
		if err != nil {
			return err
		}
		n += int32(len(r.GetPayload().GetBody()))
	}
}

// call makes a unary call and returns the name of the server that answered.
func call(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) (string, error) {
	resp, err := testpb.NewTestServiceClient(cc).UnaryCall(ctx, &testpb.SimpleRequest{}, opts...)
	return resp.GetUsername(), err
}

// recorder keeps what was reported.
type recorder struct {
	silent   atomic.Bool // keep nothing
	mu       sync.Mutex
	attempts []telemetry.AttemptEvent
	calls    []telemetry.CallEvent
}

func (r *recorder) Attempt(e *telemetry.AttemptEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.silent.Load() {
		r.attempts = append(r.attempts, *e)
	}
}

func (r *recorder) Call(e *telemetry.CallEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.silent.Load() {
		r.calls = append(r.calls, *e)
	}
}

// settled returns copies of what was reported so far.
func (r *recorder) settled() ([]telemetry.AttemptEvent, []telemetry.CallEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.attempts), slices.Clone(r.calls)
}

// checkPending fails the test if an attempt has not given its endpoint back.
func (w *world) checkPending() {
	w.t.Helper()
	for _, ep := range w.pool.Endpoints() {
		if n := ep.Stats.Pending(); n != 0 {
			w.t.Errorf("%s has %d calls pending after all have ended", ep.ID, n)
		}
	}
}

// idempotent marks the next call as one that may be made twice.
func idempotent(ctx context.Context) context.Context {
	return engine.WithValues(ctx, engine.Values{Idempotent: new(true)})
}

func retries(attempts int) engine.RetryPlan {
	return engine.RetryPlan{Policy: retry.Policy{Attempts: attempts}}
}
