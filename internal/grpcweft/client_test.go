package grpcweft

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
)

func TestTargets(t *testing.T) {
	for _, test := range []struct {
		target string
		reason engine.Reason
		text   string // "": the call works
	}{
		{"weft:///stock", "", ""},
		{"weft:///stock.default", "", ""},
		{"weft:stock", "", ""},
		{"weft:///other", engine.Misused, `no service "other"`},
		{"weft:///closed", engine.Closed, "the mesh was closed"},
		{"weft://stock", engine.Misused, "three slashes"},
		{"weft:///", engine.Misused, "three slashes"},
		{"passthrough:///a", engine.Misused, "weft:///<service> only"},
		{"dns:///a:80", engine.Misused, "weft:///<service> only"},
		{"a:80", engine.Misused, "weft:///<service> only"},
	} {
		t.Run(test.target, func(t *testing.T) {
			w := newWorld(t, nil)
			a := w.serve("a", nil)
			w.publish("a")
			cc := w.dialTarget(test.target)
			_, err := call(t.Context(), cc)
			if test.text == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			_, streamErr := testpb.NewTestServiceClient(cc).FullDuplexCall(t.Context())
			for _, err := range []error{err, streamErr} {
				e, ok := errors.AsType[*callerr.Error](err)
				if !ok || e.Reason != callerr.Reason(test.reason) || !e.Local || !strings.Contains(err.Error(), test.text) {
					t.Errorf("got %v", err)
				}
			}
			if a.calls.Load() != 0 {
				t.Error("the call was sent")
			}
		})
	}
}

func TestAnswerWithoutAnEndpointIsLoggedOnce(t *testing.T) {
	var log strings.Builder
	w := newWorld(t, slog.New(slog.NewTextHandler(&log, nil)))
	w.serve("a", nil)
	w.publish("a")
	cached := func(_ context.Context, _ string, _, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
		reply.(*testpb.SimpleResponse).Username = "cache"
		return nil
	}
	cc := w.dial()
	if _, err := call(t.Context(), cc); err != nil || log.Len() != 0 {
		t.Errorf("an ordinary call: %v, log %q", err, &log)
	}
	cc = w.dial(grpc.WithChainUnaryInterceptor(cached))
	for range 3 {
		if name, err := call(t.Context(), cc); err != nil || name != "cache" {
			t.Errorf("%q, %v", name, err)
		}
	}
	if n := strings.Count(log.String(), "without Weft having chosen"); n != 1 {
		t.Errorf("logged %d times: %s", n, &log)
	}
	w.checkPending()
}

// An interceptor may also send a stream somewhere else. Its context lives as long as the stream.
func TestStreamOfAnInterceptor(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", nil)
	w.serve("b", nil)
	w.publish("a")
	elsewhere := w.bare("b")
	cc := w.dial(grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, _ *grpc.ClientConn, method string, _ grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return elsewhere.NewStream(ctx, desc, method, opts...)
	}))
	s, err := testpb.NewTestServiceClient(cc).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&testpb.StreamingOutputCallRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); err != nil {
		t.Error(err)
	}
	_ = s.CloseSend()
	if _, err := s.Recv(); err != io.EOF {
		t.Errorf("got %v, want EOF", err)
	}
	if _, calls := w.recorder.settled(); len(calls) != 1 {
		t.Errorf("%d calls were reported, want one", len(calls))
	}
}

// An interceptor of the application may refuse a call; its error comes through.
func TestInnerInterceptorRefuses(t *testing.T) {
	w := newWorld(t, nil)
	w.publish("a")
	limit := status.Error(codes.ResourceExhausted, "slow down")
	cc := w.dial(grpc.WithChainUnaryInterceptor(func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
		return limit
	}))
	if _, err := call(t.Context(), cc); err != limit {
		t.Errorf("got %v", err)
	}
}

// A server that refuses a stream before looking at it makes grpc choose again within one attempt. The endpoint
// chosen first is given back and learns nothing.
func TestTransparentRetrySelectsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("b", nil)
		refused := w.serveRefusals("a")
		w.publish("a", "b")
		cc := w.dial()
		connected(t, cc)
		for range 10 {
			if name, err := call(t.Context(), cc); err != nil || name != "b" {
				t.Errorf("%q, %v", name, err)
			}
			s, err := testpb.NewTestServiceClient(cc).StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != io.EOF {
				t.Errorf("stream: %v, want EOF", err)
			}
		}
		if len(refused) == 0 {
			t.Fatal("no call was refused")
		}
		attempts, calls := w.recorder.settled()
		if len(attempts) != 20 || len(calls) != 20 {
			t.Errorf("%d attempts and %d calls were reported, want 20 of each", len(attempts), len(calls))
		}
		for _, a := range attempts {
			if a.Endpoint != "b" || a.Number != 1 {
				t.Errorf("reported %+v", a)
			}
		}
		if n := w.pool.Endpoints()[0].Stats.Calls(); n != 0 {
			t.Errorf("%d results were learned of an endpoint that never took a call", n)
		}
		w.checkPending()
	})
}

