package lease

import (
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// A process that renews while the removal of its instance is on its way to the disk is told that the instance is gone.
func TestRenewingDuringExpiry(t *testing.T) {
	slowWorld(t, func(t *testing.T, cat *catalog.Catalog, l *Leases, st *slow) {
		h := l.Hold(SessionTTL)
		key := catalog.KeyOf(inst())
		h.Add(key)
		if _, err := cat.PutOwned(t.Context(), []discovery.Instance{inst()}, SessionTTL); err != nil {
			t.Fatal(err)
		}
		st.delay.Store(int64(800 * time.Millisecond))
		time.Sleep(30*time.Second + 400*time.Millisecond) // the removal is at the disk since second 30
		for range 20 {
			if !h.Renew() {
				return
			}
			time.Sleep(3 * time.Second)
		}
		if !cat.Has(key) {
			t.Error("a minute after its instance was removed a process goes on renewing and does not know")
		}
	})
}

// A PUT that the store refuses does not take the instance from the session that keeps it alive.
func TestAFailedPutTakesNoLease(t *testing.T) {
	bubble(t, func(f *fixture) {
		h, keys := f.hold("a")
		in, _ := f.cat.Written(product, "a")
		f.Track(in, 2*time.Second)() // the write failed
		for range 40 {
			time.Sleep(3 * time.Second)
			if !h.Renew() {
				t.Fatal("not renewed")
			}
		}
		if !f.cat.Has(keys[0]) {
			t.Error("it renewed all the time, and is gone")
		}
	})
}
