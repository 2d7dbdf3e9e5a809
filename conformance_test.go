package weft_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// The conformance table: what a call goes through is the same over gRPC and HTTP. Each case is run over both against
// three instances, and must come to the same verdict.

// request is a call in words that fit both protocols.
type request struct {
	behave     string // what the servers do: "ok", "missing", "down", "hang", or "down-then-ok:N" (N instances are down)
	repeatable bool   // may be made twice
	size       int    // of payload, there and back
	headers    map[string]string
}

// verdict is what came of it, in words that fit both protocols.
type verdict struct {
	result   string // "ok", "missing", "down", "canceled", "late", or "weft:Reason"
	attempts int    // calls that reached a server
	servers  int    // different servers among them
}

// caller makes calls over one protocol.
type caller interface {
	call(ctx context.Context, r request) (size int, err error)
	result(err error) string
}

var conformance = []struct {
	name    string
	rules   string
	request request
	ctx     func(context.Context) (context.Context, context.CancelFunc)
	want    verdict
}{
	{"a call", "", request{behave: "ok"}, nil, verdict{"ok", 1, 1}},
	{"a large message", "", request{behave: "ok", size: 3 << 20}, nil, verdict{"ok", 1, 1}},
	{"a client's mistake is final", retries, request{behave: "missing", repeatable: true}, nil, verdict{"missing", 1, 1}},
	{"no rule: an answer is final", "", request{behave: "down", repeatable: true}, nil, verdict{"down", 1, 1}},
	{"retries use other instances", retries, request{behave: "down", repeatable: true}, nil, verdict{"down", 3, 3}},
	{"a retry can succeed", retries, request{behave: "down-then-ok:2", repeatable: true}, nil, verdict{"ok", 3, 3}},
	{"what must not be repeated is not", retries, request{behave: "down"}, nil, verdict{"down", 1, 1}},
	{"a rule can forbid repeating", retries + "\n  methods: [{match: [{headers: {x-pay: {present: true}}}], idempotent: false}]\n",
		request{behave: "down", repeatable: true, headers: map[string]string{"x-pay": "1"}}, nil, verdict{"down", 1, 1}},
	{"a rule can allow repeating", retries + "\n  methods: [{match: [{headers: {x-read: {present: true}}}], idempotent: true}]\n",
		request{behave: "down", headers: map[string]string{"x-read": "1"}}, nil, verdict{"down", 3, 3}},
	{"no budget, no retry", "kind: Retry\nname: r\nservice: product\nspec: {attempts: 3, budget: {percent: 0, perSecond: 0}}\n",
		request{behave: "down", repeatable: true}, nil, verdict{"down", 1, 1}},
	{"cancelled by the caller", retries, request{behave: "hang", repeatable: true}, cancelSoon, verdict{"canceled", 1, 1}},
	{"the caller's deadline", retries, request{behave: "hang", repeatable: true}, deadlineSoon, verdict{"weft:AttemptsFailed", 1, 1}},
	{"a deadline that has passed", "", request{behave: "ok"}, deadlinePast, verdict{"late", 0, 0}},
	{"a rule's per-try timeout", "kind: Retry\nname: r\nservice: product\nspec: {attempts: 2, on: [timeout], perTryTimeout: 50ms, budget: {percent: 100, perSecond: 1000}}\n",
		request{behave: "hang", repeatable: true}, nil, verdict{"weft:AttemptsFailed", 2, 2}},
	{"a rule's total timeout", "kind: Retry\nname: r\nservice: product\nspec: {attempts: 1, timeout: 50ms}\n",
		request{behave: "hang", repeatable: true}, nil, verdict{"weft:Timeout", 1, 1}},
	{"a route's timeout", "kind: Route\nname: r\nservice: product\nspec: {rules: [{timeout: 50ms}]}\n",
		request{behave: "hang", repeatable: true}, nil, verdict{"weft:Timeout", 1, 1}},
	{"a subset without instances", "kind: Route\nname: r\nservice: product\nspec: {subsets: {v9: {version: v9}}, rules: [{split: [{subset: v9}], whenEmpty: fail}]}\n",
		request{behave: "ok"}, nil, verdict{"weft:NoInstance", 0, 0}},
	{"a route by header", "kind: Route\nname: r\nservice: product\nspec: {subsets: {v9: {version: v9}}, rules: [{match: [{headers: {x-new: \"1\"}}], split: [{subset: v9}], whenEmpty: fail}]}\n",
		request{behave: "ok", headers: map[string]string{"X-New": "1"}}, nil, verdict{"weft:NoInstance", 0, 0}},
}