// serveRefusals speaks HTTP/2 and refuses each stream. The channel holds one entry for each refusal.
func (w *world) serveRefusals(name string) chan struct{} {
	lis := bufconn.Listen(1 << 20)
	w.mu.Lock()
	w.listeners[name] = lis
	w.mu.Unlock()
	refused := make(chan struct{}, 1000)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			conn, err := lis.Accept()
			if err != nil {
				return
			}
			refuseStreams(conn, refused)
		}
	}()
	w.t.Cleanup(func() { lis.Close(); <-stopped })
	return refused
}

func refuseStreams(conn net.Conn, refused chan<- struct{}) {
	defer conn.Close()
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := conn.Read(preface); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	_ = framer.WriteSettings()
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.HeadersFrame:
			refused <- struct{}{}
			_ = framer.WriteRSTStream(f.StreamID, http2.ErrCodeRefusedStream)
		}
	}
}

var registerOnce sync.Once // nothing can be taken out of the registry again

func TestIdempotencyIsReadFromTheDescriptor(t *testing.T) {
	level := func(l descriptorpb.MethodOptions_IdempotencyLevel) *descriptorpb.MethodOptions {
		return &descriptorpb.MethodOptions{IdempotencyLevel: l.Enum()}
	}
	method := func(name string, o *descriptorpb.MethodOptions) *descriptorpb.MethodDescriptorProto {
		return &descriptorpb.MethodDescriptorProto{Name: &name, InputType: proto.String(".grpcweft.test.M"), OutputType: proto.String(".grpcweft.test.M"), Options: o}
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("grpcweft_test.proto"), Package: proto.String("grpcweft.test"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("M")}},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("S"), Method: []*descriptorpb.MethodDescriptorProto{
			method("Plain", nil), method("Read", level(descriptorpb.MethodOptions_NO_SIDE_EFFECTS)),
			method("Put", level(descriptorpb.MethodOptions_IDEMPOTENT)), method("Unknown", level(descriptorpb.MethodOptions_IDEMPOTENCY_UNKNOWN)),
		}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	registerOnce.Do(func() { err = protoregistry.GlobalFiles.RegisterFile(file) })
	if err != nil {
		t.Fatal(err)
	}
	var m methods
	for range 2 { // the second time from memory
		for name, want := range map[string]bool{
			"/grpcweft.test.S/Plain": false, "/grpcweft.test.S/Read": true, "/grpcweft.test.S/Put": true,
			"/grpcweft.test.S/Unknown": false, "/grpcweft.test.S/Missing": false, "/grpcweft.test.M": false, "": false, "no slash": false,
		} {
			if got := m.idempotent(name); got != want {
				t.Errorf("%q is idempotent: %v", name, got)
			}
		}
	}
	for i := range maxMethods + 10 {
		m.remember(strings.Repeat("x", i%100)+string(rune(0x4e00+i)), false)
	}
	if n := len(*m.known.Load()); n != maxMethods {
		t.Errorf("%d methods are remembered, want the bound of %d", n, maxMethods)
	}
	if !m.idempotent("/grpcweft.test.S/Read") {
		t.Error("a full memory changed an answer")
	}
}

// The price of Weft in allocations, both runs over the same server.
func TestAllocations(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", nil)
	w.publish("a")
	measure := func(cc *grpc.ClientConn) float64 {
		c := testpb.NewTestServiceClient(cc)
		req := &testpb.SimpleRequest{}
		once := func() {
			if _, err := c.UnaryCall(t.Context(), req); err != nil {
				t.Fatal(err)
			}
		}
		for range 200 {
			once()
		}
		runtime.GC()
		best := 1e9
		for range 5 { // the server's goroutines count as well, so take the calmest round
			best = min(best, testing.AllocsPerRun(500, once))
		}
		return best
	}
	w.recorder.silent.Store(true)
	bare, weft := measure(w.bare("a")), measure(w.dial())
	t.Logf("allocations of a unary call, both sides: bare %.0f, with Weft %.0f", bare, weft)
	if weft-bare > 8 {
		t.Errorf("Weft adds %.0f allocations to a unary call, want at most 8", weft-bare)
	}
}
