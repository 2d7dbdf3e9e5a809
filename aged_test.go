package weft_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
)

// counted counts the connections of a listener.
type counted struct {
	net.Listener
	n atomic.Int64
}

func (c *counted) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err == nil {
		c.n.Add(1)
	}
	return conn, err
}

// roomsOf is a registry without REST whose sessions live so long, negative: for ever.
func roomsOf(t *testing.T, age time.Duration) (options []weft.Option, cat *catalog.Catalog, lis *counted) {
	t.Helper()
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	leases := lease.New(cat, nil)
	srv := session.New(cat, leases, session.Options{MaxAge: age})
	identity, pin := identity(t)
	g := grpc.NewServer(append(session.ServerOptions(), grpc.Creds(credentials.NewTLS(identity)))...)
	srv.Register(g)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lis = &counted{Listener: tcp}
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(lis) })
	t.Cleanup(func() {
		if err := srv.Close(context.Background()); err != nil {
			t.Error(err)
		}
		g.Stop()
		serving.Wait()
		leases.Close()
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	})
	return []weft.Option{weft.WithRegistry(tcp.Addr().String()), weft.WithPin(pin), weft.WithToken("any"), weft.WithCacheDir("")}, cat, lis
}

// Sessions that reach their age connect again without anybody noticing: no instance is told as anything but up, and no call
// fails, of callers that repeat none.
func TestSessionsOfAge(t *testing.T) {
	for _, tc := range []struct {
		name string
		age  time.Duration
	}{{"1.5 s", 1500 * time.Millisecond}, {"control: for ever", -1}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			options, _, lis := roomsOf(t, tc.age)
			const instances = 3
			for i := range instances {
				serveProduct(t, join(t, append(slices.Clip(options), weft.WithService("product"))...), fmt.Sprintf("p%d", i))
			}
			web := join(t, append(slices.Clip(options), weft.WithService("web"))...)
			flicker := watchStates(t, web)
			calls := &load{stop: make(chan struct{})}
			calls.run(t, web)
			before := lis.n.Load()
			time.Sleep(4 * time.Second)
			close(calls.stop)
			calls.wg.Wait()
			if e := calls.first.Load(); e != nil {
				t.Errorf("%d of %d calls failed, the first with %v", calls.failed.Load(), calls.calls.Load(), *e)
			}
			if seen := flicker(); len(seen) > 0 {
				t.Errorf("instances were told as %v", seen)
			}
			again := lis.n.Load() - before
			if want := int64(instances + 1); tc.age > 0 && again < want || tc.age < 0 && again > 0 {
				t.Errorf("%d new connections with sessions that live for %s", again, tc.age)
			}
			t.Logf("%d calls, %d new connections", calls.calls.Load(), again)
		})
	}
}

// watchStates gives all states but up that a process was told of the instances of product.
func watchStates(t *testing.T, m *weft.Mesh) (seen func() map[string]int) {
	t.Helper()
	var mu sync.Mutex
	states := map[string]int{}
	ctx, cancel := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() {
		_ = m.Watch(ctx, "product", func(s discovery.Snapshot) {
			mu.Lock()
			defer mu.Unlock()
			for _, in := range s.Instances {
				if in.State != discovery.Up {
					states[in.ID+" "+string(in.State)]++
				}
			}
			for _, r := range s.Removed {
				states[r.ID+" removed"]++
			}
		})
	})
	return func() map[string]int {
		cancel()
		watching.Wait()
		mu.Lock()
		defer mu.Unlock()
		return states
	}
}
