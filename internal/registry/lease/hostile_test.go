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