const retries = "kind: Retry\nname: r\nservice: product\nspec:\n  attempts: 3\n  budget: {percent: 100, perSecond: 1000}\n"

func cancelSoon(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	time.AfterFunc(50*time.Millisecond, cancel)
	return ctx, cancel
}

func deadlineSoon(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 50*time.Millisecond)
}

func deadlinePast(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, -time.Second)
}

func TestConformance(t *testing.T) {
	fleet := newFleet(t, 3)
	for _, tc := range conformance {
		t.Run(tc.name, func(t *testing.T) {
			for protocol, c := range fleet.callersFromTwoNamespaces(t, tc.rules) {
				fleet.reset()
				ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
				if tc.ctx != nil {
					ctx, cancel = tc.ctx(t.Context())
				}
				size, err := c.call(ctx, tc.request)
				cancel()
				got := verdict{result: c.result(err)}
				got.attempts, got.servers = fleet.hits()
				if got != tc.want {
					t.Errorf("%s: %+v, want %+v; error: %v", protocol, got, tc.want, err)
				}
				if err == nil && size != tc.request.size {
					t.Errorf("%s: %d bytes came back of %d", protocol, size, tc.request.size)
				}
				if weft.IsLocal(err) != (got.attempts == 0 && err != nil) {
					t.Errorf("%s: IsLocal is %t for %v", protocol, weft.IsLocal(err), err)
				}
			}
		})
	}
}

// An instance that is gone costs nothing, whatever the call: what was not sent is tried elsewhere.
func TestConformanceNotSent(t *testing.T) {
	fleet := newFleet(t, 2)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	fleet.addInstance("dead", dead.Addr().String(), dead.Addr().String())
	m := fleet.mesh(t, "")
	for protocol, c := range callers(t, m) {
		for range 30 {
			if _, err := c.call(t.Context(), request{behave: "ok"}); err != nil {
				t.Fatalf("%s: %v", protocol, err)
			}
		}
	}
}

// Without retries the same dead instance costs calls over HTTP; gRPC does not pick what has no connection.
func TestConformanceNotSentControl(t *testing.T) {
	fleet := newFleet(t, 0)
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	fleet.addInstance("dead", dead.Addr().String(), dead.Addr().String())
	m := fleet.mesh(t, "")
	for protocol, c := range callers(t, m) {
		_, err := c.call(t.Context(), request{behave: "ok"})
		var e *weft.Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v; want a weft.Error on one line that says the connection was refused", protocol, err)
		}
	}
}

