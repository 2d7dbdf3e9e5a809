package interop

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/telemetry"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/grpclog"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"
)

// loudLogger makes a panic of what would end the process: that is how grpc-go's cases report a failure, and a test
// wants to know which case it was.
type loudLogger struct{ grpclog.LoggerV2 }

func (loudLogger) Fatal(args ...any)                 { panic(fmt.Sprint(args...)) }
func (loudLogger) Fatalln(args ...any)               { panic(fmt.Sprintln(args...)) }
func (loudLogger) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }

func TestMain(m *testing.M) {
	grpclog.SetLoggerV2(loudLogger{grpclog.NewLoggerV2(io.Discard, io.Discard, os.Stderr)})
	os.Exit(m.Run())
}

// outcome runs a case and returns what it complained about.
func outcome(ctx context.Context, c interopCase, cc *grpc.ClientConn) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	defer func() {
		if complaint := recover(); complaint != nil {
			err = fmt.Errorf("%s: %v", c.name, complaint)
		}
	}()
	c.run(ctx, cc)
	return nil
}

// TestThroughWeft runs every case with Weft at both ends.
func TestThroughWeft(t *testing.T) {
	lis := listen(t)
	var seen counts
	m := mesh(t, weft.WithEndpoints("interop", lis.Addr().String()), weft.WithService("interop"), weft.WithObserver(&seen))
	srv := grpc.NewServer(m.ServerOptions()...)
	testpb.RegisterTestServiceServer(srv, interop.NewTestServer())
	serve(t, srv, lis)
	cc, fresh := dial(t, "weft:///interop", m.DialOptions()...)
	for _, c := range cases(fresh) {
		t.Run(c.name, func(t *testing.T) {
			before := seen.outbound.calls.Load()
			if err := outcome(t.Context(), c, cc); err != nil {
				t.Error(err)
			}
			if seen.outbound.calls.Load() == before {
				t.Error("no call left through Weft")
			}
		})
	}
	if seen.inbound.calls.Load() == 0 {
		t.Error("no call arrived through Weft")
	}
}

// TestBare is the control of the cases: what fails here too is not Weft's fault.
func TestBare(t *testing.T) {
	lis, srv := listen(t), grpc.NewServer()
	testpb.RegisterTestServiceServer(srv, interop.NewTestServer())
	serve(t, srv, lis)
	cc, fresh := dial(t, lis.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	for _, c := range cases(fresh) {
		t.Run(c.name, func(t *testing.T) {
			if err := outcome(t.Context(), c, cc); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAFailureIsNoticed is the control of the harness: a server that answers every call wrongly must make every case
// complain but those that the caller ends.
func TestAFailureIsNoticed(t *testing.T) {
	lis := listen(t)
	serve(t, grpc.NewServer(grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error {
		return status.Error(codes.DataLoss, "control")
	})), lis)
	m := mesh(t, weft.WithEndpoints("interop", lis.Addr().String()))
	cc, fresh := dial(t, "weft:///interop", m.DialOptions()...)
	endedByCaller := []string{"timeout_on_sleeping_server", "cancel_after_begin"}
	for _, c := range cases(fresh) {
		if !slices.Contains(endedByCaller, c.name) && outcome(t.Context(), c, cc) == nil {
			t.Errorf("%s passed with a server that is broken", c.name)
		}
	}
}

// counts counts calls by direction.
type counts struct{ outbound, inbound counter }

func (c *counts) Bind(b telemetry.Binding) telemetry.Recorder {
	if b.Direction == telemetry.Outbound {
		return &c.outbound
	}
	return &c.inbound
}

type counter struct{ calls atomic.Int64 }

func (c *counter) Attempt(*telemetry.AttemptEvent) {}
func (c *counter) Call(*telemetry.CallEvent)       { c.calls.Add(1) }

func mesh(t *testing.T, options ...weft.Option) *weft.Mesh {
	t.Helper()
	t.Setenv("WEFT_REGISTRY", "") // none, whatever the environment says
	m, err := weft.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

func serve(t *testing.T, srv *grpc.Server, lis net.Listener) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(lis) }()
	t.Cleanup(func() {
		srv.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// dial returns a connection for the length of the test, and how to get others that the caller ends.
func dial(t *testing.T, target string, options ...grpc.DialOption) (cc *grpc.ClientConn, fresh func() (*grpc.ClientConn, func())) {
	t.Helper()
	fresh = func() (*grpc.ClientConn, func()) {
		cc, err := grpc.NewClient(target, options...)
		if err != nil {
			panic(err) // not t.Fatal, as cases call it in goroutines of their own
		}
		return cc, func() {
			if err := cc.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	cc, end := fresh()
	t.Cleanup(end)
	return cc, fresh
}
