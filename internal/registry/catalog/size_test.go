package catalog

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// fleet gives the instances of a service as a fleet of real ones looks: an id and a process of its own each, three labels
// that many share.
func fleet(service, n int) (ins []discovery.Instance) {
	for i := range n {
		ins = append(ins, discovery.Instance{
			ID: fmt.Sprintf("svc%03d-7d4b9c6f5-%05d", service, i), Service: fmt.Sprintf("svc%03d", service), Namespace: "shop",
			Process: fmt.Sprintf("%016x", service*100_000+i), Address: fmt.Sprintf("10.%d.%d.%d:8080", service%256, i/250%256, 1+i%250),
			Protocol: discovery.GRPC, Locality: discovery.Locality{Region: "eu-1", Zone: string(rune('a' + i%3))},
			Labels: map[string]string{"version": fmt.Sprintf("v%d", i%4), "team": fmt.Sprintf("team-%d", service%40), "tier": "gold"},
		})
	}
	return ins
}

func fill(tb testing.TB, c *Catalog, services, each int) {
	tb.Helper()
	for s := range services {
		if _, err := c.PutOwned(context.Background(), fleet(s, each), 7*time.Second); err != nil {
			tb.Fatal(err)
		}
	}
}

// memory gives the heap in use and, where it can be told, the anonymous memory of the process, after a collection.
func memory(tb testing.TB) (heap, anonymous uint64) {
	tb.Helper()
	for range 3 {
		runtime.GC() // more than once: interned shapes go one collection later
	}
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return m.HeapAlloc, 0
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, "Anonymous:"); ok {
			n, err := strconv.ParseUint(strings.Fields(kb)[0], 10, 64)
			if err != nil {
				tb.Fatal(err)
			}
			anonymous = n << 10
		}
	}
	return m.HeapAlloc, anonymous
}

// TestSize: 100,000 instances in 500 services (a fifth of that unless WEFT_PROVE is full) are small in memory, after they
// came, after churn that replaced each of them, and after a restart.
func TestSize(t *testing.T) {
	const each = 200
	services := 100
	if os.Getenv("WEFT_PROVE") == "full" {
		services = 500
	}
	dir := t.TempDir()
	st, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	before, _ := memory(t)
	c, err := Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	report := func(what string) {
		t.Helper()
		heap, anonymous := memory(t)
		info, err := os.Stat(filepath.Join(dir, "registry.db"))
		if err != nil {
			t.Fatal(err)
		}
		own := heap - min(before, heap)
		t.Logf("%s: heap %.1f MiB (%d bytes an instance), anonymous %.1f MiB, file %.1f MiB (%d bytes an instance)", what,
			float64(own)/(1<<20), int(own)/(services*each), float64(anonymous)/(1<<20), float64(info.Size())/(1<<20), int(info.Size())/(services*each))
		if most := uint64(services*each*240 + 10<<20); own > most { // with tombstones, events, and what the store keeps for its watchers
			t.Errorf("%s: %d bytes of heap, want at most %d", what, own, most)
		}
		if os.Getenv("WEFT_PROVE") == "full" && anonymous > 50<<20 {
			t.Errorf("%s: %d bytes of anonymous memory, want at most 50 MiB", what, anonymous)
		}
	}
	fill(t, c, services, each)
	report("after registration")
	for s := range services { // each is replaced by another one, and its weight changes
		var keys []InstanceKey
		ins := fleet(s, each)
		for i := range ins {
			keys = append(keys, KeyOf(ins[i]))
			ins[i].ID += "-next"
			ins[i].Weight = 7
		}
		if _, err := c.PutOwned(t.Context(), ins, 7*time.Second); err != nil {
			t.Fatal(err)
		}
		if _, err := c.DeleteInstances(t.Context(), keys, discovery.Deregistered); err != nil {
			t.Fatal(err)
		}
	}
	report("after churn")
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if st, err = store.Open(dir); err != nil {
		t.Fatal(err)
	}
	opened := time.Now()
	if c, err = Open(st, nil); err != nil {
		t.Fatal(err)
	}
	t.Logf("the store opened in %v, the catalog in %v", opened.Sub(start), time.Since(opened))
	report("after a restart")
	if n := c.totals; n.instances != services*each || n.services != services {
		t.Errorf("%+v are there", n)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
}