func TestConformanceStreams(t *testing.T) {
	fleet := newFleet(t, 3)
	m := fleet.mesh(t, retries)
	const n = 100
	for protocol, s := range map[string]streamer{"grpc": newGRPCCaller(t, m), "http": newHTTPCaller(m)} {
		for kind, run := range map[string]func(context.Context, int) (int, error){"down": s.down, "up": s.up, "both ways": s.both} {
			fleet.reset()
			got, err := run(t.Context(), n)
			attempts, _ := fleet.hits()
			if err != nil || got != n || attempts != 1 {
				t.Errorf("%s, stream %s: %d of %d messages, %d attempts, error %v", protocol, kind, got, n, attempts, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(50*time.Millisecond, cancel)
		if _, err := s.down(ctx, -1); !errors.Is(err, context.Canceled) && status.Code(err) != codes.Canceled {
			t.Errorf("%s: an endless stream ended with %v after a cancel", protocol, err)
		}
	}
}

type streamer interface {
	down(ctx context.Context, n int) (int, error)
	up(ctx context.Context, n int) (int, error)
	both(ctx context.Context, n int) (int, error)
}

// A body that cannot be sent again is not, and one that can be is sent whole.
func TestHTTPBodies(t *testing.T) {
	fleet := newFleet(t, 3)
	m := fleet.mesh(t, retries)
	client := &http.Client{Transport: m.Transport(nil)}
	for _, tc := range []struct {
		name     string
		body     io.Reader
		attempts int
	}{
		{"with GetBody", bytes.NewReader(make([]byte, 100_000)), 3},
		{"without", io.LimitReader(zeros{}, 100_000), 1},
	} {
		fleet.reset()
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodPut, "http://product/unary", tc.body)
		req.Header.Set("X-Behave", "down")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if attempts, _ := fleet.hits(); attempts != tc.attempts || resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: %d attempts, status %d; want %d and 503", tc.name, attempts, resp.StatusCode, tc.attempts)
		}
		for _, size := range fleet.sizes() {
			if size != 100_000 {
				t.Errorf("%s: a server got %d bytes of 100000", tc.name, size)
			}
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestHTTPTransportLeavesOthersAlone(t *testing.T) {
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Weft-Deadline") != "" {
			t.Error("a host that is not ours got a wire word")
		}
	}))
	defer other.Close()
	m := newFleet(t, 1).mesh(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, other.URL, nil)
	resp, err := (&http.Client{Transport: m.Transport(nil)}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

func TestGRPCDialOptionsRefuseOtherTargets(t *testing.T) {
	fleet := newFleet(t, 1)
	m := fleet.mesh(t, "")
	conn, err := grpc.NewClient("dns:///"+fleet.instances[0].Address, m.DialOptions()...)
	if err == nil {
		defer conn.Close()
		_, err = pb.NewTestServiceClient(conn).UnaryCall(t.Context(), &pb.SimpleRequest{})
	}
	if err == nil || !strings.Contains(err.Error(), "weft:///") {
		t.Errorf("a target of another scheme: %v; want an error that names weft:///", err)
	}
}

// fleet is some servers of the service "product", each over both protocols, and counts of what reached them.
type fleet struct {
	instances []discovery.Instance

	mu    sync.Mutex
	count map[string]int // by server
	bytes []int          // size of each request
	down  int            // servers that were down in the current call
	ended chan struct{}  // closed with the test
}

func newFleet(t *testing.T, servers int) *fleet {
	f := &fleet{count: map[string]int{}, ended: make(chan struct{})}
	t.Cleanup(func() { close(f.ended) })
	for i := range servers {
		s := &server{fleet: f, name: fmt.Sprintf("s%d", i+1)}
		web := httptest.NewServer(s)
		t.Cleanup(web.Close)
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		g := grpc.NewServer(grpc.MaxRecvMsgSize(8 << 20))
		pb.RegisterTestServiceServer(g, s)
		go g.Serve(lis)
		t.Cleanup(g.Stop)
		f.addInstance(s.name, lis.Addr().String(), strings.TrimPrefix(web.URL, "http://"))
	}
	return f
}

func (f *fleet) addInstance(name, grpcAddr, httpAddr string) {
	for protocol, addr := range map[discovery.Protocol]string{discovery.GRPC: grpcAddr, discovery.HTTP: httpAddr} {
		f.instances = append(f.instances, discovery.Instance{ID: name + "-" + string(protocol), Address: addr, Protocol: protocol,
			Labels: map[string]string{"version": "v1"}})
	}
}

func (f *fleet) mesh(t *testing.T, rules string, options ...weft.Option) *weft.Mesh {
	t.Helper()
	parsed, err := rule.Parse([]byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	m, err := weft.New(append(options, weft.WithSource(discovery.Static(map[string][]discovery.Instance{"product.default": f.instances})),
		weft.WithRules(parsed...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })
	return m
}

func (f *fleet) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.count)
	f.bytes, f.down = nil, 0
}

func (f *fleet) hits() (attempts, servers int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, n := range f.count {
		attempts += n
	}
	return attempts, len(f.count)
}

func (f *fleet) sizes() []int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.bytes
}

// hit counts a call and says what to do with it: "ok", "missing", "down" or "hang".
func (f *fleet) hit(server, behave string, size int) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[server]++
	f.bytes = append(f.bytes, size)
	if n, ok := strings.CutPrefix(behave, "down-then-ok:"); ok {
		behave = "ok"
		if limit, _ := strconv.Atoi(n); f.down < limit {
			f.down++
			behave = "down"
		}
	}
	return behave
}

// server behaves as the request asks.
type server struct {
	pb.UnimplementedTestServiceServer
	fleet *fleet
	name  string
}

