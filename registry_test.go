package weft_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	registryserver "github.com/weftmesh/weft/internal/registry/server"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registryHome gives the test a configuration directory of its own, and a registry address that is free.
func registryHome(t *testing.T) (addr string) {
	t.Helper()
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

// startRegistry runs a registry server on addr with its data in dir; stop ends it and waits.
func startRegistry(t *testing.T, addr, dir string) (stop func()) {
	t.Helper()
	s, err := registryserver.New(registryserver.Config{GRPCAddr: addr, HTTPAddr: "127.0.0.1:0", DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var err2 error
	done := false
	stop = func() {
		if cancel(); !done {
			done, err2 = true, <-ended
		}
		if err2 != nil {
			t.Errorf("the registry ended with %v", err2)
		}
	}
	t.Cleanup(stop)
	return stop
}

func join(t *testing.T, options ...weft.Option) *weft.Mesh {
	t.Helper()
	m, err := weft.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })
	return m
}

// serveProduct runs one instance of product over both protocols and registers it.
func serveProduct(t *testing.T, m *weft.Mesh, id string) (close func(context.Context) error) {
	t.Helper()
	s := &server{fleet: &fleet{count: map[string]int{}}, name: id}
	web := httptest.NewUnstartedServer(m.Handler(s))
	web.Listener = m.Listener(web.Listener)
	web.Start()
	t.Cleanup(web.Close)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(m.ServerOptions()...)
	pb.RegisterTestServiceServer(g, s)
	go g.Serve(lis)
	t.Cleanup(g.Stop)
	var regs []*weft.Registration
	for protocol, addr := range map[weft.Protocol]string{weft.GRPC: lis.Addr().String(), weft.HTTP: strings.TrimPrefix(web.URL, "http://")} {
		reg, err := m.Register(t.Context(), weft.Instance{ID: id + "-" + string(protocol), Address: addr, Protocol: protocol})
		if err != nil {
			t.Fatal(err)
		}
		regs = append(regs, reg)
	}
	return func(ctx context.Context) error {
		return errors.Join(regs[0].Close(ctx), regs[1].Close(ctx))
	}
}

func callBoth(ctx context.Context, t *testing.T, m *weft.Mesh) error {
	t.Helper()
	var errs []error
	for protocol, c := range callers(t, m) {
		if _, err := c.call(ctx, request{behave: "ok"}); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", protocol, err))
		}
	}
	return errors.Join(errs...)
}

