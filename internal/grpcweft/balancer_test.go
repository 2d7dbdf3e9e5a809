package grpcweft

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/attributes"
	grpcbalancer "google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/routing"
)

// load calls in a bubble from several goroutines for as long as body runs, and returns how many calls failed.
func load(t *testing.T, ctx context.Context, cc *grpc.ClientConn, body func()) (calls, failed int64) {
	var stop atomic.Bool
	var done, bad atomic.Int64
	var workers sync.WaitGroup
	for i := range 8 {
		workers.Go(func() {
			time.Sleep(time.Duration(i) * 100 * time.Microsecond)
			for !stop.Load() {
				if _, err := call(ctx, cc); err != nil {
					bad.Add(1)
					t.Log(err)
				}
				done.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	body()
	stop.Store(true)
	workers.Wait()
	return done.Load(), bad.Load()
}

func slowly(s *server) {
	s.unary = func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		time.Sleep(5 * time.Millisecond)
		return &testpb.SimpleResponse{Username: s.name}, nil
	}
}

func TestEndpointsAreReplacedUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		for _, name := range []string{"a", "b", "c", "d"} {
			w.serve(name, slowly)
		}
		w.publish("a", "b")
		cc := w.dial()
		calls, failed := load(t, t.Context(), cc, func() {
			for i := range 50 {
				time.Sleep(20 * time.Millisecond)
				w.publish([][]string{{"c", "d"}, {"a", "b"}, {"b", "c"}, {"d"}}[i%4]...)
			}
		})
		if failed != 0 || calls < 1000 {
			t.Errorf("%d of %d calls failed, want none of more than 1000", failed, calls)
		}
		w.checkPending()
	})
}

// Without retries the same loss of an instance costs calls: the control.
func TestInstanceIsKilledUnderLoad(t *testing.T) {
	for _, protected := range []bool{true, false} {
		t.Run("retries "+strconv.FormatBool(protected), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				w.serve("a", slowly)
				victim := w.serve("b", slowly)
				w.retry = retries(1)
				if protected {
					w.retry = retries(3)
					w.retry.On.AddCode(int(codes.Unavailable))
				}
				w.publish("a", "b")
				cc := w.dial()
				connected(t, cc)
				_, failed := load(t, idempotent(t.Context()), cc, func() {
					time.Sleep(50 * time.Millisecond)
					w.kill(victim)
					time.Sleep(50 * time.Millisecond)
				})
				if got := failed == 0; got != protected {
					t.Errorf("%d calls failed", failed)
				}
				w.checkPending()
			})
		})
	}
}

func TestPushOfWeightsDoesNotReconnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.serve("b", nil)
		specs := func(weight uint32, b string) []balancer.Spec {
			return []balancer.Spec{{ID: "1", Address: "a", Weight: weight, Labels: map[string]string{"w": strconv.Itoa(int(weight))}}, {ID: "2", Address: b}}
		}
		w.publishSpecs(specs(1, "b"))
		cc := w.dial()
		connected(t, cc)
		for weight := range 5 {
			w.publishSpecs(specs(uint32(weight), "b"))
			connected(t, cc)
		}
		if got := w.dialled(); got["a"] != 1 || got["b"] != 1 {
			t.Errorf("after pushes of weights %v dials, want one of each", got)
		}
		w.publishSpecs(specs(1, "a")) // control: another address is another connection
		connected(t, cc)
		if got := w.dialled(); got["a"] != 2 {
			t.Errorf("after a change of address %v dials", got)
		}
	})
}

func TestTwoConnsShareEndpointsAndOneCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.publish("a")
		one, two := w.dial(), w.dial()
		for _, cc := range []*grpc.ClientConn{one, two} {
			if _, err := call(t.Context(), cc); err != nil {
				t.Fatal(err)
			}
		}
		one.Close()
		if _, err := call(t.Context(), two); err != nil {
			t.Errorf("after the other was closed: %v", err)
		}
		w.checkPending()
	})
}

