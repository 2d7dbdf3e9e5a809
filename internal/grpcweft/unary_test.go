package grpcweft

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

func TestUnary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.serve("b", nil)
		w.publish("a", "b")
		cc := w.dial()
		connected(t, cc)
		seen := map[string]int{}
		for range 20 {
			name, err := call(t.Context(), cc)
			if err != nil {
				t.Fatal(err)
			}
			seen[name]++
		}
		if seen["a"] != 10 || seen["b"] != 10 {
			t.Errorf("calls went to %v, want 10 to each, as the policy is a round robin", seen)
		}
		attempts, calls := w.recorder.settled()
		if len(attempts) != 20 || len(calls) != 20 {
			t.Errorf("%d attempts and %d calls were reported, want 20 of each", len(attempts), len(calls))
		}
		w.checkPending()
	})
}

func TestUnaryServerErrorComesThroughUnchanged(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", func(s *server) {
		s.unary = func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			st, _ := status.New(codes.NotFound, "no such item").WithDetails(&testpb.SimpleRequest{ResponseSize: 7})
			return nil, st.Err()
		}
	})
	w.publish("a")
	_, err := call(t.Context(), w.dial())
	_, bare := call(t.Context(), w.bare("a"))
	if err.Error() != bare.Error() || len(status.Convert(err).Details()) != 1 {
		t.Errorf("with Weft %v, without %v", err, bare)
	}
	if attempts, _ := w.recorder.settled(); attempts[0].Class != telemetry.Success {
		t.Errorf("NotFound counted as %v, want the server to have done its job", attempts[0].Class)
	}
}

func failing(code codes.Code) func(*server) {
	return func(s *server) {
		s.unary = func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return nil, status.Error(code, "out of "+s.name)
		}
	}
}

func TestUnavailableIsRetriedForIdempotentCallsOnly(t *testing.T) {
	for _, test := range []struct {
		name       string
		idempotent bool
		fail       func(*server)
		answered   bool
	}{
		{"idempotent", true, failing(codes.Unavailable), true},
		{"not idempotent", false, failing(codes.Unavailable), false},
		{"idempotent, another code", true, failing(codes.Internal), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				bad := w.serve("bad", test.fail)
				w.serve("good", nil)
				w.retry = retries(2)
				w.retry.On.AddCode(int(codes.Unavailable))
				w.publish("bad", "good")
				cc := w.dial()
				connected(t, cc)
				var failed int
				for range 10 {
					ctx := t.Context()
					if test.idempotent {
						ctx = idempotent(ctx)
					}
					if _, err := call(ctx, cc); err != nil {
						failed++
					}
				}
				if bad.calls.Load() == 0 {
					t.Fatal("the failing server was never called")
				}
				if got := failed == 0; got != test.answered {
					t.Errorf("%d of 10 calls failed, want none: %v", failed, test.answered)
				}
				w.checkPending()
			})
		})
	}
}

// connected waits in a bubble until all connections that can be made have been.
func connected(t *testing.T, cc *grpc.ClientConn) {
	t.Helper()
	cc.Connect()
	time.Sleep(time.Second)
	synctest.Wait()
}

func TestFailedAttemptsAreExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", failing(codes.Unavailable))
		w.serve("b", failing(codes.Unavailable))
		w.retry = retries(3)
		w.retry.On.AddCode(int(codes.Unavailable))
		w.publish("a", "b")
		cc := w.dial()
		connected(t, cc)
		_, err := call(idempotent(t.Context()), cc)
		e, ok := errors.AsType[*callerr.Error](err)
		if !ok || status.Code(err) != codes.Unavailable {
			t.Fatalf("got %v, want a typed error with the code Unavailable", err)
		}
		if e.Reason != callerr.Reason(engine.AttemptsFailed) || e.Local || len(e.Attempts) != 3 {
			t.Errorf("got %+v, want 3 attempts, not local", e)
		}
		if e.Attempts[0].Endpoint == e.Attempts[1].Endpoint {
			t.Errorf("both of the first attempts went to %s", e.Attempts[0].Endpoint)
		}
		if e.Attempts[0].Fate != "Unavailable" || e.Service != "stock.default" || e.Method != testpb.TestService_UnaryCall_FullMethodName {
			t.Errorf("got %+v", e)
		}
		w.checkPending()
	})
}

// The first try leaves data in the reply and fails. A codec that merges, other than grpc's own, would keep it. Each try
// has a context of its own, as grpc may still read the earlier one.
func TestRetryStartsClean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.retry = retries(2)
		w.retry.On.AddCode(int(codes.Unavailable))
		w.publish("a")
		var tries []any
		inner := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			if left := reply.(*testpb.SimpleResponse).OauthScope; left != "" {
				t.Errorf("try %d found %q in the reply", len(tries)+1, left)
			}
			err := invoker(ctx, method, req, reply, cc, opts...)
			if tries = append(tries, ctx.Value(tryKey{})); len(tries) == 1 {
				reply.(*testpb.SimpleResponse).OauthScope = "left over"
				return status.Error(codes.Unavailable, "lost")
			}
			return err
		}
		name, err := call(idempotent(t.Context()), w.dial(grpc.WithChainUnaryInterceptor(inner)))
		if err != nil || name != "a" || len(tries) != 2 || tries[0] == tries[1] {
			t.Errorf("%d tries, the same: %v, gave %q, %v", len(tries), tries[0] == tries[len(tries)-1], name, err)
		}
		w.checkPending()
	})
}

