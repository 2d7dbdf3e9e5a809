package balancer

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
)

// Laws that hold for every policy.

var names = []string{"round_robin", "weighted_round_robin", "random", "least_request"}

// each runs a test for every policy.
func each(t *testing.T, test func(t *testing.T, policy Policy)) {
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			policy, ok := ByName(name)
			if !ok || policy.Name() != name {
				t.Fatalf("ByName gives %v, %v", policy, ok)
			}
			test(t, policy)
		})
	}
}

func TestByNameUnknown(t *testing.T) {
	for _, name := range []string{"", "Random", "round-robin", "tide "} {
		if p, ok := ByName(name); ok || p != nil {
			t.Errorf("%q gives %v", name, p)
		}
	}
}

func TestByNameSharesNoMemory(t *testing.T) {
	endpoints := equalWeights(5)
	a, b := RoundRobin().Picker(endpoints), RoundRobin().Picker(endpoints)
	p := &Pick{Rand: NewRand(1)}
	first := a.Pick(p)
	b.Pick(p)
	if second := a.Pick(p); slices.Index(endpoints, second) != (slices.Index(endpoints, first)+1)%5 {
		t.Error("another policy moved the position")
	}
}

func TestNothingToPick(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		p := &Pick{Rand: NewRand(1)}
		if e := policy.Picker(nil).Pick(p); e != nil {
			t.Errorf("picked %v of none", e)
		}
		for n := range 20 {
			endpoints := equalWeights(n + 1)
			p.Filter = refusing(endpoints...)
			if e := policy.Picker(endpoints).Pick(p); e != nil {
				t.Errorf("picked %v though all %d are refused", e.ID, n+1)
			}
		}
	})
}

// The property: a pick is usable, and there is one whenever an endpoint is usable.
func TestFilterIsHonoured(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		r := NewRand(7)
		for range 2000 {
			endpoints := randomEndpoints(r)
			filter, usable := randomFilter(r, endpoints)
			e := policy.Picker(endpoints).Pick(&Pick{Rand: r, Filter: filter})
			if (e != nil) != (usable > 0) || e != nil && filter.refused[e] {
				t.Fatalf("picked %v of %d endpoints, %d usable", e, len(endpoints), usable)
			}
		}
	})
}

func randomEndpoints(r *Rand) []*Endpoint {
	weights := make([]uint32, 1+r.IntN(40))
	if r.IntN(2) == 0 {
		for i := range weights {
			weights[i] = uint32(1 + r.IntN(1+r.IntN(10_000)))
		}
	}
	endpoints := withWeights(weights...)
	for _, e := range endpoints {
		for range r.IntN(4) {
			e.Begin()
		}
	}
	return endpoints
}

func randomFilter(r *Rand, endpoints []*Endpoint) (filter *refuse, usable int) {
	filter = refusing()
	share := r.IntN(len(endpoints) + 1)
	for _, e := range endpoints {
		if r.IntN(len(endpoints)) < share {
			filter.refused[e] = true
		} else {
			usable++
		}
	}
	return filter, usable
}

func TestEqualWeightsArePickedEqually(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		endpoints := equalWeights(5)
		counts := count(t, policy.Picker(endpoints), endpoints, nil, 1, 50_000)
		if why, bad := deviates(counts, floats(1, 1, 1, 1, 1)); bad {
			t.Error(why)
		}
	})
}

// A default of 100 stands for no weight. Round robin is the control: it ignores weights, and the test sees it.
func TestWeightsAreKept(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		endpoints := withWeights(0, 50, 1, 300, 10_000, 100)
		counts := count(t, policy.Picker(endpoints), endpoints, nil, 2, 100_000)
		why, bad := deviates(counts, floats(100, 50, 1, 300, 10_000, 100))
		if ignored := policy.Name() == "round_robin"; bad != ignored {
			t.Error(why)
		}
	})
}

// What a refused endpoint would have got is divided among the others by their weights.
func TestWeightsAreKeptAroundRefused(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		weights, want := []uint32{100, 200, 300, 100, 50, 80, 90, 120}, floats(0, 200, 300, 100, 0, 80, 90, 120)
		if policy.Name() == "round_robin" {
			weights, want = make([]uint32, 8), floats(0, 1, 1, 1, 0, 1, 1, 1)
		}
		endpoints := withWeights(weights...)
		counts := count(t, policy.Picker(endpoints), endpoints, refusing(endpoints[0], endpoints[4]), 3, 50_000)
		if why, bad := deviates(counts, want); bad {
			t.Error(why)
		}
	})
}

// A pick asks about few endpoints as long as most are usable, however many there are. With all but one refused it
// has to look further, which shows that the test can tell.
func TestCostDoesNotGrow(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		for _, n := range []int{100, 10_000} {
			endpoints := equalWeights(n)
			filter := refusing(endpoints[:n/10]...)
			picker := policy.Picker(endpoints)
			count(t, picker, endpoints, filter, 1, 1000)
			if filter.asked > 2500 {
				t.Errorf("%d endpoints: asked %d times for 1000 picks", n, filter.asked)
			}
			control := refusing(endpoints[1:]...)
			if count(t, picker, endpoints, control, 1, 10); control.asked < n {
				t.Errorf("control: asked %d times for 10 picks", control.asked)
			}
		}
	})
}