func TestIdleConnIsRebuilt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.serve("a", nil)
		w.serve("b", nil)
		w.publish("a")
		cc := w.dial(grpc.WithIdleTimeout(time.Minute))
		for round := range 3 {
			w.publish([]string{"a", "b"}[round%2])
			if _, err := call(t.Context(), cc); err != nil {
				t.Fatal(err)
			}
			time.Sleep(5 * time.Minute)
			if state := cc.GetState(); state != connectivity.Idle {
				t.Errorf("after five minutes the connection is %v", state)
			}
		}
		w.checkPending()
	})
}

func TestLostConnectionsAreMadeAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		a := w.serve("a", nil)
		w.publish("a")
		cc := w.dial()
		if _, err := call(t.Context(), cc); err != nil {
			t.Fatal(err)
		}
		w.kill(a)
		time.Sleep(time.Minute)
		if _, err := call(t.Context(), cc); status.Code(err) != codes.Unavailable {
			t.Errorf("without a server: %v", err)
		}
		w.serve("a", nil)
		time.Sleep(6*time.Second + 200*time.Millisecond) // the longest pause between two dials, with its jitter
		if _, err := call(t.Context(), cc); err != nil {
			t.Errorf("with it again: %v", err)
		}
	})
}

// A user's own service config, or switching service configs off, does not get around the balancer. Both together
// do, and then nothing is sent.
func TestBalancerCannotBeReplaced(t *testing.T) {
	own := grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`)
	first := grpc.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"pick_first":{}}]}`)
	off := grpc.WithDisableServiceConfig()
	for _, test := range []struct {
		name string
		opts []grpc.DialOption
		ok   bool
	}{
		{"none", nil, true},
		{"own default", []grpc.DialOption{own}, true},
		{"service configs off", []grpc.DialOption{off}, true},
		{"own default and service configs off", []grpc.DialOption{own, off}, false},
		{"pick_first and service configs off", []grpc.DialOption{first, off}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, nil)
				a := w.serve("a", nil)
				w.publish("a")
				_, err := call(t.Context(), w.dial(test.opts...))
				attempts, _ := w.recorder.settled()
				if test.ok && (err != nil || len(attempts) != 1) {
					t.Errorf("%d attempts, %v", len(attempts), err)
				}
				if !test.ok && (!contains(err, "must not be replaced") || a.calls.Load() != 0) {
					t.Errorf("got %v, %d calls at the server; want an explanation", err, a.calls.Load())
				}
			})
		})
	}
}

func TestTransportCredentialsCannotBeReplaced(t *testing.T) {
	w := newWorld(t, nil)
	a := w.serve("a", nil)
	w.publish("a")
	_, err := call(t.Context(), w.dial(grpc.WithTransportCredentials(insecure.NewCredentials())), grpc.WaitForReady(true))
	if !contains(err, "remove your own") || a.calls.Load() != 0 {
		t.Errorf("got %v", err)
	}
}

