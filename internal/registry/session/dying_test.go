package session

import (
	"testing"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// A process that dies while its registration is at the disk leaves no instance for ever. In real time, as a mutex is held
// over the commit.
func TestDyingDuringTheRegistration(t *testing.T) {
	t.Parallel()
	st := &slowDisk{Memory: store.NewMemory()}
	f := startOn(t, st, Options{TTL: 300 * time.Millisecond})
	defer f.stop()
	a := f.dial(t.Context())
	a.proc = "a"
	a.hello(&weftv1.Hello{Process: "a", Service: "product", Namespace: "shop"})
	a.recv()
	st.delay.Store(int64(500 * time.Millisecond))
	a.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: &weftv1.Register{Seq: 1, Instances: []*weftv1.Instance{a.instance("x")}}}})
	time.Sleep(200 * time.Millisecond)
	a.close()
	time.Sleep(time.Second)
	st.delay.Store(0)
	key := catalog.InstanceKey{Service: product, ID: "x"}
	if !f.cat.Has(key) {
		t.Fatal("its write was not under way")
	}
	for range 150 {
		if !f.cat.Has(key) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	in, _, _ := f.cat.Instance(discovery.Name{Service: "product", Namespace: "shop"}, "x")
	t.Errorf("50 ttls after its process died the instance is %q", in.State)
}