func TestNotSentIsRetriedForAll(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", nil)
	w.serve("b", nil)
	w.retry = retries(2)
	w.publish("a", "b")
	var tries int
	// Credentials are asked after the endpoint was chosen and before anything is sent.
	cc := w.dial(grpc.WithPerRPCCredentials(credsFunc(func() error {
		if tries++; tries == 1 {
			return status.Error(codes.Unavailable, "no token")
		}
		return nil
	})))
	if _, err := call(t.Context(), cc); err != nil || tries != 2 {
		t.Errorf("%d tries, then %v; want a second one, as the first was not sent", tries, err)
	}
	w.checkPending()
}

type credsFunc func() error

func (f credsFunc) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"token": "secret"}, f()
}
func (credsFunc) RequireTransportSecurity() bool { return false }

func TestPerTryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("slow", func(s *server) {
			s.unary = func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		w.serve("quick", nil)
		w.retry = retries(2)
		w.retry.PerTryTimeout = 100 * time.Millisecond
		w.retry.On.Timeout = true
		w.publish("slow", "quick")
		cc := w.dial()
		connected(t, cc)
		for range 4 {
			start := time.Now()
			name, err := call(idempotent(t.Context()), cc)
			if err != nil || name != "quick" || time.Since(start) > 300*time.Millisecond {
				t.Errorf("%q answered after %v, %v", name, time.Since(start), err)
			}
		}
		w.checkPending()
	})
}

func TestDeadlineAndCancelKeepTheirCodes(t *testing.T) {
	hang := func(s *server) {
		s.unary = func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}
	wait := []grpc.CallOption{grpc.WaitForReady(true)}
	for _, test := range []struct {
		name    string
		prepare func(*world)
		opts    []grpc.CallOption
		late    codes.Code
	}{
		{"in the handler", func(w *world) { w.serve("a", hang); w.publish("a") }, nil, codes.DeadlineExceeded},
		{"before the first plan", func(*world) {}, nil, codes.Unavailable}, // NoInstance
		{"without an instance", func(w *world) { w.publish() }, wait, codes.DeadlineExceeded},
		{"without a connection", func(w *world) { w.publish("a") }, wait, codes.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				test.prepare(w)
				cc := w.dial()
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				defer cancel()
				start := time.Now()
				if _, err := call(ctx, cc, test.opts...); status.Code(err) != test.late {
					t.Errorf("got %v, want %v", err, test.late)
				}
				if time.Since(start) != 2*time.Second {
					t.Errorf("the call ended after %v", time.Since(start))
				}
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(time.Second, cancel)
				if _, err := call(ctx, cc, test.opts...); status.Code(err) != codes.Canceled {
					t.Errorf("got %v, want Canceled", err)
				}
				w.checkPending()
			})
		})
	}
}

func TestWaitForReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.publish("a")
		cc := w.dial()
		_, err := call(t.Context(), cc)
		e, ok := errors.AsType[*callerr.Error](err)
		if !ok || e.Reason != callerr.Reason(engine.NoInstance) || !e.Local || status.Code(err) != codes.Unavailable ||
			!strings.Contains(err.Error(), "connection refused by a") {
			t.Errorf("without wait-for-ready: %v", err)
		}
		time.AfterFunc(20*time.Second, func() { w.serve("a", nil) })
		if name, err := call(t.Context(), cc, grpc.WaitForReady(true)); err != nil || name != "a" {
			t.Errorf("with it: %q, %v", name, err)
		}
		w.checkPending()
	})
}

func TestWaitForReadySeesNewEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.publish()
		cc := w.dial()
		if _, err := call(t.Context(), cc); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
		time.AfterFunc(time.Minute, func() { w.publish("a") })
		if name, err := call(t.Context(), cc, grpc.WaitForReady(true)); err != nil || name != "a" {
			t.Errorf("%q, %v", name, err)
		}
	})
}

// A subset whose only endpoint is down fails fast, although the connection as a whole is ready, and a call that
// waits is woken when that endpoint comes.
func TestReadinessIsThatOfTheDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.rules.Subsets = map[string]map[string]string{"b": {"name": "b"}}
		w.rules.Rules = []routing.Rule{{Match: []routing.Match{{Headers: map[string]routing.StringMatch{"x-to": {Exact: new("b")}}}}, Split: []routing.Share{{Subset: "b"}}}}
		w.publish("a", "b")
		cc := w.dial()
		toB := metadata.AppendToOutgoingContext(t.Context(), "x-to", "b")
		if _, err := call(toB, cc); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v, want Unavailable", err)
		}
		if name, err := call(t.Context(), cc); err != nil || name != "a" {
			t.Errorf("%q, %v", name, err)
		}
		time.AfterFunc(10*time.Second, func() { w.serve("b", nil) })
		if name, err := call(toB, cc, grpc.WaitForReady(true)); err != nil || name != "b" {
			t.Errorf("%q, %v", name, err)
		}
		w.checkPending()
	})
}

