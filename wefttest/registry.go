// Package wefttest lets a program test its own code and its own rules in go test, against a real registry and real calls,
// with nothing to set up: the registry runs inside the test on loopback ports it finds itself, keeps everything in memory,
// and is gone when the test ends.
//
//	func TestCanary(t *testing.T) {
//		t.Parallel()
//		reg := wefttest.New(t)
//		v1 := reg.Service("product", nil, "version=v1")       // a fake instance that records its calls
//		v2 := reg.Service("product", myHandler, "version=v2")
//		reg.Apply(canary)                                     // the very YAML that production gets
//
//		m := reg.Mesh(weft.WithService("web"))                // what the program's own code is given
//		checkout := shop.NewCheckout(&http.Client{Transport: m.Transport(nil)})
//		…
//		if n := len(v2.Calls()); n != 10 { … }
//	}
//
// A test never has to sleep. What changes something ([Registry.Apply], [Registry.Delete], [Registry.Service],
// [Service.Close], …) returns only when every mesh that is joined to the registry works by it, and fails the test if that
// takes more than 10 s. Any number of registries can run side by side, one in each parallel test. No environment
// variable has a say, and nothing is written to disk.
//
// Sockets are real, so a registry cannot be used inside a bubble of testing/synctest.
package wefttest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/server"
	"github.com/weftmesh/weft/internal/registry/store"
)

// patience is how long anything may take before the test fails.
const patience = 10 * time.Second

// Registry is a registry server that lives as long as a test. Its methods fail the test when something goes wrong, so they
// are to be called from the test's own goroutine, as [testing.T.FailNow] is.
type Registry struct {
	t      testing.TB
	server *server.Server
	client *http.Client

	mu     sync.Mutex
	serial map[string]int // of the last fake instance, by service
}

// New starts a registry, which is stopped when the test and its subtests have ended. Its warnings go to the test's log.
func New(t testing.TB) *Registry {
	t.Helper()
	s, err := server.New(server.Config{
		GRPCAddr: "127.0.0.1:0",
		HTTPAddr: "127.0.0.1:0",
		Store:    store.NewMemory(),
		Log:      slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		t.Fatalf("wefttest: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	r := &Registry{t: t, server: s, client: &http.Client{Transport: &http.Transport{}, Timeout: patience}, serial: map[string]int{}}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Errorf("wefttest: the registry did not end well: %v", err)
		}
	})
	return r
}

// Mesh joins a mesh to the registry, as [weft.New] does with the same options, and closes it when the test ends. It has no
// cache on disk.
func (r *Registry) Mesh(options ...weft.Option) *weft.Mesh {
	r.t.Helper()
	own := []weft.Option{weft.WithRegistry(r.Addr()), weft.WithPin(r.server.Pin()), weft.WithToken(r.server.WorkloadToken()), weft.WithCacheDir("")}
	m, err := weft.New(append(own, options...)...)
	if err != nil {
		r.t.Fatalf("wefttest: %v", err)
	}
	r.t.Cleanup(func() { closeMesh(r.t, m) })
	return m
}

func closeMesh(t testing.TB, m *weft.Mesh) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Errorf("wefttest: closing a mesh: %v", err)
	}
}

// Addr is where the registry takes sessions, host:port.
func (r *Registry) Addr() string { return r.server.GRPCAddr() }

// URL is where its REST interface is, for code that uses that: "http://127.0.0.1:54321".
func (r *Registry) URL() string { return "http://" + r.server.HTTPAddr() }

// AdminToken is the bearer token for [Registry.URL].
func (r *Registry) AdminToken() string { return r.server.AdminToken() }

// Instances lists the instances of a service ("product" or "product.shop") as the registry knows them, sorted by id.
func (r *Registry) Instances(service string) []weft.Instance {
	r.t.Helper()
	list, _ := r.server.Catalog().Instances(r.name(service))
	return list
}

// WaitFor waits until exactly n instances of a service are up, and all meshes that use it know. It is for instances that
// come and go by themselves, such as those of child processes; those of [Registry.Service] need no waiting.
func (r *Registry) WaitFor(service string, n int) {
	r.t.Helper()
	name := r.name(service)
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	changed := make(chan struct{}, 1)
	defer r.server.Catalog().Subscribe(func([]discovery.Name) {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	for r.up(name) != n {
		select {
		case <-changed:
		case <-ctx.Done():
			r.t.Fatalf("wefttest: service %s: after %s it has %s, and not %d that are up", name, patience, states(r.Instances(service)), n)
		}
	}
	r.settle(name)
}

func (r *Registry) up(name discovery.Name) (n int) {
	list, _ := r.server.Catalog().Instances(name)
	for _, in := range list {
		if in.State == discovery.Up {
			n++
		}
	}
	return n
}

// states says what there is, such as "product-1 up, product-2 suspect".
func states(list []weft.Instance) string {
	if len(list) == 0 {
		return "no instance"
	}
	words := make([]string, len(list))
	for i, in := range list {
		words[i] = fmt.Sprintf("%s %s", in.ID, in.State)
	}
	return strings.Join(words, ", ")
}

func (r *Registry) name(service string) discovery.Name {
	r.t.Helper()
	name, err := discovery.ParseName(service, discovery.DefaultNamespace)
	if err != nil {
		r.t.Fatalf("wefttest: %v", err)
	}
	return name
}