func TestLookupOfSharesIsExact(t *testing.T) {
	r := NewRand(11)
	for range 200 {
		endpoints := randomEndpoints(r)
		s := newShares(endpoints)
		for range 200 {
			x := r.Uint64()
			if r.IntN(4) == 0 {
				x = []uint64{0, math.MaxUint64, 1 << 63}[r.IntN(3)]
			}
			if got, want := s.at(x), slowLookup(endpoints, x); got != want {
				t.Fatalf("at(%#x) of %d gives %d, want %d", x, len(endpoints), got, want)
			}
		}
	}
}

func slowLookup(endpoints []*Endpoint, x uint64) int {
	var total, sum uint64
	for _, e := range endpoints {
		total += e.weight()
	}
	point := multiplied(x, total)
	return slices.IndexFunc(endpoints, func(e *Endpoint) bool {
		sum += e.weight()
		return point < sum
	})
}

func TestRecord(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		endpoints := withWeights(0, 50)
		for range 3 {
			endpoints[1].Begin()
		}
		var record []Candidate
		p := &Pick{Rand: NewRand(1), Filter: refusing(endpoints[0]), Record: &record}
		if e := policy.Picker(endpoints).Pick(p); e != endpoints[1] {
			t.Fatalf("picked %v", e)
		}
		cost := map[string]float64{"least_request": 3.0 / 50}[policy.Name()]
		if !slices.Contains(record, Candidate{Endpoint: endpoints[1], Usable: true, Cost: cost}) {
			t.Errorf("the pick is not in the record: %+v", record)
		}
		for _, c := range record {
			if c.Usable == (c.Endpoint == endpoints[0]) {
				t.Errorf("wrong candidate %+v", c)
			}
		}
	})
}

func TestReplayFromSeed(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		endpoints := withWeights(1, 2, 3, 4)
		first := count(t, policy.Picker(endpoints), endpoints, nil, 9, 100)
		again, _ := ByName(policy.Name())
		if second := count(t, again.Picker(endpoints), endpoints, nil, 9, 100); !slices.Equal(first, second) {
			t.Errorf("the same seed gave %v, then %v", first, second)
		}
	})
}

func TestPickDoesNotAllocate(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		for _, endpoints := range [][]*Endpoint{equalWeights(20), withWeights(1, 2, 3, 4, 500)} {
			picker := policy.Picker(endpoints)
			for _, filter := range []Filter{nil, refusing(endpoints[:4]...)} {
				p := &Pick{Now: start, Rand: NewRand(1), Filter: filter}
				if n := testing.AllocsPerRun(1000, func() { picker.Pick(p) }); n != 0 {
					t.Errorf("%d endpoints, filter %v: %v allocations", len(endpoints), filter != nil, n)
				}
			}
		}
	})
}

// Goroutines pick, call and report while the pool is updated and pickers are rebuilt. Afterwards every call is
// accounted for, on the same numbers as at the start.
func TestParallelPicksAndUpdates(t *testing.T) {
	each(t, func(t *testing.T, policy Policy) {
		const workers, picks = 4, 500
		pool, specs := NewPool(nil), make([]Spec, 10)
		for i := range specs {
			specs[i] = Spec{ID: fmt.Sprint(i), Weight: uint32(1 + i)}
		}
		pool.Update(specs)
		var group sync.WaitGroup
		for w := range workers {
			group.Go(func() {
				p := &Pick{Rand: NewRand(uint64(w)), Filter: usableUnless("3")}
				for range picks {
					e := policy.Picker(pool.Endpoints()).Pick(p)
					e.Begin()
					e.Done(Result{Now: start})
				}
			})
		}
		for i := range 50 {
			changed := slices.Clone(specs)
			changed[i%10].Weight += uint32(i)
			pool.Update(changed)
		}
		group.Wait()
		calls := uint64(0)
		for _, e := range pool.Endpoints() {
			if calls += e.Stats.Calls(); e.Stats.Pending() != 0 || e.ID == "3" && e.Stats.Calls() > 0 {
				t.Errorf("%s: %d pending, %d calls", e.ID, e.Stats.Pending(), e.Stats.Calls())
			}
		}
		if calls != workers*picks {
			t.Errorf("%d calls, want %d", calls, workers*picks)
		}
	})
}

type usableUnless string

func (u usableUnless) Usable(e *Endpoint) bool { return e.ID != string(u) }

func BenchmarkPick(b *testing.B) {
	for _, name := range names {
		for _, endpoints := range [][]*Endpoint{equalWeights(10), equalWeights(10_000)} {
			b.Run(fmt.Sprintf("%s/%d", name, len(endpoints)), func(b *testing.B) {
				policy, _ := ByName(name)
				picker, p := policy.Picker(endpoints), &Pick{Rand: NewRand(1)}
				b.ReportAllocs()
				for b.Loop() {
					picker.Pick(p)
				}
			})
		}
	}
}

func BenchmarkBeginDone(b *testing.B) {
	e := equalWeights(1)[0]
	b.ReportAllocs()
	for b.Loop() {
		e.Begin()
		e.Done(Result{Now: start, Latency: 1000})
	}
}
