package weft_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// aliases is a source with names for other names; what they stand for can be changed.
type aliases struct {
	mu        sync.Mutex
	changed   chan struct{}
	of        map[string]string
	instances map[string][]discovery.Instance
}

func (a *aliases) set(name, target string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of = maps.Clone(a.of)
	a.of[name] = target
	close(a.changed)
	a.changed = make(chan struct{})
}

func (a *aliases) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
	for {
		a.mu.Lock()
		s := discovery.Snapshot{Service: service, Alias: a.of[service], Instances: a.instances[service]}
		changed := a.changed
		a.mu.Unlock()
		s.Missing = s.Alias == "" && len(s.Instances) == 0
		apply(s)
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A caller of an alias uses what that stands for, over both protocols and by every form of the name, and follows a change.
// It is one hop: an alias of an alias leads nowhere.
func TestAlias(t *testing.T) {
	fleet := newFleet(t, 2) // of default, as product
	a := &aliases{changed: make(chan struct{}), instances: map[string][]discovery.Instance{}, of: map[string]string{
		"old.default": "s1.default", "1001:20.default": "s1.default", "twice.default": "old.default", "self.default": "self.default",
		"ring-a.default": "ring-b.default", "ring-b.default": "ring-a.default",
	}}
	for _, in := range fleet.instances {
		service := in.ID[:2] // s1, s2
		in.Service = service
		a.instances[service+".default"] = append(a.instances[service+".default"], in)
	}
	m := join(t, weft.WithService("web"), weft.WithSource(a))
	dial := func(name string) func() string {
		conn, err := grpc.NewClient("weft:///"+name, m.DialOptions()...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return func() string {
			var d weft.Decision
			ctx, cancel := context.WithTimeout(weft.With(t.Context(), weft.Record(&d)), 10*time.Second)
			defer cancel()
			if _, err := pb.NewTestServiceClient(conn).UnaryCall(ctx, &pb.SimpleRequest{}); err != nil {
				return err.Error()
			}
			return d.Service + " " + d.Attempts[0].Endpoint[:2]
		}
	}
	web := func(host string) string {
		var d weft.Decision
		req, _ := http.NewRequestWithContext(weft.With(t.Context(), weft.Record(&d)), http.MethodGet, "http://"+host+"/unary", nil)
		resp, err := (&http.Client{Transport: m.Transport(nil)}).Do(req)
		if err != nil {
			return err.Error()
		}
		resp.Body.Close()
		return d.Service + " " + d.Attempts[0].Endpoint[:2]
	}
	old, legacy := dial("old"), dial("1001:20")
	seen := make(chan string, 100)
	watching, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- m.Watch(watching, "old", func(s discovery.Snapshot) { seen <- s.Service })
	}()
	for i, target := range []string{"s1.default", "s2.default", "s1.default"} {
		if i > 0 {
			a.set("old.default", target)
			a.set("1001:20.default", target)
		}
		want := target + " " + target[:2]
		for name, call := range map[string]func() string{
			"old": old, "1001:20": legacy, "1001:20.default": dial("1001:20.default"), "http": func() string { return web("old") },
			"http full": func() string { return web("old.default.weft") },
		} {
			eventually(t, name+" goes to "+target, 10*time.Second, func() error {
				if got := call(); got != want {
					return fmt.Errorf("got %s", got)
				}
				return nil
			})
		}
		for got := ""; got != target; { // it may hear of one target more than once
			select {
			case got = <-seen:
			case <-time.After(10 * time.Second):
				t.Fatalf("Watch did not see %s", target)
			}
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
	for _, name := range []string{"twice", "self", "ring-a", "ring-b"} {
		if got := dial(name)(); !strings.Contains(got, "no instance") && !strings.Contains(got, string(weft.NoInstance)) {
			t.Errorf("%s: %s, want no instance", name, got)
		}
	}
	if got := web("1001_20.default.weft"); !strings.Contains(got, "DNS label") {
		t.Errorf("an alias that is no DNS label over HTTP: %s", got)
	}
	a.set("old.default", "") // it is a name of its own again, and there is nothing
	eventually(t, "the alias is gone", 10*time.Second, func() error {
		if got := old(); !strings.Contains(got, string(weft.NoInstance)) {
			return errors.New(got)
		}
		return nil
	})
}

// An alias that is pointed elsewhere two hundred times fails no call over either protocol, of callers that repeat none, and
// one that is dialled by its short name is the caller's namespace's before it is default's.
func TestAliasFlipsUnderLoad(t *testing.T) {
	t.Parallel()
	options, cat, _ := roomsOf(t, -1)
	with := func(service string) *weft.Mesh {
		return join(t, append(slices.Clip(options), weft.WithService(service))...)
	}
	serveProduct(t, with("one"), "one")
	serveProduct(t, with("two.shop"), "two")
	serveProduct(t, with("three"), "three")
	name := func(service, namespace string) discovery.Name {
		return discovery.Name{Service: service, Namespace: namespace}
	}
	one, two, missing := name("one", "default"), name("two", "shop"), name("nobody", "shop")
	product := name("product", "shop")
	point := func(at, to discovery.Name) {
		t.Helper()
		if _, _, err := cat.PutAlias(t.Context(), catalog.Alias{Name: at, Target: to}); err != nil {
			t.Fatal(err)
		}
	}
	point(name("product", "default"), name("three", "default")) // behind that of shop
	point(product, one)
	web := with("web.shop")
	var mu sync.Mutex
	services := map[string]int{}
	calls := &load{stop: make(chan struct{}), decided: func(d *weft.Decision) {
		mu.Lock()
		defer mu.Unlock()
		services[d.Service]++
	}}
	calls.run(t, web)
	for i := range 200 {
		point(product, []discovery.Name{two, one}[i%2])
		time.Sleep(5 * time.Millisecond) // so that calls run between any two
	}
	if e := calls.first.Load(); e != nil {
		t.Errorf("%d of %d calls failed, the first with %v", calls.failed.Load(), calls.calls.Load(), *e)
	}
	mu.Lock()
	for _, want := range []string{"one.default", "two.shop"} {
		if services[want] == 0 || len(services) != 2 {
			t.Errorf("the calls went to %v, want one.default and two.shop", services)
		}
	}
	mu.Unlock()
	// Control: the same calls fail when the alias leads nowhere, unless the same name of default does.
	point(product, missing)
	goesTo(t, web, "three.default")
	if _, err := cat.DeleteAlias(t.Context(), name("product", "default")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls of an alias that leads nowhere fail", 10*time.Second, func() error {
		if calls.failed.Load() == 0 {
			return errors.New("none does")
		}
		return nil
	})
	point(product, two)
	goesTo(t, web, "two.shop")
	if _, err := cat.DeleteAlias(t.Context(), product); err != nil {
		t.Fatal(err)
	}
	goesTo(t, web, "")
	close(calls.stop)
	calls.wg.Wait()
}

// goesTo waits until calls of product reach a service over both protocols, "" for none.
func goesTo(t *testing.T, m *weft.Mesh, service string) {
	t.Helper()
	for protocol, c := range callers(t, m) {
		eventually(t, fmt.Sprintf("%s reaches %q", protocol, service), 10*time.Second, func() error {
			var d weft.Decision
			_, err := c.call(weft.With(t.Context(), weft.Record(&d)), request{behave: "ok"})
			if refusal := (*weft.Error)(nil); service == "" && errors.As(err, &refusal) && refusal.Reason == weft.NoInstance {
				return nil
			}
			if err != nil || d.Service != service {
				return fmt.Errorf("got %s: %v", d.Service, err)
			}
			return nil
		})
	}
}
