package lease

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// TestServerStoodStill: the scan is held for longer than all leases, by a removal on a disk that hangs. Nobody could renew
// meanwhile, and nobody is lost for it.
func TestServerStoodStill(t *testing.T) {
	for _, off := range []bool{false, true} {
		gathering(t, func(c *crowd) {
			c.off(func(l *Leases) { l.unpaused = off })
			c.add("product", 5) // too few to be protected
			suspects := c.add("other", 2)
			dead := c.add("dead", 1)
			c.live(5 * time.Second)
			c.silence(dead, true)
			c.live(25 * time.Second)
			c.silence(suspects, true)
			c.st.hang.Store(int64(2 * time.Minute)) // 3 s before the removal
			time.Sleep(2*time.Minute + 6*time.Second)
			synctest.Wait()
			if off {
				if up := c.states("product")[discovery.Up]; up != 0 {
					t.Errorf("control: %d are up after two minutes of silence", up)
				}
				return
			}
			c.st.hang.Store(0)
			c.expect("dead", 0, 0, 0)
			c.expect("product", 5, 0, 0)
			c.expect("other", 0, 2, 0) // it has a full lease, but was not heard of
			if !strings.Contains(c.log.String(), "stood still") {
				t.Errorf("log %s", c.log)
			}
			c.live(4 * time.Second)
			c.expect("product", 5, 0, 0)
			c.expect("other", 0, 2, 0)
			c.live(time.Minute)
			c.expect("product", 5, 0, 0)
			c.expect("other", 0, 0, 0)
		})
	}
}

// TestLostAfterAPause: what is looked at first after a pause is not a scan, but a connection that closed.
func TestLostAfterAPause(t *testing.T) {
	gathering(t, func(c *crowd) {
		keys := c.add("product", 5)
		c.live(3 * time.Second)
		c.off(func(l *Leases) { l.looked -= time.Minute; l.base = l.base.Add(-time.Minute) }) // a minute ago
		c.holders[keys[0]].Lost()
		c.expect("product", 4, 1, 0)
	})
}

// TestSuspended: the monotonic clock did not run while the machine slept; the boot clock says so.
func TestSuspended(t *testing.T) {
	for _, off := range []bool{false, true} {
		bubble(t, func(f *fixture) {
			f.mu.Lock()
			f.unpaused = off
			slept := f.slept
			f.mu.Unlock()
			f.register("p1", SessionTTL)
			time.Sleep(6500 * time.Millisecond)
			f.mu.Lock()
			f.asleep = func() time.Duration { return slept + time.Hour }
			f.mu.Unlock()
			time.Sleep(5 * time.Second)
			if off {
				f.want("p1", discovery.Suspect)
				return
			}
			f.want("p1", discovery.Up)
			time.Sleep(4 * time.Second)
			f.want("p1", discovery.Suspect)
		})
	}
}

// TestSlowButAlive: a scan that is late by less is no pause, or dead instances would stay on a slow disk.
func TestSlowButAlive(t *testing.T) {
	bubble(t, func(f *fixture) {
		f.register("p1", SessionTTL)
		f.st.hang.Store(int64(900 * time.Millisecond))
		time.Sleep(33 * time.Second)
		f.want("p1", "")
	})
}

// TestAsleep: the clocks of this machine can be read, and it did not sleep between two lines.
func TestAsleep(t *testing.T) {
	a, b := asleep(), asleep()
	if a < -time.Millisecond || b-a > time.Second || a-b > time.Second {
		t.Errorf("asleep for %v, then %v", a, b)
	}
}
