package lease

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// flap closes the connection of an instance and has its process connect and register again.
func (f *fixture) flap(key catalog.InstanceKey, h *Holder) *Holder {
	f.t.Helper()
	h.Lost()
	synctest.Wait()
	h = f.Hold(SessionTTL)
	h.Add(key)
	in, _ := f.cat.Written(key.Service, key.ID)
	if _, err := f.cat.PutOwned(context.Background(), []discovery.Instance{in}, SessionTTL); err != nil {
		f.t.Fatal(err)
	}
	synctest.Wait()
	return h
}

// renewing lets time pass.
func (f *fixture) renewing(h *Holder, d time.Duration) {
	for range d / time.Second {
		h.Renew()
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

// TestFlapping: an instance that comes and goes every 2 s is not told to everybody each time.
func TestFlapping(t *testing.T) {
	for _, off := range []bool{false, true} {
		bubble(t, func(f *fixture) {
			f.mu.Lock()
			f.undamped = off
			f.mu.Unlock()
			key := f.register("p1", SessionTTL)
			h := f.Hold(SessionTTL)
			h.Add(key)
			h = f.flap(key, h) // from now on it is its process's own
			before, commits := f.cat.Revision().Number, f.st.commits.Load()
			for range 100 {
				f.renewing(h, 2*time.Second)
				h = f.flap(key, h)
			}
			pushed := f.cat.Revision().Number - before
			if f.st.commits.Load() != commits {
				t.Errorf("%d commits, though nothing was registered that was not there", f.st.commits.Load()-commits)
			}
			if off {
				if pushed < 200 {
					t.Errorf("control: %d changes in 100 flaps, want 200", pushed)
				}
				return
			}
			if pushed > 10 {
				t.Errorf("%d changes in 100 flaps", pushed)
			}
			f.want("p1", discovery.Suspect)
			f.renewing(h, 58*time.Second)
			f.want("p1", discovery.Suspect)
			f.renewing(h, 5*time.Second)
			f.want("p1", discovery.Up)
		})
	}
}

// TestHeldLonger: the time for which it has to be up is 5 s, then 10, 20, 40 and 60 s.
func TestHeldLonger(t *testing.T) {
	bubble(t, func(f *fixture) {
		key := f.register("p1", SessionTTL)
		h := f.Hold(SessionTTL)
		h.Add(key)
		for range 3 {
			f.renewing(h, 2*time.Second)
			h = f.flap(key, h)
			f.want("p1", discovery.Up) // it may come back three times
		}
		for _, calm := range []time.Duration{5, 10, 20, 40, 60, 60} {
			h = f.flap(key, h)
			f.renewing(h, (calm-1)*time.Second)
			f.want("p1", discovery.Suspect)
		}
		f.renewing(h, 2*time.Second)
		f.want("p1", discovery.Up)
		f.renewing(h, flapMemory+2*time.Second)
		f.mu.Lock()
		if len(f.flaps) != 0 {
			t.Errorf("%d instances are remembered for flapping", len(f.flaps))
		}
		f.mu.Unlock()
		h = f.flap(key, h)
		f.want("p1", discovery.Up)
		_ = h
	})
}

// TestSeldom: three returns a minute are no flapping.
func TestSeldom(t *testing.T) {
	bubble(t, func(f *fixture) {
		key := f.register("p1", SessionTTL)
		h := f.Hold(SessionTTL)
		h.Add(key)
		for range 50 {
			f.renewing(h, 21*time.Second)
			h = f.flap(key, h)
			f.want("p1", discovery.Up)
		}
	})
}

// TestHeldCountsAsAlive: what is held renews, so it is not missing; and it does not hide that it fell silent.
func TestHeldCountsAsAlive(t *testing.T) {
	gathering(t, func(c *crowd) {
		keys := c.add("product", 10)
		for range 5 {
			c.live(time.Second)
			for _, key := range keys {
				c.holders[key] = c.flap(key, c.holders[key])
			}
		}
		c.live(2 * time.Second)
		c.expect("product", 0, 10, 0)
		if p := c.Protection(); len(p) != 0 {
			t.Errorf("%+v, want no protection", p)
		}
		c.silence(keys[:1], true)
		c.live(20 * time.Second)
		c.expect("product", 9, 0, 1)
		c.live(15 * time.Second)
		c.expect("product", 9, 0, 0)
	})
}

// TestFlapsBounded: an outage in which everybody comes back does not fill the memory.
func TestFlapsBounded(t *testing.T) {
	fs := make(flaps)
	for i := range maxFlaps + 100 {
		fs.returned(catalog.InstanceKey{Service: product, ID: fmt.Sprint(i)}, 0)
	}
	if len(fs) != maxFlaps {
		t.Errorf("%d instances remembered, want %d", len(fs), maxFlaps)
	}
	fs.forget(flapMemory + 1)
	if len(fs) != 0 {
		t.Errorf("%d instances remembered, want none", len(fs))
	}
}
