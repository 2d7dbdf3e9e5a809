package grpcweft

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/telemetry"
)

// inboundWorld serves with Weft on the callee's side and is called without it.
func inboundWorld(t *testing.T, cfg engine.Config, change func(*server), opts ...grpc.ServerOption) (*world, *recorder, *grpc.ClientConn) {
	w := newWorld(t, nil)
	r := &recorder{}
	in := engine.New(cfg).NewInbound([engine.NumProtocols]telemetry.Recorder{engine.GRPC: r})
	w.serve("a", change, append(NewServer(in, "stock.default", nil).ServerOptions(), opts...)...)
	return w, r, w.bare("a")
}

func TestInboundReportsEachCallOnce(t *testing.T) {
	_, r, cc := inboundWorld(t, engine.Config{}, func(s *server) {
		s.unary = func(_ context.Context, req *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return nil, status.Error(codes.Code(req.ResponseSize), "as asked")
		}
		s.duplex = func(testpb.TestService_FullDuplexCallServer) error { return context.DeadlineExceeded }
	})
	client := testpb.NewTestServiceClient(cc)
	for _, code := range []codes.Code{codes.OK, codes.Internal} {
		if _, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseSize: int32(code)}); code == codes.Internal && status.Code(err) != code {
			t.Errorf("got %v", err)
		}
	}
	s, err := client.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v", err)
	}
	_, calls := r.settled()
	var got []int
	for _, c := range calls {
		got = append(got, c.Code)
	}
	if !slices.Equal(got, []int{int(codes.OK), int(codes.Internal), int(codes.DeadlineExceeded)}) {
		t.Errorf("reported codes %v", got)
	}
	if calls[0].Method != testpb.TestService_UnaryCall_FullMethodName {
		t.Errorf("reported method %q", calls[0].Method)
	}
}

func TestInboundTakesTheWireWordsOff(t *testing.T) {
	var seen metadata.MD
	var values engine.Values
	look := func(ctx context.Context) {
		seen, _ = metadata.FromIncomingContext(ctx)
		values = engine.ValuesFrom(ctx)
	}
	_, _, cc := inboundWorld(t, engine.Config{}, func(s *server) {
		s.unary = func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			look(ctx)
			return &testpb.SimpleResponse{}, nil
		}
		s.duplex = func(ss testpb.TestService_FullDuplexCallServer) error { look(ss.Context()); return nil }
	})
	calls := map[string]func(context.Context) error{
		"unary": func(ctx context.Context) error { _, err := call(ctx, cc); return err },
		"stream": func(ctx context.Context) error {
			s, err := testpb.NewTestServiceClient(cc).FullDuplexCall(ctx)
			if err == nil {
				_, _ = s.Recv()
			}
			return err
		},
	}
	for name, do := range calls {
		t.Run(name, func(t *testing.T) {
			ctx := metadata.AppendToOutgoingContext(t.Context(), "weft-attempt", "2", "weft-criticality", "sheddable", "weft-unknown", "x", "x-user", "ann")
			if err := do(ctx); err != nil {
				t.Fatal(err)
			}
			for key := range seen {
				if len(key) >= 5 && key[:5] == "weft-" {
					t.Errorf("the handler saw %q", key)
				}
			}
			if seen.Get("x-user")[0] != "ann" || seen.Get(":authority") == nil {
				t.Errorf("the handler saw %v only", seen)
			}
			if !values.Retried || values.Criticality != engine.Sheddable {
				t.Errorf("the words were read as %+v", values)
			}
		})
	}
}

// The metadata is read where it is, as grpc's functions would copy it for each call, and it is not changed.
func TestIncomingMetadataIsNotCopied(t *testing.T) {
	md := metadata.MD{"x-user": {"ann"}, ":authority": {"stock"}}
	ctx := metadata.NewIncomingContext(t.Context(), md)
	got := incoming(ctx)
	got["x-same"] = nil
	if _, same := md["x-same"]; !same {
		t.Error("incoming returned a copy")
	}
	if withoutWords(ctx, md) != ctx {
		t.Error("a context without wire words was replaced")
	}
	words := metadata.MD{"weft-attempt": {"2"}, "x-user": {"ann"}}
	if clean := incoming(withoutWords(metadata.NewIncomingContext(t.Context(), words), words)); len(clean) != 1 || len(words) != 2 {
		t.Errorf("taking the words off %v gave %v: the original belongs to grpc", words, clean)
	}
	if got := incoming(t.Context()); len(got) != 0 {
		t.Errorf("without metadata: %v", got)
	}
}

func TestInboundRefusal(t *testing.T) {
	var handled int
	late := engine.Config{Now: func() time.Time { return time.Now().Add(time.Hour) }} // every deadline has passed
	_, r, cc := inboundWorld(t, late, func(s *server) {
		s.unary = func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			handled++
			return nil, nil
		}
		s.duplex = func(testpb.TestService_FullDuplexCallServer) error { handled++; return nil }
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var tail metadata.MD
	if _, err := call(ctx, cc, grpc.Trailer(&tail)); status.Code(err) != codes.DeadlineExceeded || tail["weft-reason"][0] != "DeadlineTooShort" {
		t.Errorf("unary: %v, trailer %v", err, tail)
	}
	s, err := testpb.NewTestServiceClient(cc).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); status.Code(err) != codes.DeadlineExceeded || s.Trailer()["weft-reason"][0] != "DeadlineTooShort" {
		t.Errorf("stream: %v, trailer %v", err, s.Trailer())
	}
	_, calls := r.settled()
	if handled != 0 || len(calls) != 2 || calls[0].Reason != "DeadlineTooShort" || calls[0].Class != telemetry.Ignorable {
		t.Errorf("%d calls were handled, reported %+v", handled, calls)
	}
}

func TestInboundPanicIsReported(t *testing.T) {
	recovering := grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (_ any, err error) {
		defer func() {
			if recover() != nil {
				err = status.Error(codes.Internal, "recovered")
			}
		}()
		return next(ctx, req)
	})
	_, r, cc := inboundWorld(t, engine.Config{}, func(s *server) {
		s.unary = func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) { panic("oh") }
	}, recovering)
	if _, err := call(t.Context(), cc); status.Code(err) != codes.Internal {
		t.Errorf("got %v", err)
	}
	if _, calls := r.settled(); len(calls) != 1 || calls[0].Code != int(codes.Internal) || calls[0].Class != telemetry.Failure {
		t.Errorf("reported %+v", calls)
	}
}

func TestHealthServiceWorks(t *testing.T) {
	_, _, cc := inboundWorld(t, engine.Config{}, func(s *server) { healthpb.RegisterHealthServer(s.Server, health.NewServer()) })
	resp, err := healthpb.NewHealthClient(cc).Check(t.Context(), &healthpb.HealthCheckRequest{})
	if err != nil || resp.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v, %v", resp, err)
	}
}

func TestRefusalNeedsNoMetadata(t *testing.T) {
	in := engine.New(engine.Config{}).NewInbound([engine.NumProtocols]telemetry.Recorder{})
	s := NewServer(in, "", nil)
	ctx, cancel := context.WithTimeout(context.Background(), -1)
	defer cancel()
	_, err := s.unary(ctx, nil, &grpc.UnaryServerInfo{FullMethod: "/p.S/M"}, nil)
	if status.Code(err) != codes.DeadlineExceeded || errors.Is(err, errPanicked) {
		t.Errorf("got %v", err)
	}
}
