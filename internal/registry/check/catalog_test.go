package check

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// TestWithCatalog: an instance whose check fails is unhealthy to callers, until the check succeeds. In real time, as it is
// about a real connection; the shortest interval is a second.
func TestWithCatalog(t *testing.T) {
	t.Parallel()
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer cat.Close()
	var down atomic.Bool
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" || down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer srv.Close()
	checker := New(cat, Options{Enabled: true, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	defer checker.Close()
	in := discovery.Instance{ID: "p1", Service: "product", Address: srv.Listener.Addr().String(), Protocol: discovery.HTTP}
	terms := catalog.Terms{Check: &catalog.Check{Type: "http", Path: "/ready", Interval: time.Second, Timeout: time.Second, Failures: 1}}
	if _, err := cat.PutTerms(t.Context(), []discovery.Instance{in}, terms); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		down bool
		want discovery.State
	}{{true, discovery.Unhealthy}, {false, discovery.Up}, {true, discovery.Unhealthy}} {
		down.Store(step.down)
		state := discovery.State("")
		for range 300 {
			if got, _, _ := cat.Instance(key("p1").Service, "p1"); got.State == step.want {
				state = got.State
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if state != step.want {
			t.Fatalf("30 s after down was %v it is not %s", step.down, step.want)
		}
	}
}
