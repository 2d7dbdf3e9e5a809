package weft_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/discovery/registry"
	"github.com/weftmesh/weft/rule"
)

// A rolling restart under load fails no call, of callers that never repeat one, though a caller is slow to take note of
// what drains: its instances wait until it has.
func TestRollingRestart(t *testing.T) {
	calls, failed, first := roll(t)
	if failed > 0 {
		t.Errorf("%d of %d calls failed, the first with: %v", failed, calls, first)
	}
	t.Logf("%d calls", calls)
}

// Control: without waiting for the callers some calls fail.
func TestRollingRestartControl(t *testing.T) {
	if calls, failed, _ := roll(t, weft.Hasty()); failed == 0 {
		t.Errorf("none of %d calls failed though the instances did not wait: the test above proves nothing", calls)
	}
}

// roll restarts five instances one after the other, each over both protocols, while calls run.
func roll(t *testing.T, options ...weft.Option) (calls, failed int64, first error) {
	addr := registryHome(t)
	startRegistry(t, addr, t.TempDir())
	options = append(options, weft.WithService("product"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	var stops []func()
	for range 5 {
		stops = append(stops, runProduct(t, options...))
	}
	once, err := rule.Parse([]byte("kind: Retry\nname: once\nservice: product\nspec: {attempts: 1}\n"))
	if err != nil {
		t.Fatal(err)
	}
	quick := join(t, weft.WithService("web"), weft.WithRegistry(addr), weft.WithCacheDir(""), weft.WithRules(once...))
	slow := join(t, weft.WithService("web"), weft.WithSource(lateToDrain(t, addr)), weft.WithRules(once...))
	l := &load{stop: make(chan struct{})}
	l.run(t, quick)
	l.run(t, slow)
	for i := range stops {
		next := runProduct(t, options...)
		stops[i]()
		stops[i] = next
	}
	close(l.stop)
	l.wg.Wait()
	for _, stop := range stops {
		stop()
	}
	if e := l.first.Load(); e != nil {
		first = *e
	}
	return l.calls.Load(), l.failed.Load(), first
}

// load is calls that run until stop is closed.
type load struct {
	stop          chan struct{}
	repeatable    bool
	decided       func(*weft.Decision) // of each call that succeeded; may be nil
	wg            sync.WaitGroup
	calls, failed atomic.Int64
	first         atomic.Pointer[error]
}

func (l *load) run(t *testing.T, m *weft.Mesh) {
	for _, c := range callers(t, m) {
		if _, err := c.call(t.Context(), request{behave: "ok"}); err != nil { // it knows the service
			t.Fatal(err)
		}
		for range 2 {
			l.wg.Go(func() { l.call(t.Context(), c) })
		}
	}
}

func (l *load) call(ctx context.Context, c caller) {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-l.stop:
			return
		case <-ctx.Done(): // the test failed
			return
		case <-tick.C:
		}
		l.calls.Add(1)
		var d weft.Decision
		_, err := c.call(weft.With(ctx, weft.Record(&d)), request{behave: "ok", repeatable: l.repeatable})
		switch {
		case err != nil:
			l.failed.Add(1)
			l.first.CompareAndSwap(nil, &err)
		case l.decided != nil:
			l.decided(&d)
		}
	}
}

// runProduct is a process with one instance of product over both protocols; stop ends it as a deployment does.
func runProduct(t *testing.T, options ...weft.Option) (stop func()) {
	t.Helper()
	m := join(t, options...)
	s := &server{fleet: &fleet{count: map[string]int{}}, name: "p"}
	web := &http.Server{Handler: m.Handler(s)}
	rpc := grpc.NewServer(m.ServerOptions()...)
	pb.RegisterTestServiceServer(rpc, s)
	var serving sync.WaitGroup
	var regs []*weft.Registration
	for protocol, serve := range map[weft.Protocol]func(net.Listener) error{
		weft.HTTP: func(l net.Listener) error { return web.Serve(m.Listener(l)) }, weft.GRPC: rpc.Serve,
	} {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		serving.Go(func() { _ = serve(lis) })
		reg, err := m.Register(t.Context(), weft.Instance{Address: lis.Addr().String(), Protocol: protocol})
		if err != nil {
			t.Fatal(err)
		}
		regs = append(regs, reg)
	}
	return func() {
		var closing sync.WaitGroup
		for _, reg := range regs {
			closing.Go(func() {
				if err := reg.Close(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
		closing.Wait()
		web.Close() // whoever still comes is cut off, as by a process that ends
		rpc.Stop()
		serving.Wait()
		if err := m.Close(context.Background()); err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

// late is a source that takes its time to hear that something drains, and acknowledges only then.
type late struct{ *registry.Source }

// lateness is far above what a caller needs, and far below the 5 s that an instance waits.
const lateness = 200 * time.Millisecond

func lateToDrain(t *testing.T, addr string) late {
	s, err := registry.New(registry.Options{Addrs: strings.Split(addr, ","), Service: "web"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return late{s}
}

func (l late) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
	return l.Source.Watch(ctx, service, func(s discovery.Snapshot) {
		for _, in := range s.Instances {
			if in.State == discovery.Draining {
				time.Sleep(lateness)
				break
			}
		}
		apply(s)
	})
}