// eventually repeats a call until it succeeds and fails the test after limit.
func eventually(t *testing.T, what string, limit time.Duration, ask func() error) time.Duration {
	t.Helper()
	start := time.Now()
	for {
		err := ask()
		if err == nil {
			return time.Since(start)
		}
		if time.Since(start) > limit {
			t.Fatalf("%s: not within %s: %v", what, limit, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestThroughTheRegistry(t *testing.T) {
	addr := registryHome(t)
	startRegistry(t, addr, t.TempDir())
	product := join(t, weft.WithService("product"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	leave := serveProduct(t, product, "p1")
	web := join(t, weft.WithService("web"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := callBoth(ctx, t, web); err != nil {
		t.Fatal(err)
	}
	if text, err := web.Describe("product"); err != nil || !strings.Contains(text, "p1-grpc") || !strings.Contains(text, "p1-http") {
		t.Errorf("Describe: %v\n%s", err, text)
	}
	if err := leave(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls to a service whose only instance has left are refused", 10*time.Second, func() error {
		err := callBoth(ctx, t, web)
		var e *weft.Error
		if errors.As(err, &e) && e.Reason == weft.NoInstance && weft.IsLocal(err) {
			return nil
		}
		return fmt.Errorf("got %v, want NoInstance", err)
	})
}

func TestShortNamesAreLookedUpInTheCallersNamespaceFirst(t *testing.T) {
	addr := registryHome(t)
	startRegistry(t, addr, t.TempDir())
	common := join(t, weft.WithService("product"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	leaveCommon := serveProduct(t, common, "common")
	web := join(t, weft.WithService("web.shop"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	caller := newHTTPCaller(web)
	endpoint := func() string {
		var d weft.Decision
		if _, err := caller.call(weft.With(t.Context(), weft.Record(&d)), request{behave: "ok"}); err != nil {
			return err.Error()
		}
		return d.Attempts[0].Endpoint
	}
	if got := endpoint(); got != "common-http" {
		t.Fatalf("product from shop went to %s, want default's", got)
	}
	shop := join(t, weft.WithService("product.shop"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	serveProduct(t, shop, "shop")
	full := newHTTPCaller(web)
	eventually(t, "product.shop is callable by its full name", 10*time.Second, func() error {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://product.shop.weft/unary", nil)
		resp, err := full.client.Do(req)
		if err == nil {
			resp.Body.Close()
		}
		return err
	})
	if got := endpoint(); got != "common-http" {
		t.Errorf("the short name flipped to %s while default's product still exists", got)
	}
	if err := leaveCommon(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the short name follows once default's product is gone", 10*time.Second, func() error {
		if got := endpoint(); got != "shop-http" {
			return errors.New(got)
		}
		return nil
	})
}

func TestRegistryAbsentWithoutACache(t *testing.T) {
	addr := registryHome(t)
	start := time.Now()
	web := join(t, weft.WithService("web"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	if took := time.Since(start); took > time.Second {
		t.Errorf("New took %s without a registry", took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := callBoth(ctx, t, web)
	var e *weft.Error
	if !errors.As(err, &e) || !weft.IsLocal(err) {
		t.Errorf("a call without registry and cache: %v, want a typed local error", err)
	}
	product := join(t, weft.WithService("product"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	pending := make(chan func(context.Context) error, 1)
	go func() { pending <- serveProduct(t, product, "p1") }() // returns after 2 s, pending
	startRegistry(t, addr, t.TempDir())
	took := eventually(t, "recovery after the registry appeared", 25*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return callBoth(ctx, t, web)
	})
	<-pending
	t.Logf("recovered %s after the registry was started", took)
}

func TestRegistryAbsentWithAWarmCache(t *testing.T) {
	addr := registryHome(t)
	stop := startRegistry(t, addr, t.TempDir())
	product := join(t, weft.WithService("product"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	serveProduct(t, product, "p1")
	cache := filepath.Join(t.TempDir(), "cache")
	before := join(t, weft.WithService("web"), weft.WithRegistry(addr), weft.WithCacheDir(cache))
	if err := callBoth(t.Context(), t, before); err != nil {
		t.Fatal(err)
	}
	if err := before.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	for name, dir := range map[string]string{"with the cache": cache, "control: without": ""} {
		web := join(t, weft.WithService("web"), weft.WithRegistry(addr), weft.WithCacheDir(dir))
		patience := 500 * time.Millisecond
		if dir != "" {
			patience = 10 * time.Second
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		start := time.Now()
		err := callBoth(ctx, t, web)
		cancel()
		if (err == nil) != (dir != "") {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %s", name, time.Since(start))
	}
}

// A registration reaches a subscribed client by push.
func TestPush(t *testing.T) {
	addr := registryHome(t)
	startRegistry(t, addr, t.TempDir())
	web := join(t, weft.WithService("web"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	product := join(t, weft.WithService("product"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	seen := make(chan string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	watching := make(chan error, 1)
	go func() {
		watching <- web.Watch(ctx, "product", func(s discovery.Snapshot) {
			for _, in := range s.Instances {
				seen <- in.ID
			}
		})
	}()
	var took []time.Duration
	for i := range 20 {
		id := fmt.Sprintf("p%d", i)
		start := time.Now()
		reg, err := product.Register(t.Context(), weft.Instance{ID: id, Address: "127.0.0.1:9", Protocol: weft.HTTP})
		if err != nil {
			t.Fatal(err)
		}
		for got := ""; got != id; {
			select {
			case got = <-seen:
			case <-time.After(10 * time.Second):
				t.Fatalf("instance %s was not pushed within 10 s", id)
			}
		}
		took = append(took, time.Since(start))
		if err := reg.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(took)
	t.Logf("from Register to the push at another process's watcher: median %s, slowest %s of %d", took[len(took)/2], took[len(took)-1], len(took))
	cancel()
	if err := <-watching; !errors.Is(err, context.Canceled) {
		t.Errorf("Watch ended with %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, tc := range map[string]struct {
		option weft.Option
		want   string
	}{
		"service":   {weft.WithService("Web_1"), `service name "Web_1"`},
		"registry":  {weft.WithRegistry("localhost"), `WithRegistry("localhost")`},
		"endpoints": {weft.WithEndpoints("product", "10.0.0.1"), `"10.0.0.1"`},
		"source":    {weft.WithSource(nil), "WithSource(nil)"},
	} {
		if m, err := weft.New(tc.option); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want an error that names %s", name, err, tc.want)
			if m != nil {
				m.Close(t.Context())
			}
		}
	}
}
