package session

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/store"
)

type slowDisk struct {
	*store.Memory
	delay atomic.Int64 // nanoseconds
}

func (s *slowDisk) Commit(w []store.Write) error {
	time.Sleep(time.Duration(s.delay.Load()))
	return s.Memory.Commit(w)
}

// An operator's DELETE that was acknowledged is not undone by a registration under way.
func TestADeleteOutlastsARegistrationUnderWay(t *testing.T) {
	st := &slowDisk{Memory: store.NewMemory()}
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, cat: cat, leases: lease.New(cat, nil), grpc: grpc.NewServer(ServerOptions()...), lis: bufconn.Listen(1 << 20)}
	f.srv = New(cat, f.leases, Options{})
	f.srv.Register(f.grpc)
	go f.grpc.Serve(f.lis)
	defer f.stop()
	a := f.connect("a")
	defer a.close()
	a.register(a.instance("x"))
	st.delay.Store(int64(300 * time.Millisecond))
	done := make(chan error)
	go func() {
		_, err := cat.DeleteInstances(t.Context(), []catalog.InstanceKey{{Service: product, ID: "x"}}, discovery.Deleted)
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	in := a.instance("x")
	in.Weight = 50
	no := a.register(in)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, _, ok := cat.Instance(product, "x"); ok || len(no) == 0 {
		t.Errorf("the delete was acknowledged, the instance is there: %v; refusals %v", ok, no)
	}
}

// An operator replaces an instance by REST; the process that had it deregisters and leaves the operator's alone.
func TestAProcessDoesNotDeregisterTheOperatorsInstance(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		a := f.connect("a")
		defer a.close()
		a.register(a.instance("x"))
		f.put("x", func(in *discovery.Instance) { in.Address = "10.9.9.9:80" })
		a.deregister("x")
		synctest.Wait()
		if _, _, ok := f.cat.Instance(product, "x"); !ok {
			t.Error("the operator's instance is gone")
		}
	})
}
