package lease

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var product = discovery.Name{Service: "product", Namespace: "default"}

// fixture is a catalog with leases; it runs in a bubble.
type fixture struct {
	t   *testing.T
	st  *flaky
	cat *catalog.Catalog
	*Leases
}

// flaky is a store that can refuse writes, and hang.
type flaky struct {
	*store.Memory
	full    atomic.Bool
	hang    atomic.Int64 // nanoseconds that a commit takes
	commits atomic.Int64
}

func (f *flaky) Commit(w []store.Write) error {
	if f.full.Load() {
		return store.ErrFull
	}
	f.commits.Add(1)
	time.Sleep(time.Duration(f.hang.Load()))
	return f.Memory.Commit(w)
}

func start(t *testing.T, st *flaky) *fixture {
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, st: st, cat: cat, Leases: New(cat, nil)}
}

func (f *fixture) stop() {
	f.Leases.Close()
	f.cat.Close()
}

// bubble runs test in a synctest bubble.
func bubble(t *testing.T, test func(*fixture)) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, &flaky{Memory: store.NewMemory()})
		defer f.stop()
		test(f)
	})
}

func (f *fixture) register(id string, ttl time.Duration) catalog.InstanceKey {
	f.t.Helper()
	in := discovery.Instance{ID: id, Service: "product", Address: "10.0.0.1:80", Protocol: discovery.HTTP}
	f.Track(in, ttl)
	if _, err := f.cat.PutLeased(context.Background(), []discovery.Instance{in}, ttl); err != nil {
		f.t.Fatal(err)
	}
	return catalog.KeyOf(in)
}

// lose closes the connection of a session that has the instance.
func (f *fixture) lose(key catalog.InstanceKey) {
	h := f.Hold(SessionTTL)
	h.Add(key)
	h.Lost()
}

// want checks the state at this moment; "" means that the instance is gone.
func (f *fixture) want(id string, want discovery.State) {
	f.t.Helper()
	synctest.Wait()
	in, _, _ := f.cat.Instance(product, id)
	if in.State != want {
		f.t.Errorf("%s is %q, want %q", id, in.State, want)
	}
}

func TestSilence(t *testing.T) {
	bubble(t, func(f *fixture) {
		f.register("p1", SessionTTL)
		commits := f.st.commits.Load()
		time.Sleep(6900 * time.Millisecond)
		f.want("p1", discovery.Up)
		time.Sleep(1200 * time.Millisecond) // 8.1 s: a scan later
		f.want("p1", discovery.Suspect)
		time.Sleep(6800 * time.Millisecond) // 14.9 s
		f.want("p1", discovery.Suspect)
		time.Sleep(1200 * time.Millisecond) // 16.1 s
		f.want("p1", discovery.Unhealthy)
		time.Sleep(13800 * time.Millisecond) // 29.9 s
		f.want("p1", discovery.Unhealthy)
		if f.st.commits.Load() != commits {
			t.Errorf("%d commits: health is memory only", f.st.commits.Load()-commits)
		}
		time.Sleep(1200 * time.Millisecond) // 31.1 s
		f.want("p1", "")
		u := f.cat.Update(product, discovery.Revision{Epoch: f.cat.Epoch(), Number: f.cat.Revision().Number - 1})
		if len(u.GetRemovals()) != 1 || u.Removals[0].Reason != string(discovery.Expired) {
			t.Errorf("%v, want the reason expired", u)
		}
		if f.Renew(product, "p1") {
			t.Error("an instance that is gone was renewed")
		}
	})
}

func TestRenewal(t *testing.T) {
	bubble(t, func(f *fixture) {
		f.register("p1", SessionTTL)
		f.register("control", SessionTTL)
		commits := f.st.commits.Load()
		for range 20 {
			time.Sleep(RenewEvery(SessionTTL))
			if !f.Renew(product, "p1") {
				t.Fatal("not renewed")
			}
			f.want("p1", discovery.Up)
		}
		f.want("control", "") // nobody renewed it for a minute
		if f.st.commits.Load() != commits+1 {
			t.Errorf("%d commits, want that of the removal", f.st.commits.Load()-commits)
		}
	})
}

func TestRenewalBringsBack(t *testing.T) {
	for name, silent := range map[string]time.Duration{"suspect": 10 * time.Second, "unhealthy": 20 * time.Second} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(f *fixture) {
				key := f.register("p1", SessionTTL)
				time.Sleep(silent)
				f.want("p1", discovery.State(name))
				f.Renew(key.Service, key.ID)
				f.want("p1", discovery.Up) // at once
			})
		})
	}
}

func TestConnectionClosed(t *testing.T) {
	bubble(t, func(f *fixture) {
		key := f.register("p1", SessionTTL)
		f.register("other", SessionTTL)
		time.Sleep(time.Second)
		f.lose(key)
		f.want("p1", discovery.Suspect) // at once
		f.want("other", discovery.Up)
		f.register("p1", SessionTTL)
		f.want("p1", discovery.Up)
		f.lose(key)
		time.Sleep(16 * time.Second)
		f.want("p1", discovery.Unhealthy)
		time.Sleep(16 * time.Second)
		f.want("p1", "")
	})
}

func TestOtherTTL(t *testing.T) {
	bubble(t, func(f *fixture) {
		f.register("slow", 70*time.Second)
		f.register("kept", time.Second)
		f.register("kept", 0)
		time.Sleep(69 * time.Second)
		f.want("slow", discovery.Up)
		time.Sleep(12 * time.Second)
		f.want("slow", discovery.Suspect)
		time.Sleep(72 * time.Second)
		f.want("slow", discovery.Unhealthy)
		time.Sleep(150 * time.Second)
		f.want("slow", "")
		f.want("kept", discovery.Up)
		if f.Renew(product, "kept") {
			t.Error("an instance without a lease was renewed")
		}
	})
}

// TestRestart: after a start every lease starts anew, and runs out if nobody renews.
func TestRestart(t *testing.T) {
	bubble(t, func(f *fixture) {
		f.register("p1", SessionTTL)
		in := discovery.Instance{ID: "kept", Service: "product", Address: "10.0.0.1:80", Protocol: discovery.HTTP}
		if _, err := f.cat.PutInstances(context.Background(), []discovery.Instance{in}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		f.want("p1", discovery.Unhealthy)
		f.stop()
		time.Sleep(time.Hour) // the server is down
		again := start(t, &flaky{Memory: f.st.Reopen()})
		defer again.stop()
		again.want("p1", discovery.Up)
		time.Sleep(6 * time.Second)
		again.want("p1", discovery.Up)
		time.Sleep(26 * time.Second)
		again.want("p1", "")
		again.want("kept", discovery.Up)
	})
}

// TestStoreFull: what cannot be removed stays unhealthy and is removed when the store takes writes again.
func TestStoreFull(t *testing.T) {
	bubble(t, func(f *fixture) {
		f.register("p1", SessionTTL)
		f.st.full.Store(true)
		time.Sleep(time.Minute)
		f.want("p1", discovery.Unhealthy)
		f.st.full.Store(false)
		time.Sleep(2 * time.Second)
		f.want("p1", "")
	})
}

// TestTrackedBeforeWritten: a lease whose instance never came is forgotten.
func TestTrackedBeforeWritten(t *testing.T) {
	bubble(t, func(f *fixture) {
		f.Track(discovery.Instance{ID: "never", Service: "product"}, SessionTTL)
		time.Sleep(40 * time.Second)
		synctest.Wait()
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.services) != 0 {
			t.Errorf("%d services left", len(f.services))
		}
	})
}
