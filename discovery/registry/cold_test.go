package registry

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

func TestColdStartWithAWarmCache(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.warm()
		s := w.source()
		settle(time.Millisecond) // the first attempt has failed
		seen := w.watch(s)
		w.wantSeen(seen, "rules r=2", "7-5 a b stale")
		if seen.delivered() != 0 {
			t.Errorf("delivered after %v, want at once", seen.delivered())
		}
		settle(time.Minute)
		w.wantSeen(seen)

		w.server.Push(snapshot(6, retry("r", 3), "b", "c"))
		w.server.Start()
		settle(5 * time.Second)
		w.wantSeen(seen, "rules r=3", "7-6 b c")
		w.close(s)
	})
}

// Control of the above: without the cache there is nothing to deliver, and the registry is found when it appears.
func TestColdStartWithoutACache(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		s := w.source()
		seen := w.watch(s)
		settle(time.Minute)
		w.wantSeen(seen)
		if s.LastError() == nil || s.State() == "connected" {
			t.Errorf("state %v, error %v", s.State(), s.LastError())
		}
		w.server.Push(snapshot(6, "", "a"))
		w.server.Start()
		settle(5 * time.Second)
		w.wantSeen(seen, "rules", "7-6 a")
		if s.LastError() != nil {
			t.Error(s.LastError())
		}
		w.close(s)
	})
}

// A registry that connects but does not answer has a head start and no more.
func TestColdStartWithASlowRegistry(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.warm()
		w.server.Answer = func(*weftv1.Interest) *weftv1.Update { return nil }
		w.server.Start()
		s := w.source()
		settle(time.Millisecond)
		seen := w.watch(s)
		settle(headStart)
		w.wantSeen(seen, "rules r=2", "7-5 a b stale")
		if seen.delivered() != headStart {
			t.Errorf("delivered after %v, want %v", seen.delivered(), headStart)
		}
		w.close(s)
	})
}

// With the registry there, nothing stale is seen; it is asked from just before what the cache has, so that it answers
// with the reasons of what went and confirms the rest.
func TestWarmStart(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.warm()
		sessiontest.Heard(w.server, (*weftv1.ConnectRequest).GetSubscribe)
		w.server.Answer = func(i *weftv1.Interest) *weftv1.Update {
			return &weftv1.Update{Service: i.Service, Epoch: 7, Revision: 6, Removals: []*weftv1.Removal{{Id: "a", Reason: "expired"}}}
		}
		w.server.Start()
		s := w.source()
		settle(time.Millisecond)
		seen := w.watch(s)
		settle(time.Second)
		w.wantSeen(seen, "rules r=2", "7-6 b -a:expired")
		asked := sessiontest.Heard(w.server, (*weftv1.ConnectRequest).GetSubscribe)
		want := []*weftv1.Subscribe{{Interests: []*weftv1.Interest{{Service: product, Epoch: 7, Revision: 4}}}}
		if d := cmp.Diff(want, asked, protocmp.Transform()); d != "" {
			t.Error(d)
		}
		w.close(s)
	})
}

// cached is what the cache of the world has of the product.
func (w *world) cached() discovery.Cached {
	w.Helper()
	cache, err := discovery.OpenCache(filepath.Join(w.dir, "127.0.0.1_7070"))
	if err != nil {
		w.Fatal(err)
	}
	state, err := cache.Load(product)
	if err != nil {
		w.Fatal(err)
	}
	return state
}

func TestCacheIsWrittenOnceASecond(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		w.watch(s)
		settle(0)
		w.server.Push(snapshot(1, retry("r", 2), "a"))
		settle(0)
		if got := w.cached().Revision.Number; got != 1 {
			t.Errorf("the first state: revision %d", got)
		}
		for i := range 9 {
			settle(100 * time.Millisecond)
			w.server.Push(snapshot(uint64(i+2), retry("r", 2), "a"))
			settle(0)
		}
		if got := w.cached().Revision.Number; got != 1 {
			t.Errorf("within the second: revision %d, want the first still", got)
		}
		settle(100 * time.Millisecond)
		if got := w.cached().Revision.Number; got != 10 {
			t.Errorf("after the second: revision %d, want the last", got)
		}
		w.server.Push(snapshot(11, retry("r", 2), "a", "b"))
		settle(0)
		w.close(s)
		got := w.cached()
		if got.Revision.Number != 11 || len(got.Instances) != 2 || len(got.Rules) != 1 {
			t.Errorf("after Close: %+v, want the last state", got)
		}
	})
}

func TestAnEmptyPushDoesNotEmptyTheCache(t *testing.T) {
	for name, c := range map[string]struct {
		push     *weftv1.Update
		want     int
		revision uint64
	}{
		"empty":                 {snapshot(6, ""), 2, 0},
		"control: with reasons": {&weftv1.Update{Service: product, Revision: 6, Removals: []*weftv1.Removal{{Id: "a", Reason: "expired"}, {Id: "b", Reason: "deleted"}}}, 0, 6},
		"most vanish":           {snapshot(6, "", "c"), 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.warm()
				w.server.Start()
				s := w.source()
				w.watch(s)
				settle(time.Second)
				w.server.Push(c.push)
				settle(0)
				w.close(s)
				got := w.cached()
				if len(got.Instances) != c.want || got.Revision.Number != c.revision {
					t.Errorf("cached %d instances at %v, want %d at %d", len(got.Instances), got.Revision, c.want, c.revision)
				}
			})
		})
	}
}

func TestUnknownNamesMakeNoFiles(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Push(&weftv1.Update{Service: product, Revision: 1, Snapshot: true, Missing: true})
		w.server.Start()
		s := w.source()
		seen := w.watch(s)
		settle(time.Second)
		w.wantSeen(seen, "rules", "7-1 missing")
		w.close(s)
		files, _ := filepath.Glob(filepath.Join(w.dir, "*", "*"))
		if len(files) != 0 {
			t.Errorf("files %q", files)
		}
	})
}

func TestADamagedCacheIsAWarning(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.warm()
		files, _ := filepath.Glob(filepath.Join(w.dir, "*", "*"))
		if err := os.WriteFile(files[0], []byte("damaged"), 0o600); err != nil || len(files) != 1 {
			t.Fatal(files, err)
		}
		w.server.Start()
		s := w.source()
		seen := w.watch(s)
		settle(time.Second)
		w.wantSeen(seen, "rules r=2", "7-5 a b")
		if w.log.count("cannot be used") != 1 {
			t.Error("no warning")
		}
		w.close(s)
	})
	bubble(t, func(t *testing.T, w *world) {
		w.dir = filepath.Join(w.dir, "file")
		if err := os.WriteFile(w.dir, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		s := w.source()
		if w.log.count("no cache of services") != 1 {
			t.Error("no warning")
		}
		w.close(s)
	})
}
