package grpcweft

import (
	"context"
	"slices"
	"testing"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/telemetry"
)

// wireTracer writes the number of an attempt and reads what came.
type wireTracer struct{ extracted []string }

type spanKey struct{}

func (*wireTracer) Start(ctx context.Context, s telemetry.SpanStart) (context.Context, telemetry.Span) {
	return context.WithValue(ctx, spanKey{}, s), span{}
}

func (*wireTracer) Inject(ctx context.Context, c telemetry.Carrier) {
	if s, ok := ctx.Value(spanKey{}).(telemetry.SpanStart); ok && s.Kind == telemetry.AttemptSpan {
		c.Set("TraceParent", s.Method)
	}
}

func (w *wireTracer) Extract(ctx context.Context, c telemetry.Carrier) context.Context {
	w.extracted = append(w.extracted, c.Get("traceparent"))
	if !slices.Contains(c.Keys(), "traceparent") || c.Get("missing") != "" {
		w.extracted = append(w.extracted, "wrong keys")
	}
	return ctx
}

type span struct{}

func (span) End(telemetry.SpanEnd) {}

// The span of an attempt replaces what the application wrote itself, on the wire and nowhere else.
func TestTraceTravelsInTheMetadata(t *testing.T) {
	tracer := &wireTracer{}
	w := newWorld(t, nil)
	w.engine = engine.New(engine.Config{Tracer: tracer})
	w.service = w.engine.NewService("stock.default")
	var seen []string
	s := NewServer(w.engine.NewInbound([engine.NumProtocols]telemetry.Recorder{}), "stock.default", nil)
	w.serve("a", func(s *server) {
		s.unary = func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			seen = metadata.ValueFromIncomingContext(ctx, "traceparent")
			return &testpb.SimpleResponse{}, nil
		}
	}, s.ServerOptions()...)
	w.publish("a")
	mine := metadata.Pairs("traceparent", "mine")
	if _, err := call(metadata.NewOutgoingContext(t.Context(), mine), w.dial(), grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	method := testpb.TestService_UnaryCall_FullMethodName
	if !slices.Equal(seen, []string{method}) || !slices.Equal(tracer.extracted, []string{method}) {
		t.Errorf("the handler saw %q, the tracer %q", seen, tracer.extracted)
	}
	if mine["traceparent"][0] != "mine" {
		t.Error("the application's metadata was changed")
	}
}
