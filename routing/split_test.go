package routing

import (
	"testing"

	"github.com/weftmesh/weft/balancer"
)

func TestSplitFollowsWeights(t *testing.T) {
	tests := []struct {
		split string
		want  map[string]float64
	}{
		{"v1:90 v2:10", map[string]float64{"v1": 90, "v2": 10}},
		{"v1:1 v2:1 v3:1", map[string]float64{"v1": 1, "v2": 1, "v3": 1}},
		{"v1:0 v2:99 v3:1", map[string]float64{"v2": 99, "v3": 1}},
		{"v2", map[string]float64{"v2": 1}},
		{"v1:50 :50", map[string]float64{"v1": 1, "": 1}},
		{"", map[string]float64{"": 1}},
	}
	for _, test := range tests {
		random := newRouter(t, "v1 v2 v3", "", Rule{Split: shares(test.split)})
		if why, bad := deviates(routed(random, 50_000, anonymous), test.want); bad {
			t.Errorf("random, %q: %s", test.split, why)
		}
		sticky := newRouter(t, "v1 v2 v3", "", Rule{Split: shares(test.split), StickyBy: Sticky{Header: "X-User"}})
		if why, bad := deviates(routed(sticky, 50_000, user), test.want); bad {
			t.Errorf("sticky, %q: %s", test.split, why)
		}
	}
}

// What becomes of a split of 50, 30 and 20 when instances are missing.
func TestWhenEmpty(t *testing.T) {
	tests := []struct {
		name        string
		up, reserve string
		whenEmpty   WhenEmpty
		want        map[string]float64
	}{
		{"rest: all there", "v1 v2 v3", "", Rest, map[string]float64{"v1": 50, "v2": 30, "v3": 20}},
		{"rest: one empty", "v2 v3", "", Rest, map[string]float64{"v2": 30, "v3": 20}},
		{"rest: two empty", "v3", "", Rest, map[string]float64{"v3": 1}},
		{"rest: all empty", "v4", "", Rest, map[string]float64{"none": 1}},
		{"rest: a reserve gives way", "v2 v3", "v1", Rest, map[string]float64{"v2": 30, "v3": 20}},
		{"rest: only reserves", "v4", "v1 v2 v3", Rest, map[string]float64{"v1": 50, "v2": 30, "v3": 20}},
		{"rest: only some reserves", "v4", "v2 v3", Rest, map[string]float64{"v2": 30, "v3": 20}},
		{"fail: all there", "v1 v2 v3", "", Fail, map[string]float64{"v1": 50, "v2": 30, "v3": 20}},
		{"fail: one empty", "v2 v3", "", Fail, map[string]float64{"none": 50, "v2": 30, "v3": 20}},
		{"fail: all empty", "", "", Fail, map[string]float64{"none": 1}},
		{"fail: a reserve is something", "v2 v3", "v1", Fail, map[string]float64{"v1": 50, "v2": 30, "v3": 20}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			rule := Rule{Split: shares("v1:50 v2:30 v3:20"), WhenEmpty: test.whenEmpty}
			if why, bad := deviates(routed(newRouter(t, test.up, test.reserve, rule), 50_000, anonymous), test.want); bad {
				t.Error("random:", why)
			}
			rule.StickyBy = Sticky{Header: "x-user"}
			if why, bad := deviates(routed(newRouter(t, test.up, test.reserve, rule), 50_000, user), test.want); bad {
				t.Error("sticky:", why)
			}
		})
	}
}

func TestShareWithoutWeightNeverTakesOver(t *testing.T) {
	r := newRouter(t, "v2", "", Rule{Split: shares("v1:100 v2:0")})
	got := r.Route(anonymous(0), balancer.NewRand(1))
	if got.Destination != nil || got.Substituted || got.Subset != "v1" {
		t.Errorf("got %+v", got)
	}
}

// Nor does its being up keep the reserve of the share that has the weight from being used.
func TestShareWithoutWeightDoesNotRuleOutReserve(t *testing.T) {
	r := newRouter(t, "v2", "v1", Rule{Split: shares("v1:100 v2:0")})
	if got := r.Route(anonymous(0), balancer.NewRand(1)); where(got) != "v1" || got.Substituted {
		t.Errorf("got %+v at %s", got, where(got))
	}
}

// A result says what was drawn and whether something else took over.
func TestSubstituted(t *testing.T) {
	rnd := balancer.NewRand(1)
	for _, sticky := range []Sticky{{}, {Header: "x-user"}} {
		r := newRouter(t, "v2", "", Rule{Split: shares("v1:50 v2:50"), StickyBy: sticky})
		seen := make(map[string]bool)
		for i := range 100 {
			got := r.Route(user(i), rnd)
			seen[got.Subset] = true
			if where(got) != "v2" || got.Substituted != (got.Subset == "v1") {
				t.Fatalf("got %+v at %q", got, where(got))
			}
		}
		if !seen["v1"] || !seen["v2"] {
			t.Errorf("drew only %v", seen)
		}
	}
}
