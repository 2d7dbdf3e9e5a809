package registry

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	server "github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/internal/session"
	"github.com/weftmesh/weft/rule"
)

// real is the registry server's own rooms on a store in memory.
type real struct {
	store *store.Memory
	cat   *catalog.Catalog
	srv   *server.Server
	stop  func()

	mu     sync.Mutex
	listen *bufconn.Listener
}

func (r *real) start(t *testing.T) {
	t.Helper()
	cat, err := catalog.Open(r.store, nil)
	if err != nil {
		t.Fatal(err)
	}
	leases := lease.New(cat, nil)
	srv := server.New(cat, leases, server.Options{})
	g := grpc.NewServer(server.ServerOptions()...)
	srv.Register(g)
	listen := bufconn.Listen(1 << 16)
	var serving sync.WaitGroup
	serving.Go(func() { _ = g.Serve(listen) })
	r.cat, r.srv = cat, srv
	r.setListener(listen)
	r.stop = func() {
		r.setListener(nil)
		if err := srv.Close(context.Background()); err != nil {
			t.Error(err)
		}
		g.Stop()
		serving.Wait()
		leases.Close()
		if err := cat.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (r *real) setListener(l *bufconn.Listener) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listen = l
}

func (r *real) dial(ctx context.Context, _ string) (net.Conn, error) {
	r.mu.Lock()
	listen := r.listen
	r.mu.Unlock()
	if listen == nil {
		return nil, net.ErrClosed
	}
	return listen.DialContext(ctx)
}

func (r *real) source(t *testing.T, service, dir string) *Source {
	opts, err := Options{Service: service, Namespace: "shop", CacheDir: dir}.complete()
	if err != nil {
		t.Fatal(err)
	}
	return open(opts, func(context.Context) (session.Endpoint, error) {
		return session.Endpoint{Target: "registry:7070", Insecure: true}, nil
	}, r.dial)
}

// latest keeps the last snapshot and rules of a Watch.
type latest struct {
	mu       sync.Mutex
	snapshot discovery.Snapshot
	removed  int // in all snapshots
	rules    []rule.Rule
	refuse   []rule.Nack
}

func (l *latest) watch(t *testing.T, s *Source) {
	go s.WatchRules(t.Context(), []string{product}, func(rules []rule.Rule) []rule.Nack {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.rules = rules
		return l.refuse
	})
	go s.Watch(t.Context(), product, func(snapshot discovery.Snapshot) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.snapshot = snapshot
		l.removed += len(snapshot.Removed)
	})
}

func (l *latest) get() (discovery.Snapshot, []rule.Rule) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.snapshot, l.rules
}

func TestWithTheRealServer(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &real{store: store.NewMemory()}
		r.start(t)
		callee, caller := r.source(t, "product", ""), r.source(t, "web", dir)
		const many = 500 // more than fits one message
		var regs []discovery.Registration
		for i := range many {
			in := web()
			in.ID = fmt.Sprintf("i%03d", i)
			in.Labels["long"] = fmt.Sprintf("%0200d", i)
			reg, err := callee.Register(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			regs = append(regs, reg)
		}
		seen := &latest{refuse: []rule.Nack{{Kind: "Retry", Namespace: "shop", Name: "r", Reason: "not for me"}}}
		seen.watch(t, caller)
		settle(time.Second)
		if got, _ := seen.get(); len(got.Instances) != many || got.Stale {
			t.Fatalf("%d instances, stale %v, want %d", len(got.Instances), got.Stale, many)
		}

		one, err := rule.ParseOne([]byte(retry("r", 2)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.cat.ApplyRules(t.Context(), catalog.Change{Puts: []rule.Rule{one}}); err != nil {
			t.Fatal(err)
		}
		if err := regs[0].Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		got, rules := seen.get()
		if len(got.Instances) != many-1 || len(rules) != 1 {
			t.Errorf("%d instances, %d rules after a removal and a rule", len(got.Instances), len(rules))
		}
		if len(got.Removed) != 1 || got.Removed[0] != (discovery.Removal{ID: "i000", Reason: discovery.Deregistered}) {
			t.Errorf("removed %v", got.Removed)
		}
		for _, c := range r.srv.Clients() {
			for _, s := range c.Services {
				if s.Sent != s.Acked || s.Name.String() == product && len(s.Nacks) != 1 {
					t.Errorf("%s: sent %v, acknowledged %v, nacks %v", s.Name, s.Sent, s.Acked, s.Nacks)
				}
			}
		}

		r.stop()
		settle(time.Minute) // calls go on with what is known
		if after, _ := seen.get(); len(after.Instances) != many-1 {
			t.Errorf("%d instances while the registry is away", len(after.Instances))
		}
		cold := &latest{}
		if err := caller.Close(); err != nil {
			t.Error(err)
		}
		caller = r.source(t, "web", dir)
		settle(time.Millisecond)
		cold.watch(t, caller)
		settle(time.Millisecond)
		if got, rules := cold.get(); len(got.Instances) != many-1 || !got.Stale || len(rules) != 1 {
			t.Errorf("cold start: %d instances, stale %v, %d rules", len(got.Instances), got.Stale, len(rules))
		}
		r.start(t)
		settle(5 * time.Second)
		if got, rules := cold.get(); len(got.Instances) != many-1 || got.Stale || len(rules) != 1 {
			t.Errorf("after the restart: %d instances, stale %v, %d rules", len(got.Instances), got.Stale, len(rules))
		}

		if err := callee.Close(); err != nil {
			t.Error(err)
		}
		settle(time.Second)
		if got, _ := cold.get(); len(got.Instances) != 0 || cold.removed != many-1 {
			t.Errorf("after Close of the callee: %d instances, %d removals", len(got.Instances), cold.removed)
		}
		if err := caller.Close(); err != nil {
			t.Error(err)
		}
		r.stop()
	})
}
