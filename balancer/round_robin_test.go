package balancer

import (
	"slices"
	"testing"
)

func TestRoundRobinTakesTurns(t *testing.T) {
	endpoints := equalWeights(4)
	picker, p := RoundRobin().Picker(endpoints), &Pick{Rand: NewRand(1)}
	last := slices.Index(endpoints, picker.Pick(p))
	for range 20 {
		next := slices.Index(endpoints, picker.Pick(p))
		if next != (last+1)%4 {
			t.Fatalf("%d follows %d", next, last)
		}
		last = next
	}
}

func TestRoundRobinStaysEvenAroundRefused(t *testing.T) {
	endpoints := equalWeights(4)
	counts := count(t, RoundRobin().Picker(endpoints), endpoints, refusing(endpoints[1]), 1, 300)
	if want := []int{100, 0, 100, 100}; !slices.Equal(counts, want) {
		t.Errorf("got %v, want %v", counts, want)
	}
}

// The position survives a rebuild of the picker; a new policy, the control, starts somewhere else.
func TestRoundRobinContinuesAfterUpdate(t *testing.T) {
	pool := NewPool(nil)
	specs := []Spec{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}, {ID: "e"}}
	policy, control := RoundRobin(), 0
	p := &Pick{Rand: NewRand(5)}
	for range 50 {
		endpoints := pool.Update(specs)
		last := slices.Index(endpoints, policy.Picker(endpoints).Pick(p))
		specs[0].Weight++
		endpoints = pool.Update(specs)
		if next := slices.Index(endpoints, policy.Picker(endpoints).Pick(p)); next != (last+1)%5 {
			t.Fatalf("after an update %d follows %d", next, last)
		}
		if other := slices.Index(endpoints, RoundRobin().Picker(endpoints).Pick(p)); other != (last+2)%5 {
			control++
		}
	}
	if control == 0 {
		t.Error("new policies continued too: the test cannot tell")
	}
}

// Callers that start together do not all begin at the same endpoint.
func TestRoundRobinStartsAtRandom(t *testing.T) {
	endpoints, counts, r := equalWeights(4), make([]int, 4), NewRand(1)
	for range 4000 {
		counts[slices.Index(endpoints, RoundRobin().Picker(endpoints).Pick(&Pick{Rand: r}))]++
	}
	if why, bad := deviates(counts, floats(1, 1, 1, 1)); bad {
		t.Error(why)
	}
}

// Calls that alternate strictly between two sets of two see all four endpoints if each set has a scope, and only
// two, the control, if they share a position.
func TestScopesDoNotDisturbEachOther(t *testing.T) {
	for _, policy := range []Policy{RoundRobin(), WeightedRoundRobin()} {
		a, b := equalWeights(2), equalWeights(2)
		scoped := policy.(Scoper)
		if seen := alternate(scoped.Scope("a").Picker(a), scoped.Scope("b").Picker(b)); seen != 4 {
			t.Errorf("%s: %d endpoints seen of 4", policy.Name(), seen)
		}
		again := scoped.Scope("a").(Scoper)
		if again.Name() != policy.Name() {
			t.Errorf("the scope of %s is called %s", policy.Name(), again.Name())
		}
	}
	shared := RoundRobin()
	if seen := alternate(shared.Picker(equalWeights(2)), shared.Picker(equalWeights(2))); seen != 2 {
		t.Errorf("control: %d endpoints seen", seen)
	}
}

func alternate(a, b Picker) int {
	seen, p := make(map[*Endpoint]bool), &Pick{Rand: NewRand(1)}
	for range 20 {
		seen[a.Pick(p)], seen[b.Pick(p)] = true, true
	}
	return len(seen)
}

func TestScopeIsRemembered(t *testing.T) {
	endpoints, policy, p := equalWeights(5), RoundRobin().(Scoper), &Pick{Rand: NewRand(1)}
	first := slices.Index(endpoints, policy.Scope("v1").Picker(endpoints).Pick(p))
	policy.Scope("v2").Picker(endpoints).Pick(p)
	if second := slices.Index(endpoints, policy.Scope("v1").Picker(endpoints).Pick(p)); second != (first+1)%5 {
		t.Errorf("%d follows %d", second, first)
	}
}
