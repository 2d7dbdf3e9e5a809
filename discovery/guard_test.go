package discovery

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
)

type push struct {
	ids     []string
	removed []Removal
	missing bool
}

type belief struct {
	ids, kept []string
	missing   bool
}

func TestGuard(t *testing.T) {
	for _, c := range []struct {
		name   string
		pushes []push
		want   belief
	}{
		{"first empty snapshot", []push{{missing: true}}, belief{missing: true}},
		{"empty snapshot is ignored", []push{{ids: []string{"a", "b"}}, {}}, belief{ids: []string{"a", "b"}}},
		{"missing is an empty snapshot", []push{{ids: []string{"a", "b"}}, {missing: true}}, belief{ids: []string{"a", "b"}}},
		{"empty with reasons is believed", []push{{ids: []string{"a", "b"}}, {removed: removed("a", "b"), missing: true}}, belief{missing: true}},
		{"empty with one reason", []push{{ids: []string{"a", "b"}}, {removed: removed("a")}}, belief{ids: []string{"b"}}},
		{"a removal without a reason is none", []push{{ids: []string{"a"}}, {removed: []Removal{{ID: "a"}}}}, belief{ids: []string{"a"}}},
		{"half may vanish", []push{{ids: []string{"a", "b"}}, {ids: []string{"a"}}}, belief{ids: []string{"a"}}},
		{"more than half is kept", []push{{ids: []string{"a", "b", "c"}}, {ids: []string{"a"}}}, belief{ids: []string{"a"}, kept: []string{"b", "c"}}},
		{"reasons do not count as vanished", []push{{ids: []string{"a", "b", "c"}}, {ids: []string{"a"}, removed: removed("b")}}, belief{ids: []string{"a"}}},
		{"a complete swap", []push{{ids: []string{"a", "b"}}, {ids: []string{"c", "d"}}}, belief{ids: []string{"c", "d"}, kept: []string{"a", "b"}}},
		{"kept stay", []push{{ids: []string{"a", "b", "c"}}, {ids: []string{"a"}}, {ids: []string{"a"}}}, belief{ids: []string{"a"}, kept: []string{"b", "c"}}},
		{"kept come back", []push{{ids: []string{"a", "b", "c"}}, {ids: []string{"a"}}, {ids: []string{"a", "b"}}}, belief{ids: []string{"a", "b"}, kept: []string{"c"}}},
		{"kept leave with a reason", []push{{ids: []string{"a", "b", "c"}}, {ids: []string{"a"}}, {ids: []string{"a"}, removed: removed("b")}}, belief{ids: []string{"a"}, kept: []string{"c"}}},
		{"kept leave when the pool is whole", []push{{ids: []string{"a", "b", "c"}}, {ids: []string{"a"}}, {ids: []string{"a", "d", "e"}}}, belief{ids: []string{"a", "d", "e"}}},
		{"kept survive an empty snapshot", []push{{ids: []string{"a", "b", "c"}}, {ids: []string{"a"}}, {}}, belief{ids: []string{"a"}, kept: []string{"b", "c"}}},
		{"kept are bounded by the pool", []push{{ids: []string{"a"}}, {ids: []string{"b"}}, {ids: []string{"c"}}}, belief{ids: []string{"c"}, kept: []string{"b"}}},
		{"an unsorted snapshot", []push{{ids: []string{"c", "a", "b"}}, {ids: []string{"c", "a", "b"}}}, belief{ids: []string{"a", "b", "c"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var g Guard
			var v View
			for _, p := range c.pushes {
				v = g.Apply(Snapshot{Instances: instances(p.ids...), Removed: p.removed, Missing: p.missing})
			}
			got := belief{ids(v.Instances), ids(v.Kept), v.Missing}
			if d := cmp.Diff(c.want, got, cmp.AllowUnexported(belief{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// The instances of the other protocol must not hide that a protocol's pool was emptied.
func TestGuardJudgesEachProtocol(t *testing.T) {
	both := instances("a", "b")
	both = append(both, Instance{ID: "c", Protocol: HTTP}, Instance{ID: "d", Protocol: HTTP})
	var g Guard
	g.Apply(Snapshot{Instances: both})
	v := g.Apply(Snapshot{Instances: both[2:]})
	if d := cmp.Diff([]string{"a", "b", "c", "d"}, ids(v.Instances)); d != "" {
		t.Error(d)
	}
}

func TestGuardDoesNotTouchWhatItWasGiven(t *testing.T) {
	var g Guard
	first := instances("a", "b", "c")
	g.Apply(Snapshot{Instances: first})
	g.Apply(Snapshot{Instances: instances("a"), Removed: removed("b")})
	g.Apply(Snapshot{})
	if d := cmp.Diff(instances("a", "b", "c"), first); d != "" {
		t.Error(d)
	}
}

func ExampleGuard() {
	var guard Guard
	guard.Apply(Snapshot{Service: "product.shop", Instances: []Instance{{ID: "a"}, {ID: "b"}, {ID: "c"}}})

	lost := guard.Apply(Snapshot{Service: "product.shop"}) // the source lost its data
	fmt.Println("empty push:", len(lost.Instances), "instances")

	half := guard.Apply(Snapshot{Service: "product.shop", Instances: []Instance{{ID: "a"}}})
	fmt.Println("most vanish:", len(half.Instances), "instance,", len(half.Kept), "kept")

	said := guard.Apply(Snapshot{Service: "product.shop", Removed: []Removal{{"a", Deregistered}, {"b", Expired}, {"c", Deleted}}})
	fmt.Println("with reasons:", len(said.Instances), "instances,", len(said.Kept), "kept")
	// Output:
	// empty push: 3 instances
	// most vanish: 1 instance, 2 kept
	// with reasons: 0 instances, 0 kept
}
