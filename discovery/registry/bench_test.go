package registry

import (
	"fmt"
	"testing"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
)

// BenchmarkUpdate is one changed instance of a service with 10,000, as far as a snapshot and what the cache gets.
func BenchmarkUpdate(b *testing.B) {
	var all []*weftv1.Instance
	for i := range 10_000 {
		all = append(all, wire(fmt.Sprintf("i%05d", i))[0])
	}
	snapshot := merge(discovery.Snapshot{Service: product}, &weftv1.Update{Snapshot: true, Instances: all})
	var guard discovery.Guard
	b.ReportAllocs()
	for b.Loop() {
		snapshot = merge(snapshot, &weftv1.Update{Instances: all[5000:5001]})
		guard.Apply(snapshot)
	}
}