func TestCallOptionsAndMetadataBehaveAsWithoutWeft(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", func(s *server) {
		s.unary = func(ctx context.Context, r *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			_ = grpc.SetHeader(ctx, metadata.Pairs("x-head", strings.Join(md["x-user"], ",")))
			_ = grpc.SetTrailer(ctx, metadata.Pairs("x-tail", strings.Join(md["token"], ",")))
			return &testpb.SimpleResponse{Payload: r.Payload}, nil
		}
	}, grpc.MaxRecvMsgSize(16<<20))
	w.publish("a")
	var inner []string
	chained := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		inner = append(inner, method)
		return invoker(ctx, method, req, reply, cc, opts...)
	}
	cc := w.dial(grpc.WithChainUnaryInterceptor(chained), grpc.WithPerRPCCredentials(credsFunc(func() error { return nil })))
	var head, tail metadata.MD
	var from peer.Peer
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x-user", "ann")
	resp, err := testpb.NewTestServiceClient(cc).UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 5<<20)}},
		grpc.Header(&head), grpc.Trailer(&tail), grpc.Peer(&from), grpc.UseCompressor("gzip"), grpc.MaxCallRecvMsgSize(16<<20))
	if err != nil || len(resp.GetPayload().GetBody()) != 5<<20 {
		t.Fatalf("%d bytes, %v", len(resp.GetPayload().GetBody()), err)
	}
	if head.Get("x-head")[0] != "ann" || tail.Get("x-tail")[0] != "secret" || from.Addr == nil || len(inner) != 1 {
		t.Errorf("header %v, trailer %v, peer %v, inner interceptor %v", head, tail, from, inner)
	}
	_, err = testpb.NewTestServiceClient(cc).UnaryCall(ctx, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 5<<20)}})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a reply above grpc's limit gave %v", err)
	}
	w.checkPending()
}

// What grpc refuses before it needs an endpoint comes through as it is.
func TestErrorsBeforeThePickAreGrpcs(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", nil)
	w.publish("a")
	bad := metadata.NewOutgoingContext(t.Context(), metadata.MD{"bad key": {"v"}})
	cc := w.dial()
	_, err := call(bad, cc)
	_, bare := call(bad, w.bare("a"))
	if bare == nil || err == nil || err.Error() != bare.Error() {
		t.Errorf("with Weft %v, without %v", err, bare)
	}
	cc.Close()
	if _, err := call(t.Context(), cc); status.Code(err) != codes.Canceled {
		t.Errorf("on a closed connection: %v", err)
	}
}

func TestTrailerReachesTheClassifier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		s := w.serve("a", func(s *server) {
			s.unary = func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "-1"))
				return nil, status.Error(codes.Unavailable, "go away")
			}
		})
		w.retry = retries(3)
		w.retry.On.AddCode(int(codes.Unavailable))
		w.publish("a")
		if _, err := call(idempotent(t.Context()), w.dial()); status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
		if n := s.calls.Load(); n != 1 {
			t.Errorf("%d attempts, although the server asked not to retry", n)
		}
	})
}

func TestSecondAttemptSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		var words [][]string
		w.serve("a", func(s *server) {
			s.unary = func(ctx context.Context, _ *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				md, _ := metadata.FromIncomingContext(ctx)
				words = append(words, md["weft-attempt"])
				if md.Get("x-user")[0] != "ann" {
					t.Errorf("the application's metadata is %v", md)
				}
				return nil, status.Error(codes.Unavailable, "again")
			}
		})
		w.retry = retries(2)
		w.retry.On.AddCode(int(codes.Unavailable))
		w.publish("a")
		_, _ = call(metadata.AppendToOutgoingContext(idempotent(t.Context()), "x-user", "ann"), w.dial())
		if len(words) != 2 || words[0] != nil || len(words[1]) != 1 || words[1][0] != "2" {
			t.Errorf("weft-attempt was %q", words)
		}
	})
}

// A message that cannot be encoded gets grpc's error, and the server is not blamed for it.
func TestUnsendableMessageSaysNothingOfTheServer(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", failing(codes.Internal))
	w.publish("a")
	client := testpb.NewTestServiceClient(w.dial())
	for _, test := range []struct {
		text  string
		class telemetry.Class
	}{{"\xff", telemetry.Ignorable}, {"fine", telemetry.Failure}} {
		_, err := client.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Message: test.text}})
		attempts, _ := w.recorder.settled()
		if got := attempts[len(attempts)-1].Class; status.Code(err) != codes.Internal || got != test.class {
			t.Errorf("%q: %v, counted as %v, want %v", test.text, err, got, test.class)
		}
	}
	w.checkPending()
}
