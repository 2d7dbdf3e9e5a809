package grpcweft

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/telemetry"
)

// settledOnce checks that exactly one attempt and one call were reported, with this code.
func (w *world) settledOnce(code codes.Code) {
	w.t.Helper()
	attempts, calls := w.recorder.settled()
	if len(attempts) != 1 || len(calls) != 1 {
		w.t.Fatalf("%d attempts and %d calls were reported, want one of each", len(attempts), len(calls))
	}
	if attempts[0].Code != int(code) || calls[0].Code != int(code) {
		w.t.Errorf("the attempt ended with %v, the call with %v, want %v", codes.Code(attempts[0].Code), codes.Code(calls[0].Code), code)
	}
	w.checkPending()
}

// streaming runs a test in a bubble with one server and a connection to it.
func streaming(t *testing.T, change func(*server), test func(*testing.T, *world, testpb.TestServiceClient)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", change)
		w.publish("a")
		test(t, w, testpb.NewTestServiceClient(w.dial()))
	})
}

func message(n int) *testpb.StreamingOutputCallRequest {
	return &testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: make([]byte, n)}}
}

func TestBidiStream(t *testing.T) {
	streaming(t, nil, func(t *testing.T, w *world, c testpb.TestServiceClient) {
		s, err := c.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for n := range 3 {
			if err := s.Send(message(n)); err != nil {
				t.Fatal(err)
			}
			if r, err := s.Recv(); err != nil || len(r.Payload.Body) != n {
				t.Fatalf("%v, %v", r, err)
			}
		}
		if attempts, _ := w.recorder.settled(); len(attempts) != 0 || w.pool.Endpoints()[0].Stats.Pending() != 1 {
			t.Errorf("the attempt settled while the stream was open")
		}
		time.Sleep(time.Hour)
		_ = s.CloseSend()
		if _, err := s.Recv(); err != io.EOF {
			t.Errorf("got %v, want EOF", err)
		}
		w.settledOnce(codes.OK)
		if _, calls := w.recorder.settled(); calls[0].Duration != time.Hour {
			t.Errorf("the call took %v, want an hour", calls[0].Duration)
		}
	})
}

func TestServerStream(t *testing.T) {
	streaming(t, nil, func(t *testing.T, w *world, c testpb.TestServiceClient) {
		s, err := c.StreamingOutputCall(t.Context(), &testpb.StreamingOutputCallRequest{ResponseParameters: make([]*testpb.ResponseParameters, 3)})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; ; n++ {
			if _, err = s.Recv(); err != nil {
				break
			}
		}
		if n != 3 || err != io.EOF {
			t.Errorf("%d messages, then %v", n, err)
		}
		w.settledOnce(codes.OK)
	})
}

func TestClientStream(t *testing.T) {
	streaming(t, nil, func(t *testing.T, w *world, c testpb.TestServiceClient) {
		s, err := c.StreamingInputCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if err := s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 5)}}); err != nil {
				t.Fatal(err)
			}
		}
		if r, err := s.CloseAndRecv(); err != nil || r.AggregatedPayloadSize != 15 {
			t.Errorf("%v, %v", r, err)
		}
		w.settledOnce(codes.OK)
	})
}

func TestStreamEndsInEveryWay(t *testing.T) {
	fail := func(s *server) {
		s.duplex = func(ss testpb.TestService_FullDuplexCallServer) error {
			_, _ = ss.Recv()
			ss.SetTrailer(metadata.Pairs("x-tail", "v"))
			return status.Error(codes.DataLoss, "gone")
		}
	}
	for _, test := range []struct {
		name   string
		change func(*server)
		end    func(*testing.T, testpb.TestService_FullDuplexCallClient, context.CancelFunc)
		code   codes.Code
		class  telemetry.Class
	}{
		{"the handler fails", fail, func(t *testing.T, s testpb.TestService_FullDuplexCallClient, _ context.CancelFunc) {
			_ = s.Send(message(1))
			_, err := s.Recv()
			if status.Code(err) != codes.DataLoss || s.Trailer()["x-tail"] == nil {
				t.Errorf("got %v with trailer %v", err, s.Trailer())
			}
			if _, typed := errors.AsType[*callerr.Error](err); typed {
				t.Errorf("an error within a stream is the server's, got %v", err)
			}
		}, codes.DataLoss, telemetry.Failure},
		{"the application gives up", nil, func(_ *testing.T, _ testpb.TestService_FullDuplexCallClient, cancel context.CancelFunc) {
			cancel()
		}, codes.Canceled, telemetry.Ignorable},
		{"the deadline passes", nil, func(*testing.T, testpb.TestService_FullDuplexCallClient, context.CancelFunc) {
			time.Sleep(time.Hour)
		}, codes.DeadlineExceeded, telemetry.Failure},
		{"a message is too large to send", nil, func(t *testing.T, s testpb.TestService_FullDuplexCallClient, _ context.CancelFunc) {
			if err := s.Send(message(2 << 20)); status.Code(err) != codes.ResourceExhausted {
				t.Errorf("got %v", err)
			}
		}, codes.ResourceExhausted, telemetry.Ignorable},
		{"the header shows the end", func(s *server) {
			s.duplex = func(testpb.TestService_FullDuplexCallServer) error { return status.Error(codes.Internal, "no") }
		}, func(_ *testing.T, s testpb.TestService_FullDuplexCallClient, _ context.CancelFunc) {
			_, _ = s.Header()
			_, _ = s.Recv()
		}, codes.Internal, telemetry.Failure},
	} {
		t.Run(test.name, func(t *testing.T) {
			streaming(t, test.change, func(t *testing.T, w *world, c testpb.TestServiceClient) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				s, err := c.FullDuplexCall(ctx, grpc.MaxCallSendMsgSize(1<<20))
				if err != nil {
					t.Fatal(err)
				}
				test.end(t, s, cancel)
				synctest.Wait()
				w.settledOnce(test.code)
				if attempts, _ := w.recorder.settled(); attempts[0].Class != test.class {
					t.Errorf("counted as %v, want %v", attempts[0].Class, test.class)
				}
				cancel()
				_, _ = s.Recv()
				synctest.Wait()
				w.settledOnce(test.code)
			})
		})
	}
}

func TestStreamEndsWithItsConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.publish("a")
		cc := w.dial()
		if _, err := testpb.NewTestServiceClient(cc).FullDuplexCall(t.Context()); err != nil {
			t.Fatal(err)
		}
		cc.Close()
		synctest.Wait()
		w.settledOnce(codes.Canceled)
	})
}

// A stream is created anew if it was not sent, and never after it was opened.
func TestStreamRetry(t *testing.T) {
	for _, test := range []struct {
		name  string
		creds error
		tries int
	}{
		{"not sent", status.Error(codes.Unavailable, "no token"), 2},
		{"opened", nil, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				unavailable := func(s *server) {
					s.duplex = func(testpb.TestService_FullDuplexCallServer) error { return status.Error(codes.Unavailable, "no") }
				}
				a, b := w.serve("a", unavailable), w.serve("b", unavailable)
				w.retry = retries(3)
				w.retry.On.AddCode(int(codes.Unavailable))
				w.publish("a", "b")
				var tries int
				cc := w.dial(grpc.WithPerRPCCredentials(credsFunc(func() error {
					if tries++; tries == 1 {
						return test.creds
					}
					return nil
				})))
				s, err := testpb.NewTestServiceClient(cc).FullDuplexCall(idempotent(t.Context()))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
					t.Errorf("got %v", err)
				}
				if tries != test.tries || a.calls.Load()+b.calls.Load() != 1 {
					t.Errorf("%d tries, %d reached a server", tries, a.calls.Load()+b.calls.Load())
				}
				synctest.Wait()
				w.checkPending()
				if _, calls := w.recorder.settled(); len(calls) != 1 || calls[0].Attempts != test.tries {
					t.Errorf("reported %+v", calls)
				}
			})
		})
	}
}

func TestStreamThatCannotStartGivesATypedError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.publish()
		_, err := testpb.NewTestServiceClient(w.dial()).FullDuplexCall(t.Context())
		if e, ok := errors.AsType[*callerr.Error](err); !ok || e.Reason != callerr.Reason(engine.NoInstance) || status.Code(err) != codes.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}

// A stream that ends before the engine has seen its creation settles all the same.
func TestStreamThatEndsWhileItIsCreated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.publish("a")
		ctx, cancel := context.WithCancel(t.Context())
		cc := w.dial(grpc.WithChainStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			s, err := streamer(ctx, desc, cc, method, opts...)
			cancel()
			synctest.Wait()
			return s, err
		}))
		if _, err := testpb.NewTestServiceClient(cc).FullDuplexCall(ctx); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.settledOnce(codes.Canceled)
	})
}

// An open stream that is judged worth another try is ended before the next one starts.
func TestDiscardedStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		eager := func(o engine.Outcome) engine.Verdict {
			return engine.Verdict{Retryable: o.Open}
		}
		w.engine = engine.New(engine.Config{Classifiers: [engine.NumProtocols]engine.Classifier{engine.GRPC: eager}})
		w.service = w.engine.NewService("stock.default")
		var open, ended int
		w.serve("a", func(s *server) {
			s.duplex = func(ss testpb.TestService_FullDuplexCallServer) error {
				open++
				<-ss.Context().Done()
				ended++
				return nil
			}
		})
		w.retry = retries(2)
		w.publish("a")
		ctx, cancel := context.WithCancel(idempotent(t.Context()))
		if _, err := testpb.NewTestServiceClient(w.dial()).FullDuplexCall(ctx); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if open != 2 || ended != 1 {
			t.Errorf("%d streams were opened and %d ended, want 2 and the first one", open, ended)
		}
		cancel()
		synctest.Wait()
		w.checkPending()
	})
}
