package pick_test

import (
	"testing"

	"github.com/weftmesh/weft/bench/measure"
	"github.com/weftmesh/weft/bench/pick"
)

func BenchmarkPick(b *testing.B) {
	for _, n := range pick.Sizes {
		measure.Bench(b, all(b, n), 1)
	}
}

func all(tb testing.TB, endpoints int) []measure.Case {
	tb.Helper()
	cases, err := pick.All(endpoints)
	if err != nil {
		tb.Fatal(err)
	}
	return cases
}

// A pick and its report allocate nothing, with few endpoints and with many. grpc-go's least_request, measured the same
// way, does: it is the control of the measurement.
func TestPicksAllocateNothing(t *testing.T) {
	for _, n := range pick.Sizes {
		for _, c := range all(t, n) {
			allocs := testing.AllocsPerRun(1000, once(t, c))
			switch {
			case c.Name == "grpc-"+pick.LeastRequest+"-10":
				if allocs == 0 {
					t.Errorf("%s: no allocations: the measurement sees none", c.Name)
				}
			case c.Name == "grpc-"+pick.RoundRobin+"-10":
			case allocs != 0:
				t.Errorf("%s: %v allocations, want 0", c.Name, allocs)
			}
		}
	}
}

func once(tb testing.TB, c measure.Case) func() {
	do := c.Work()
	return func() {
		if err := do(); err != nil {
			tb.Fatalf("%s: %v", c.Name, err)
		}
	}
}
