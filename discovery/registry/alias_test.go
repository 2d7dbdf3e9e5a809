package registry

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// What the registry says of an alias is delivered, follows its changes, outlasts a cold start and ends with it.
func TestAlias(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		r := &real{store: store.NewMemory()}
		r.start(t)
		legacy := discovery.Name{Service: "1001:20", Namespace: "shop"}
		point := func(target string) {
			t.Helper()
			a := catalog.Alias{Name: legacy, Target: discovery.Name{Service: target, Namespace: "shop"}}
			if _, _, err := r.cat.PutAlias(t.Context(), a); err != nil {
				t.Fatal(err)
			}
			settle(time.Second)
		}
		var mu sync.Mutex
		watch := func(s *Source) (last func() discovery.Snapshot) {
			var got discovery.Snapshot
			go s.Watch(t.Context(), legacy.String(), func(s discovery.Snapshot) {
				mu.Lock()
				defer mu.Unlock()
				got = s
			})
			settle(time.Second)
			return func() discovery.Snapshot {
				mu.Lock()
				defer mu.Unlock()
				return got
			}
		}
		s := r.source(t, "web", dir)
		last := watch(s)
		if got := last(); !got.Missing || got.Alias != "" {
			t.Errorf("before: %+v", got)
		}
		for _, target := range []string{"product", "stock"} {
			point(target)
			if got := last(); got.Missing || got.Alias != target+".shop" {
				t.Errorf("pointed to %s: %+v", target, got)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		r.stop()
		s = r.source(t, "web", dir)
		if last = watch(s); !last().Stale || last().Alias != "stock.shop" {
			t.Errorf("cold: %+v", last())
		}
		r.start(t)
		settle(5 * time.Second)
		if got := last(); got.Stale || got.Alias != "stock.shop" {
			t.Errorf("after the restart: %+v", got)
		}
		if _, err := r.cat.DeleteAlias(t.Context(), legacy); err != nil {
			t.Fatal(err)
		}
		settle(time.Second)
		if got := last(); !got.Missing || got.Alias != "" {
			t.Errorf("after the end: %+v", got)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		r.stop()
	})
}