func (s *server) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	behave := "ok"
	if md, _ := metadata.FromIncomingContext(ctx); len(md.Get("x-behave")) > 0 {
		behave = md.Get("x-behave")[0]
	}
	switch s.fleet.hit(s.name, behave, len(in.GetPayload().GetBody())) {
	case "missing":
		return nil, status.Error(codes.NotFound, "missing")
	case "down":
		return nil, status.Error(codes.Unavailable, "down")
	case "hang":
		// Not until ctx ends: the deadline came with the call, and its answer could be there before the caller's own.
		<-s.fleet.ended
	}
	return &pb.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (s *server) StreamingOutputCall(in *pb.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[pb.StreamingOutputCallResponse]) error {
	s.fleet.hit(s.name, "ok", 0)
	if len(in.GetResponseParameters()) == 0 {
		<-stream.Context().Done()
		return stream.Context().Err()
	}
	for range in.GetResponseParameters() {
		if err := stream.Send(&pb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
	return nil
}

func (s *server) StreamingInputCall(stream grpc.ClientStreamingServer[pb.StreamingInputCallRequest, pb.StreamingInputCallResponse]) error {
	s.fleet.hit(s.name, "ok", 0)
	for n := int32(0); ; n++ {
		if _, err := stream.Recv(); err == io.EOF {
			return stream.SendAndClose(&pb.StreamingInputCallResponse{AggregatedPayloadSize: n})
		} else if err != nil {
			return err
		}
	}
}

func (s *server) FullDuplexCall(stream grpc.BidiStreamingServer[pb.StreamingOutputCallRequest, pb.StreamingOutputCallResponse]) error {
	s.fleet.hit(s.name, "ok", 0)
	for {
		if _, err := stream.Recv(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if err := stream.Send(&pb.StreamingOutputCallResponse{}); err != nil {
			return err
		}
	}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/down":
		s.serveDown(w, r)
	case "/up":
		s.fleet.hit(s.name, "ok", 0)
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, bytes.Count(body, []byte("\n")))
	case "/both":
		s.serveBoth(w, r)
	default:
		s.serveUnary(w, r)
	}
}

func (s *server) serveUnary(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch s.fleet.hit(s.name, r.Header.Get("X-Behave"), len(body)) {
	case "missing":
		http.Error(w, "missing", http.StatusNotFound)
	case "down":
		http.Error(w, "down", http.StatusServiceUnavailable)
	case "hang":
		<-r.Context().Done()
	default:
		if size, _ := strconv.Atoi(r.Header.Get("X-Size")); r.Method == http.MethodGet {
			body = make([]byte, size)
		}
		w.Write(body)
	}
}

func (s *server) serveDown(w http.ResponseWriter, r *http.Request) {
	s.fleet.hit(s.name, "ok", 0)
	n, _ := strconv.Atoi(r.FormValue("n"))
	for i := 0; n < 0 || i < n; i++ {
		fmt.Fprintln(w, i)
		http.NewResponseController(w).Flush()
		if n < 0 {
			<-r.Context().Done()
			return
		}
	}
}

// serveBoth answers an upgrade and echoes lines.
func (s *server) serveBoth(w http.ResponseWriter, _ *http.Request) {
	s.fleet.hit(s.name, "ok", 0)
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	io.Copy(conn, buf)
}

// callersFromTwoNamespaces are callers in product's own namespace, and in one where "product" is a short name of
// product.default.
func (f *fleet) callersFromTwoNamespaces(t *testing.T, rules string) map[string]caller {
	t.Helper()
	list := callers(t, f.mesh(t, rules))
	for protocol, c := range callers(t, f.mesh(t, rules, weft.WithService("web.shop"))) {
		list[protocol+" from web.shop"] = c
	}
	return list
}

func callers(t *testing.T, m *weft.Mesh) map[string]caller {
	return map[string]caller{"grpc": newGRPCCaller(t, m), "http": newHTTPCaller(m)}
}

type grpcCaller struct{ client pb.TestServiceClient }

func newGRPCCaller(t *testing.T, m *weft.Mesh) grpcCaller {
	t.Helper()
	conn, err := grpc.NewClient("weft:///product", append(m.DialOptions(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(8<<20)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return grpcCaller{pb.NewTestServiceClient(conn)}
}

func (c grpcCaller) call(ctx context.Context, r request) (int, error) {
	if r.repeatable {
		ctx = weft.With(ctx, weft.Idempotent())
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "x-behave", r.behave)
	for name, value := range r.headers {
		ctx = metadata.AppendToOutgoingContext(ctx, name, value)
	}
	resp, err := c.client.UnaryCall(ctx, &pb.SimpleRequest{Payload: &pb.Payload{Body: make([]byte, r.size)}})
	return len(resp.GetPayload().GetBody()), err
}

func (grpcCaller) result(err error) string {
	var e *weft.Error
	switch code := status.Code(err); {
	case code == codes.OK:
		return "ok"
	case code == codes.NotFound:
		return "missing"
	case errors.Is(err, context.Canceled) || code == codes.Canceled:
		return "canceled"
	case errors.As(err, &e) && e.Reason != weft.DeadlineTooShort && !(e.Reason == weft.AttemptsFailed && code == codes.Unavailable):
		return "weft:" + string(e.Reason)
	case code == codes.DeadlineExceeded:
		return "late"
	case code == codes.Unavailable:
		return "down"
	default:
		return err.Error()
	}
}

func (c grpcCaller) down(ctx context.Context, n int) (got int, err error) {
	req := &pb.StreamingOutputCallRequest{}
	for range max(n, 0) {
		req.ResponseParameters = append(req.ResponseParameters, &pb.ResponseParameters{})
	}
	stream, err := c.client.StreamingOutputCall(ctx, req)
	for err == nil {
		if _, err = stream.Recv(); err == nil {
			got++
		}
	}
	if err == io.EOF {
		err = nil
	}
	return got, err
}

func (c grpcCaller) up(ctx context.Context, n int) (int, error) {
	stream, err := c.client.StreamingInputCall(ctx)
	if err != nil {
		return 0, err
	}
	for range n {
		if err := stream.Send(&pb.StreamingInputCallRequest{}); err != nil {
			return 0, err
		}
	}
	resp, err := stream.CloseAndRecv()
	return int(resp.GetAggregatedPayloadSize()), err
}

func (c grpcCaller) both(ctx context.Context, n int) (got int, err error) {
	stream, err := c.client.FullDuplexCall(ctx)
	if err != nil {
		return 0, err
	}
	for range n {
		if err := stream.Send(&pb.StreamingOutputCallRequest{}); err != nil {
			return got, err
		}
		if _, err := stream.Recv(); err != nil {
			return got, err
		}
		got++
	}
	stream.CloseSend()
	if _, err := stream.Recv(); err != io.EOF {
		return got, fmt.Errorf("after the end: %w", err)
	}
	return got, nil
}

type httpCaller struct{ client *http.Client }

func newHTTPCaller(m *weft.Mesh) httpCaller {
	return httpCaller{&http.Client{Transport: m.Transport(nil)}}
}

// errStatus is an answer of a server that is not 200.
type errStatus int

func (e errStatus) Error() string { return fmt.Sprintf("status %d", int(e)) }

func (c httpCaller) call(ctx context.Context, r request) (int, error) {
	method, body := http.MethodPost, io.Reader(bytes.NewReader(make([]byte, r.size)))
	if r.repeatable {
		method, body = http.MethodGet, nil
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://product/unary", body)
	if err != nil {
		return 0, err
	}
	req.Header.Set("X-Behave", r.behave)
	req.Header.Set("X-Size", strconv.Itoa(r.size))
	for name, value := range r.headers {
		req.Header.Set(name, value)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return 0, errStatus(resp.StatusCode)
	}
	text, err := io.ReadAll(resp.Body)
	return len(text), err
}

func (httpCaller) result(err error) string {
	var e *weft.Error
	var st errStatus
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &st) && st == http.StatusNotFound:
		return "missing"
	case errors.As(err, &st) && st == http.StatusServiceUnavailable:
		return "down"
	case errors.Is(err, context.Canceled):
		return "canceled"
	case errors.As(err, &e) && e.Reason == weft.DeadlineTooShort:
		return "late"
	case errors.As(err, &e):
		return "weft:" + string(e.Reason)
	case errors.Is(err, context.DeadlineExceeded):
		return "late"
	}
	return err.Error()
}

func (c httpCaller) stream(ctx context.Context, method, url string, header http.Header, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	maps.Copy(req.Header, header)
	return c.client.Do(req)
}

func (c httpCaller) down(ctx context.Context, n int) (int, error) {
	resp, err := c.stream(ctx, http.MethodGet, "http://product/down?n="+strconv.Itoa(n), nil, nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return bytes.Count(text, []byte("\n")), err
}

func (c httpCaller) up(ctx context.Context, n int) (int, error) {
	r, w := io.Pipe()
	go func() {
		for range n {
			fmt.Fprintln(w, "line")
		}
		w.Close()
	}()
	resp, err := c.stream(ctx, http.MethodPost, "http://product/up", nil, r)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(string(text))
}

func (c httpCaller) both(ctx context.Context, n int) (got int, err error) {
	resp, err := c.stream(ctx, http.MethodGet, "http://product/both", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"echo"}}, nil)
	if err != nil {
		return 0, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		return 0, fmt.Errorf("status %d, body %T", resp.StatusCode, resp.Body)
	}
	defer conn.Close()
	buf := make([]byte, 5)
	for range n {
		if _, err := io.WriteString(conn, "ping\n"); err != nil {
			return got, err
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			return got, err
		}
		got++
	}
	return got, nil
}
