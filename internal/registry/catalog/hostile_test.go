package catalog

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// A full disk does not use up the revisions that health changes need: states go on, however many writes fail.
func TestStatesGoOnWhileTheDiskIsFull(t *testing.T) {
	for _, failure := range []error{store.ErrFull, store.ErrBroken} {
		c, st := open(t)
		mustPut(t, c, instance1("p1"))
		c.writing.Lock()
		c.ceiling = c.revision + 10
		c.writing.Unlock()
		st.err = failure
		for range 20 {
			if _, err := c.PutInstances(t.Context(), []discovery.Instance{instance1("p2")}); !errors.Is(err, failure) {
				t.Fatal(err)
			}
		}
		c.SetStates([]StateChange{{product, "p1", discovery.Unhealthy}})
		if in, _, _ := c.Instance(product, "p1"); in.State != discovery.Unhealthy {
			t.Errorf("%v: the instance is %s: states are frozen", failure, in.State)
		}
	}
}

// Whoever follows a name is told the "*" rules once it is no alias any more.
func TestRulesComeBackWithTheName(t *testing.T) {
	c, _ := open(t)
	name := discovery.Name{Service: "old", Namespace: "shop"}
	mustApply(t, c, Change{Puts: []rule.Rule{route("all", "*")}})
	mustAlias(t, c, name, product)
	var m mirror
	m.apply(c.Update(name, m.known))
	if len(m.rules) != 0 {
		t.Fatal("an alias has rules")
	}
	if _, err := c.DeleteAlias(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	m.apply(c.Update(name, m.known))
	mustPut(t, c, in("old", "o1"))
	m.apply(c.Update(name, m.known))
	if len(m.rules) != 1 || len(m.instances) != 1 {
		t.Errorf("%d rules, %d instances; want one of each", len(m.rules), len(m.instances))
	}
}

// TestMirrorsOfEverything changes names at random in every way there is, with failing writes and restarts.
func TestMirrorsOfEverything(t *testing.T) {
	for seed := range uint64(5) {
		mirrorsOfEverything(t, seed)
	}
}

func mirrorsOfEverything(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	st := &counting{Memory: store.NewMemory()}
	c, err := Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { c.Close() }()
	services := []string{"a", "b", "c"}
	name := func() discovery.Name { return discovery.Name{Service: services[r.IntN(3)], Namespace: "shop"} }
	type follower struct {
		name discovery.Name
		mirror
	}
	var fs []*follower
	for _, s := range services {
		for range 3 {
			fs = append(fs, &follower{name: discovery.Name{Service: s, Namespace: "shop"}})
		}
	}
	procs := []string{"", "x", "y"}
	for step := range 400 {
		n := name()
		id := fmt.Sprintf("p%d", r.IntN(90))
		in := of(procs[r.IntN(3)], id)
		in.Service, in.Weight = n.Service, 1+r.IntN(3)
		st.err = nil
		if r.IntN(10) == 0 {
			st.err = store.ErrFull
		}
		ctx := t.Context()
		switch k := r.IntN(14); k {
		case 0, 1:
			c.DeleteInstances(ctx, []InstanceKey{{n, id}}, reasons[r.IntN(3)])
		case 2:
			var keys []InstanceKey
			for i := range 90 {
				keys = append(keys, InstanceKey{n, fmt.Sprintf("p%d", i)})
			}
			c.DeleteInstances(ctx, keys, discovery.Deregistered)
		case 3:
			c.SetStates([]StateChange{{n, id, []discovery.State{discovery.Up, discovery.Suspect, discovery.Unhealthy}[r.IntN(3)]}})
		case 4:
			w := 1 + r.IntN(100)
			c.OrderInstance(ctx, InstanceKey{n, id}, Order{Weight: &w, Reset: r.IntN(2) == 0, Labels: map[string]string{"l": fmt.Sprint(r.IntN(3))}})
		case 5:
			c.PutAlias(ctx, Alias{Name: n, Target: name()})
		case 6:
			c.DeleteAlias(ctx, n)
		case 7:
			ru := route(fmt.Sprintf("r%d", r.IntN(2)), []string{n.Service, "*"}[r.IntN(2)])
			ru.Spec.(*rule.Route).Subsets["v1"]["version"] = fmt.Sprint(step)
			c.ApplyRules(ctx, Change{Puts: []rule.Rule{ru}})
		case 8:
			c.ApplyRules(ctx, Change{Deletes: []rule.Key{key(fmt.Sprintf("r%d", r.IntN(2)))}})
		case 9:
			if r.IntN(10) == 0 {
				st.err = nil
				if r.IntN(2) == 0 {
					c.Close()
				} else {
					defer c.Close()
				}
				before := c
				st = &counting{Memory: st.Memory.Reopen()}
				if c, err = Open(st, nil); err != nil {
					t.Fatal(err)
				}
				if c.Revision().Number <= before.Revision().Number {
					t.Fatalf("seed %d: revision %v after %v", seed, c.Revision(), before.Revision())
				}
			}
		case 10, 11:
			c.PutOwned(ctx, []discovery.Instance{in}, time.Minute)
		case 12:
			var ins []discovery.Instance
			for i := range 90 {
				x := in
				x.ID = fmt.Sprintf("p%d", i)
				ins = append(ins, x)
			}
			c.PutInstances(ctx, ins)
		default:
			c.PutInstances(ctx, []discovery.Instance{in})
		}
		f := fs[r.IntN(len(fs))]
		before := f.known
		f.apply(c.Update(f.name, f.known))
		if f.known.Number < before.Number {
			t.Fatalf("seed %d step %d: revision %v after %v", seed, step, f.known, before)
		}
		if step%4 != 0 {
			continue
		}
		var want mirror
		want.apply(c.Update(f.name, discovery.Revision{}))
		got := f.mirror
		want.known, got.known = discovery.Revision{}, discovery.Revision{}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(mirror{}), protocmp.Transform()); diff != "" {
			t.Fatalf("seed %d step %d %s (-want +got):\n%s", seed, step, f.name, diff)
		}
		c.mu.RLock()
		idle := 0
		for _, o := range c.orders {
			if o.idle {
				idle++
			}
		}
		c.mu.RUnlock()
		var totals counts
		for _, s := range c.snapshot(nil) {
			totals = totals.plus(s.counts())
		}
		if c.writing.Lock(); idle != c.resting || totals != c.totals {
			t.Fatalf("seed %d: resting %d, %d idle; totals %+v, counted %+v", seed, c.resting, idle, c.totals, totals)
		}
		c.writing.Unlock()
	}
}
