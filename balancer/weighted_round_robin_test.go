package balancer

import (
	"math"
	"testing"
)

// Over any stretch, every endpoint is within a few picks of its exact share. Random, the control, is not.
func TestWeightedRoundRobinIsSmooth(t *testing.T) {
	for _, weights := range [][]uint32{{1, 1, 1}, {100, 50, 1, 300, 7}, {1, 10_000}, {90, 10}, make([]uint32, 50)} {
		endpoints := withWeights(weights...)
		if worst := drift(WeightedRoundRobin().Picker(endpoints), endpoints); worst > 4 {
			t.Errorf("%v: %.1f picks from the exact share", weights, worst)
		}
	}
	endpoints := withWeights(100, 50, 1, 300, 7)
	if worst := drift(Random().Picker(endpoints), endpoints); worst < 10 {
		t.Errorf("control: random is only %.1f picks from the exact share", worst)
	}
}

// drift returns how far any endpoint ever was from its exact share within 10,000 picks.
func drift(picker Picker, endpoints []*Endpoint) (worst float64) {
	p, counts, total := &Pick{Rand: NewRand(3)}, make(map[*Endpoint]float64), 0.0
	for _, e := range endpoints {
		total += float64(e.weight())
	}
	for n := range 10_000 {
		counts[picker.Pick(p)]++
		for _, e := range endpoints {
			worst = max(worst, math.Abs(counts[e]-float64(n+1)*float64(e.weight())/total))
		}
	}
	return worst
}

func TestWeightedRoundRobinContinuesAfterUpdate(t *testing.T) {
	endpoints := withWeights(3, 2, 1)
	steady, rebuilt := WeightedRoundRobin(), WeightedRoundRobin()
	picker, p, q := steady.Picker(endpoints), &Pick{Rand: NewRand(1)}, &Pick{Rand: NewRand(1)}
	for i := range 1000 {
		if picker.Pick(p) != rebuilt.Picker(endpoints).Pick(q) {
			t.Fatalf("pick %d differs when the picker is rebuilt", i)
		}
	}
}
