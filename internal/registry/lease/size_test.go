package lease

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// still is Leases without a scan of its own, with instances in 500 services that 5,000 sessions hold.
func still(tb testing.TB, instances int, ids []string) (*Leases, []*Holder) {
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	l := New(cat, nil)
	l.Close()
	tb.Cleanup(func() { cat.Close() })
	holders := make([]*Holder, 5000)
	for i := range holders {
		holders[i] = l.Hold(SessionTTL)
		holders[i].renewed.Store(int64(l.now()))
	}
	names := make([]discovery.Name, 500)
	for i := range names {
		names[i] = discovery.Name{Service: fmt.Sprintf("service-%d", i), Namespace: "default"}
	}
	for i := range instances {
		holders[i%5000].Add(catalog.InstanceKey{Service: names[i%500], ID: ids[i]})
	}
	for _, s := range l.services {
		s.changed = false
		for i := range s.leases {
			s.leases[i].seen = true // as if the catalog had them
		}
	}
	return l, holders
}

func makeIDs(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%016x", uint64(i)*0x9e3779b97f4a7c15) // in no order
	}
	return ids
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestMemory: the leases of 100,000 instances and 5,000 sessions fit 5 MB. The ids are the catalog's.
func TestMemory(t *testing.T) {
	ids := makeIDs(100_000)
	before := heap()
	l, holders := still(t, len(ids), ids)
	used := heap() - before
	t.Logf("%.2f MB, %.1f bytes a lease", float64(used)/1e6, float64(used)/1e5)
	if used > 5_000_000 {
		t.Errorf("%d bytes", used)
	}
	runtime.KeepAlive(l)
	runtime.KeepAlive(holders)
	runtime.KeepAlive(ids)
}

// TestScanAllocates: a scan in which nothing changes makes no garbage, nor does a renewal.
func TestScanAllocates(t *testing.T) {
	l, holders := still(t, 100_000, makeIDs(100_000))
	if n := testing.AllocsPerRun(10, func() { l.scan() }); n != 0 {
		t.Errorf("a scan makes %v allocations", n)
	}
	if n := testing.AllocsPerRun(100, func() { holders[0].Renew() }); n != 0 {
		t.Errorf("a renewal makes %v allocations", n)
	}
	r := l.scan()
	if len(r.changes)+len(r.expired) > 0 {
		t.Errorf("%d changes, %d expired: it was not a quiet scan", len(r.changes), len(r.expired))
	}
	began := cpu()
	for range 20 {
		l.scan()
	}
	t.Logf("a scan of 100,000 leases takes %v of CPU", (cpu()-began)/20)
}

// TestRenewIsConstant: a renewal of 1,000 instances writes as little as one of a single instance.
func TestRenewIsConstant(t *testing.T) {
	cat, err := catalog.Open(store.NewMemory(), nil)
	if err != nil {
		t.Fatal(err)
	}
	l := New(cat, nil)
	l.Close()
	defer cat.Close()
	h := l.Hold(SessionTTL)
	for _, id := range makeIDs(1000) {
		h.Add(catalog.InstanceKey{Service: product, ID: id})
	}
	l.mu.Lock() // as if somebody held it for long: a renewal does not need it
	defer l.mu.Unlock()
	before := l.services[product].leases[0]
	if !h.Renew() {
		t.Error("not renewed")
	}
	if l.services[product].leases[0] != before {
		t.Error("a renewal wrote into a lease")
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkScan(b *testing.B) {
	l, _ := still(b, 100_000, makeIDs(100_000))
	b.ReportAllocs()
	for b.Loop() {
		l.scan()
	}
}

func BenchmarkRenew(b *testing.B) {
	_, holders := still(b, 100_000, makeIDs(100_000))
	b.Run("one", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			holders[0].Renew()
		}
	})
	b.Run("parallel", func(b *testing.B) { // ns of wall time; as many goroutines as cores, each with its own session
		b.ReportAllocs()
		next := make(chan *Holder, len(holders))
		for _, h := range holders {
			next <- h
		}
		b.RunParallel(func(pb *testing.PB) {
			h := <-next
			for pb.Next() {
				h.Renew()
			}
		})
	})
}
