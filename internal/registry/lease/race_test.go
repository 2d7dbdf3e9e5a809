package lease

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// slow is a store whose commits take as long as a disk takes.
type slow struct {
	*store.Memory
	delay atomic.Int64 // nanoseconds
}

func (s *slow) Commit(w []store.Write) error {
	time.Sleep(time.Duration(s.delay.Load()))
	return s.Memory.Commit(w)
}

func slowWorld(t *testing.T, test func(t *testing.T, cat *catalog.Catalog, l *Leases, st *slow)) {
	synctest.Test(t, func(t *testing.T) {
		st := &slow{Memory: store.NewMemory()}
		cat, err := catalog.Open(st, nil)
		if err != nil {
			t.Fatal(err)
		}
		l := New(cat, nil)
		defer cat.Close()
		defer l.Close()
		test(t, cat, l, st)
	})
}

func inst() discovery.Instance {
	return discovery.Instance{ID: "x", Service: "product", Address: "10.0.0.1:80", Protocol: discovery.HTTP}
}

func put(t *testing.T, cat *catalog.Catalog, ttl time.Duration) {
	t.Helper()
	if _, err := cat.PutLeased(t.Context(), []discovery.Instance{inst()}, ttl); err != nil {
		t.Error(err)
	}
}

// An instance that registers again while its expiry is on its way to the disk keeps its new lease, and runs out.
func TestRegisteringAgainDuringExpiry(t *testing.T) {
	t.Parallel()
	st := &slow{Memory: store.NewMemory()}
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := New(cat, nil)
	defer cat.Close()
	defer l.Close()
	const ttl = 500 * time.Millisecond
	l.Track(inst(), ttl)
	put(t, cat, ttl)
	st.delay.Store(int64(300 * time.Millisecond))
	time.Sleep(3150 * time.Millisecond) // expired after 2.1 s; the delete is at the disk from the scan at 3 s on
	l.Track(inst(), ttl)
	put(t, cat, ttl)
	if !cat.Has(catalog.KeyOf(inst())) {
		t.Fatal("it registered again and is not there")
	}
	for range 200 { // it is never renewed; a lease takes 3 to 4 s
		if !cat.Has(catalog.KeyOf(inst())) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	in, _, _ := cat.Instance(product, "x")
	t.Errorf("40 ttls after its last sign of life: %v", in.State)
}

// A renewal that overtakes the registration's commit leaves the lease.
func TestRenewalOvertakesRegistration(t *testing.T) {
	slowWorld(t, func(t *testing.T, cat *catalog.Catalog, l *Leases, st *slow) {
		st.delay.Store(int64(20 * time.Millisecond))
		l.Track(inst(), SessionTTL)
		go put(t, cat, SessionTTL)
		time.Sleep(10 * time.Millisecond)
		l.Renew(product, "x") // false, rightly
		time.Sleep(10 * time.Minute)
		if in, _, ok := cat.Instance(product, "x"); ok {
			t.Errorf("10 minutes after its last sign of life: %v", in.State)
		}
	})
}

// An instance that is written without a ttl while the scan finds its old lease out ends up. In real time, as a mutex is
// held over the commit.
func TestEndingALeaseDuringTheScan(t *testing.T) {
	t.Parallel()
	st := &slow{Memory: store.NewMemory()}
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	l := New(cat, nil)
	defer cat.Close()
	defer l.Close()
	l.Track(inst(), time.Second)
	put(t, cat, time.Second)
	time.Sleep(2850 * time.Millisecond)
	st.delay.Store(int64(400 * time.Millisecond)) // the scan at 3 s comes while the PUT is at the disk
	put(t, cat, 0)
	l.Track(inst(), 0)
	time.Sleep(5 * time.Second)
	if in, _, _ := cat.Instance(product, "x"); in.State != discovery.Up {
		t.Errorf("an instance without a lease is %q for ever", in.State)
	}
}