// The control of both tests above: with grpc's credentials alone, the same address is dialled and called.
func TestPlaintextIsForOurAddressesOnly(t *testing.T) {
	w := newWorld(t, nil)
	w.serve("a", nil)
	for _, test := range []struct {
		name string
		opt  grpc.DialOption
		ok   bool
	}{
		{"ours", grpc.WithTransportCredentials(newPlaintext()), false},
		{"cloned", grpc.WithTransportCredentials(newPlaintext().Clone()), false},
		{"grpc's", grpc.WithTransportCredentials(insecure.NewCredentials()), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			cc, err := grpc.NewClient("passthrough:///a", grpc.WithContextDialer(w.connect), test.opt)
			if err != nil {
				t.Fatal(err)
			}
			defer cc.Close()
			if _, err := call(t.Context(), cc); (err == nil) != test.ok {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A ClientConn that has our balancer but not our interceptor must not call anything.
func TestCallWithoutTheInterceptorFails(t *testing.T) {
	w := newWorld(t, nil)
	a := w.serve("a", nil)
	w.publish("a")
	cc, err := grpc.NewClient("weft:///stock", grpc.WithContextDialer(w.connect),
		grpc.WithResolvers(resolverBuilder{w.client}), grpc.WithTransportCredentials(newPlaintext()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	if _, err := call(t.Context(), cc, grpc.WaitForReady(true)); status.Code(err) != codes.Internal || !contains(err, "stock.default") || a.calls.Load() != 0 {
		t.Errorf("got %v", err)
	}
}

func contains(err error, text string) bool {
	return err != nil && strings.Contains(err.Error(), text)
}

// fakeConn is what grpc gives a balancer, without grpc: connections do what the test says.
type fakeConn struct {
	grpcbalancer.ClientConn
	conns     map[string]*fakeSubConn
	published []connectivity.State
}

type fakeSubConn struct {
	grpcbalancer.SubConn
	listen func(grpcbalancer.SubConnState)
	dialed int
	shut   bool
}

func (f *fakeConn) NewSubConn(addrs []resolver.Address, opts grpcbalancer.NewSubConnOptions) (grpcbalancer.SubConn, error) {
	sc := &fakeSubConn{listen: opts.StateListener}
	f.conns[addrs[0].Addr] = sc
	return sc, nil
}
func (f *fakeConn) UpdateState(s grpcbalancer.State) {
	f.published = append(f.published, s.ConnectivityState)
}
func (f *fakeConn) ResolveNow(resolver.ResolveNowOptions) {}
func (s *fakeSubConn) Connect()                           { s.dialed++ }
func (s *fakeSubConn) Shutdown()                          { s.shut = true }
func (s *fakeSubConn) becomes(state connectivity.State) {
	s.listen(grpcbalancer.SubConnState{ConnectivityState: state, ConnectionError: errors.New("refused")})
}
func (s *fakeSubConn) RegisterHealthListener(func(grpcbalancer.SubConnState)) {}

// fakeFanout is a balancer over fake connections to n endpoints.
func fakeFanout(n int) (*fakeConn, *fanout, []*balancer.Endpoint) {
	cc := &fakeConn{conns: map[string]*fakeSubConn{}}
	b := builder{}.Build(cc, grpcbalancer.BuildOptions{DialCreds: newPlaintext()}).(*fanout)
	eps := make([]*balancer.Endpoint, n)
	for i := range eps {
		eps[i] = &balancer.Endpoint{Spec: balancer.Spec{ID: strconv.Itoa(i), Address: strconv.Itoa(i)}, Stats: new(balancer.Stats)}
	}
	return cc, b, eps
}

func push(t testing.TB, b *fanout, eps []*balancer.Endpoint) {
	t.Helper()
	s := resolver.State{Attributes: attributes.New(endpointsKey{}, &endpoints{"stock.default", eps})}
	if err := b.UpdateClientConnState(grpcbalancer.ClientConnState{ResolverState: s}); err != nil {
		t.Fatal(err)
	}
}

func (f *fakeConn) publications() int {
	n := len(f.published)
	f.published = nil
	return n
}

func TestPublications(t *testing.T) {
	cc, b, eps := fakeFanout(3)
	defer b.Close()
	step := func(what string, want int) {
		t.Helper()
		if n := cc.publications(); n != want {
			t.Errorf("%s: %d publications, want %d", what, n, want)
		}
	}
	push(t, b, eps)
	step("first update", 1)
	push(t, b, eps)
	step("the same again", 1)
	for _, sc := range cc.conns {
		sc.becomes(connectivity.Connecting)
	}
	step("all dial", 0)
	cc.conns["0"].becomes(connectivity.Ready)
	step("first ready", 1)
	cc.conns["1"].becomes(connectivity.Ready)
	step("another ready, nobody waits", 0)
	b.picker.waiters.Store(true)
	cc.conns["2"].becomes(connectivity.Ready)
	step("another ready, somebody waits", 1)
	if b.picker.waiters.Load() {
		t.Error("the waiters were woken and are still noted")
	}
	cc.conns["1"].becomes(connectivity.Idle)
	step("one lost", 1)
	b.wakers.Wait()
	if cc.conns["1"].dialed != 2 {
		t.Errorf("the lost one was dialled %d times, want again", cc.conns["1"].dialed)
	}
	cc.conns["1"].becomes(connectivity.Connecting)
	b.picker.waiters.Store(true)
	cc.conns["1"].becomes(connectivity.TransientFailure)
	step("the last hope of who waits is gone", 1)
	b.picker.waiters.Store(true)
	cc.conns["1"].becomes(connectivity.Idle)
	cc.conns["1"].becomes(connectivity.Connecting)
	cc.conns["1"].becomes(connectivity.TransientFailure)
	step("it fails again", 0)
	push(t, b, eps[:1])
	step("two are gone", 1)
	if !cc.conns["1"].shut || !cc.conns["2"].shut || cc.conns["0"].shut {
		t.Error("the wrong connections were closed")
	}
	cc.conns["2"].becomes(connectivity.Idle)
	step("news of one that is gone", 0)
	push(t, b, nil)
	if got := cc.published; len(got) != 1 || got[0] != connectivity.TransientFailure {
		t.Errorf("without endpoints: %v", got)
	}
}

// Bringing up ten times the endpoints allocates about ten times as much, and wakes nobody for each of them.
func TestBringUpIsLinear(t *testing.T) {
	mallocs := func(n int) float64 {
		cc, b, eps := fakeFanout(n)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		push(t, b, eps)
		for _, sc := range cc.conns {
			sc.becomes(connectivity.Connecting)
			sc.becomes(connectivity.Ready)
		}
		push(t, b, eps)
		runtime.ReadMemStats(&after)
		if n := cc.publications(); n != 3 {
			t.Errorf("%d publications, want 3", n)
		}
		b.Close()
		return float64(after.Mallocs - before.Mallocs)
	}
	small, large := mallocs(1_000), mallocs(10_000)
	t.Logf("%.1f allocations for each of 1,000 endpoints, %.1f for each of 10,000", small/1_000, large/10_000)
	if ratio := large / small; ratio > 12 {
		t.Errorf("ten times the endpoints cost %.1f times the allocations", ratio)
	}
}

// A connection that becomes ready after a pick found none, and before it is noted that somebody waits, is not
// published: the pick must look again. The control looks once, and would wait for ever.
func TestPickLooksAgainBeforeItWaits(t *testing.T) {
	for _, protected := range []bool{true, false} {
		t.Run("second look "+strconv.FormatBool(protected), func(t *testing.T) {
			w := newWorld(t, nil)
			cc, b, _ := fakeFanout(0)
			defer b.Close()
			w.rules.Subsets = map[string]map[string]string{"a": {"name": "a"}}
			w.rules.Rules = []routing.Rule{{Split: []routing.Share{{Subset: "a"}}}}
			w.rules.Policy = hookPolicy{w.rules.Policy, sync.OnceFunc(func() { cc.conns["a"].becomes(connectivity.Ready) })}
			w.publish("a", "b")
			push(t, b, w.pool.Endpoints())
			cc.conns["b"].becomes(connectivity.Ready)
			cc.publications()
			look := func(t1 *try) error {
				if protected {
					_, err := b.picker.Pick(grpcbalancer.PickInfo{Ctx: t1})
					return err
				}
				_, err := b.picker.choose(t1)
				return err
			}
			tr := transport(func(a *engine.Attempt) engine.Outcome {
				if err := look(&try{Context: a.Context(), attempt: a}); (err == nil) != protected || cc.publications() != 0 {
					t.Errorf("got %v, and a publication: %v", err, len(cc.published) > 0)
				}
				return engine.Outcome{Protocol: engine.GRPC, Sent: true}
			})
			if r := w.service.Do(t.Context(), &engine.Call{Protocol: engine.GRPC}, tr); r != nil {
				t.Error(r)
			}
			w.checkPending()
		})
	}
}

// A connection that is lost after it was chosen is given to grpc all the same, which sees that and picks again.
func TestPickRacesWithTheLossOfAConnection(t *testing.T) {
	w := newWorld(t, nil)
	cc, b, _ := fakeFanout(0)
	defer b.Close()
	w.rules.Policy = lossPolicy{w.rules.Policy, func() { cc.conns["a"].becomes(connectivity.Idle) }}
	w.publish("a")
	push(t, b, w.pool.Endpoints())
	cc.conns["a"].becomes(connectivity.Ready)
	tr := transport(func(a *engine.Attempt) engine.Outcome {
		result, err := b.picker.Pick(grpcbalancer.PickInfo{Ctx: &try{Context: a.Context(), attempt: a}})
		if err != nil || result.SubConn != cc.conns["a"] {
			t.Errorf("got %v, %v", result.SubConn, err)
		}
		return engine.Outcome{Protocol: engine.GRPC, Sent: true}
	})
	if r := w.service.Do(t.Context(), &engine.Call{Protocol: engine.GRPC}, tr); r != nil {
		t.Error(r)
	}
}

// lossPolicy runs something after each choice.
type lossPolicy struct {
	balancer.Policy
	lose func()
}

func (p lossPolicy) Picker(eps []*balancer.Endpoint) balancer.Picker {
	return lossPicker{p.Policy.Picker(eps), p.lose}
}

type lossPicker struct {
	balancer.Picker
	lose func()
}

func (p lossPicker) Pick(in *balancer.Pick) *balancer.Endpoint {
	defer p.lose()
	return p.Picker.Pick(in)
}

// hookPolicy runs something at the end of a Select that finds nothing: when it asks for the last resort.
type hookPolicy struct {
	balancer.Policy
	hook func()
}

func (p hookPolicy) Picker(eps []*balancer.Endpoint) balancer.Picker {
	if len(eps) == 0 {
		return hookPicker(p.hook)
	}
	return p.Policy.Picker(eps)
}

type hookPicker func()

func (h hookPicker) Pick(*balancer.Pick) *balancer.Endpoint { h(); return nil }

type transport func(*engine.Attempt) engine.Outcome

func (tr transport) Try(a *engine.Attempt) engine.Outcome { return tr(a) }
func (tr transport) Discard(*engine.Attempt)              {}

// Connections come and go while plans are published and calls are made. A wrong order of locks hangs this test.
func TestChurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		names := []string{"a", "b", "c", "d"}
		for _, name := range names {
			w.serve(name, nil)
		}
		w.publish("a")
		var made atomic.Int64
		var workers sync.WaitGroup
		for i := range 4 {
			workers.Go(func() {
				for range churn {
					cc := w.dial(grpc.WithIdleTimeout(3 * time.Millisecond))
					for range 5 {
						if _, err := call(t.Context(), cc); err != nil {
							t.Error(err)
						}
						made.Add(1)
						time.Sleep(time.Duration(i) * 2 * time.Millisecond)
					}
					cc.Close()
				}
			})
		}
		workers.Go(func() {
			for i := range 10 * churn {
				w.publish(names[i%4:]...)
				time.Sleep(time.Millisecond)
			}
		})
		workers.Wait()
		if made.Load() != 4*churn*5 {
			t.Errorf("%d calls were made", made.Load())
		}
		w.checkPending()
	})
}

func TestCloseEndsCallsThatWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, nil)
		w.publish("a")
		cc := w.dial()
		time.AfterFunc(time.Minute, func() { cc.Close() })
		if _, err := call(t.Context(), cc, grpc.WaitForReady(true)); status.Code(err) != codes.Canceled {
			t.Errorf("got %v, want Canceled, as without Weft", err)
		}
	})
}
