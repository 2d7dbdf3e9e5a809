package call_test

import (
	"math"
	"slices"
	"testing"

	"github.com/weftmesh/weft/bench/call"
	"github.com/weftmesh/weft/bench/measure"
)

// perProcessor is how many callers there are for each processor in the parallel benchmarks.
const perProcessor = 32

func BenchmarkGRPC(b *testing.B) {
	measure.Bench(b, world(b, call.GRPC, call.Variants...).Cases, perProcessor)
}

func BenchmarkHTTP(b *testing.B) {
	measure.Bench(b, world(b, call.HTTP, call.Variants...).Cases, perProcessor)
}

type starter func(...call.Variant) (*call.World, error)

func world(tb testing.TB, start starter, variants ...call.Variant) *call.World {
	tb.Helper()
	w, err := start(variants...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := w.Close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// find returns the variants with these names.
func find(t *testing.T, names ...string) (list []call.Variant) {
	t.Helper()
	for _, name := range names {
		i := slices.IndexFunc(call.Variants, func(v call.Variant) bool { return v.Name == name })
		if i < 0 {
			t.Fatalf("there is no variant %q", name)
		}
		list = append(list, call.Variants[i])
	}
	return list
}

// A call through Weft allocates a bounded number of times more than the bare library does in the same run. The bounds
// are what it is today: whoever lowers the number lowers them too. Each case has a control: one object more than allowed.
func TestAddedAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes sync.Pool forget at random, so that allocations cannot be counted")
	}
	for _, c := range []struct {
		protocol string
		start    starter
		variant  string
		most     float64
	}{
		// The caller's side alone: what Weft promises is at most 8.
		{"gRPC", call.GRPC, "client", 1},
		{"gRPC", call.GRPC, "client+metrics", 1},
		{"gRPC", call.GRPC, "client+rules", 2},
		{"HTTP", call.HTTP, "client", 4},
		{"HTTP", call.HTTP, "client+metrics", 4},
		{"HTTP", call.HTTP, "client+rules", 4},
		// Both sides in one process.
		{"gRPC", call.GRPC, "both", 5},
		{"gRPC", call.GRPC, "both+rules+metrics", 6},
		{"HTTP", call.HTTP, "both", 8},
		{"HTTP", call.HTTP, "both+rules+metrics", 8},
	} {
		t.Run(c.protocol+"/"+c.variant, func(t *testing.T) {
			cases := world(t, c.start, find(t, "bare", c.variant)...).Cases
			bare, weft := allocations(t, cases[0].Work), allocations(t, cases[1].Work)
			t.Logf("%.1f allocations a call, %.1f without Weft: %+.1f", weft, bare, weft-bare)
			if weft-bare > c.most+tolerance {
				t.Errorf("%.1f allocations a call more than the bare library, want at most %.0f", weft-bare, c.most)
			}
			more := allocations(t, wasteful(cases[0].Work, int(c.most)+1))
			if more-bare <= c.most+tolerance {
				t.Errorf("the bare library and %.0f objects differ by %.1f: the measurement does not see them", c.most+1, more-bare)
			}
		})
	}
}

// tolerance is for what the runtime and idle connections allocate meanwhile.
const tolerance = 0.4

// allocations is the least of several rounds: what else the process does can only add.
func allocations(t *testing.T, work measure.Work) float64 {
	t.Helper()
	const rounds, calls = 4, 1000
	least := math.Inf(1)
	for range rounds {
		c, err := measure.Run(work, measure.Size{Calls: calls})
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, c.Allocs)
	}
	return least
}

var kept *[16]byte

// wasteful is work that allocates some objects more.
func wasteful(work measure.Work, objects int) measure.Work {
	return func() func() error {
		do := work()
		return func() error {
			for range objects {
				kept = new([16]byte)
			}
			return do()
		}
	}
}
