package catalog

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

func key(name string) rule.Key { return rule.Key{Kind: rule.KindRoute, Namespace: "shop", Name: name} }

func outcomes(a Applied) (out []Outcome) {
	for _, r := range a.Rules {
		out = append(out, r.Outcome)
	}
	return out
}

func names(rules []rule.Rule) (out []string) {
	for _, r := range rules {
		out = append(out, r.Name)
	}
	return out
}

func TestApplyRules(t *testing.T) {
	c, st := open(t)
	created := mustApply(t, c, Change{Puts: []rule.Rule{route("b", "product"), route("a", "*")}, By: "ann"})
	if diff := cmp.Diff([]Outcome{Created, Created}, outcomes(created)); diff != "" {
		t.Error(diff)
	}
	got := created.Rules[0].Rule
	if got.Revision != created.Revision.String() || got.UpdatedBy != "ann" || got.UpdatedAt.IsZero() {
		t.Errorf("stored rule %+v is not managed by the server", got)
	}
	if stored, ok := c.Rule(key("b")); !ok || !cmp.Equal(stored, got) {
		t.Errorf("read back:\n%s", cmp.Diff(got, stored))
	}

	commits := st.commits
	again := route("b", "product")
	again.Revision, again.UpdatedBy = "1-1", "pasted back"
	unchanged := mustApply(t, c, Change{Puts: []rule.Rule{again}, By: "bob"})
	if outcomes(unchanged)[0] != Unchanged || st.commits != commits || unchanged.Rules[0].Rule.UpdatedBy != "ann" {
		t.Errorf("the same again: %+v with %d commits", unchanged, st.commits-commits)
	}

	changed := route("b", "product")
	changed.Spec.(*rule.Route).Subsets["v2"] = map[string]string{"version": "v2"}
	configured := mustApply(t, c, Change{Puts: []rule.Rule{changed}, Deletes: []rule.Key{key("a")}})
	if outcomes(configured)[0] != Configured || configured.Revision.Number <= created.Revision.Number || names(configured.Deleted)[0] != "a" {
		t.Errorf("changed: %+v", configured)
	}
	changed.Spec.(*rule.Route).Subsets["v3"] = nil // the caller's, not ours
	all, at := c.Rules(Filter{Namespace: "shop"})
	if len(all) != 1 || len(all[0].Spec.(*rule.Route).Subsets) != 2 || at != configured.Revision {
		t.Errorf("rules %+v at %v", all, at)
	}
	if _, err := c.ApplyRules(t.Context(), Change{Deletes: []rule.Key{key("a")}}); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleting what is gone: %v", err)
	}
}

func TestConflicts(t *testing.T) {
	moved := route("moved", "product")
	tests := map[string]struct {
		change Change
		first  string // "" if it is taken
	}{
		"a second":                      {Change{Puts: []rule.Rule{route("second", "product")}}, "first"},
		"the same name":                 {Change{Puts: []rule.Rule{route("first", "product")}}, ""},
		"of all services":               {Change{Puts: []rule.Rule{route("all", "*")}}, ""},
		"two of all services":           {Change{Puts: []rule.Rule{route("all", "*"), route("all2", "*")}}, "all"},
		"another service":               {Change{Puts: []rule.Rule{route("second", "order")}}, ""},
		"two in one change":             {Change{Puts: []rule.Rule{route("x", "order"), route("y", "order")}}, "x"},
		"in place of it":                {Change{Puts: []rule.Rule{route("second", "product")}, Deletes: []rule.Key{key("first")}}, ""},
		"the first moves away":          {Change{Puts: []rule.Rule{route("second", "product"), route("first", "order")}}, ""},
		"another moves in":              {Change{Puts: []rule.Rule{moved}}, "first"},
		"the first comes back as other": {Change{Puts: []rule.Rule{route("first", "product"), route("second", "product")}}, "first"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := open(t)
			mustApply(t, c, Change{Puts: []rule.Rule{route("first", "product"), route("moved", "elsewhere")}})
			before := c.Revision()
			_, err := c.ApplyRules(t.Context(), test.change)
			if test.first == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			conflict, ok := errors.AsType[*Conflict](err)
			if !ok || conflict.First.Name != test.first || !strings.Contains(err.Error(), test.first) {
				t.Errorf("error %v, want a conflict that names %s", err, test.first)
			}
			if c.Revision() != before {
				t.Error("something was written")
			}
		})
	}
}

func TestPreconditions(t *testing.T) {
	c, _ := open(t)
	at := mustApply(t, c, Change{Puts: []rule.Rule{route("a", "product")}}).Revision
	other := discovery.Revision{Epoch: at.Epoch, Number: at.Number + 1}
	tests := map[string]struct {
		guard   map[rule.Key]discovery.Revision
		holds   bool
		current discovery.Revision
	}{
		"at its revision": {map[rule.Key]discovery.Revision{key("a"): at}, true, at},
		"at another":      {map[rule.Key]discovery.Revision{key("a"): other}, false, at},
		"must not exist":  {map[rule.Key]discovery.Revision{key("a"): {}}, false, at},
		"does not exist":  {map[rule.Key]discovery.Revision{key("b"): {}}, true, discovery.Revision{}},
		"is not there":    {map[rule.Key]discovery.Revision{key("b"): at}, false, discovery.Revision{}},
		"one of two":      {map[rule.Key]discovery.Revision{key("b"): {}, key("a"): other}, false, at},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := c.ApplyRules(t.Context(), Change{Puts: []rule.Rule{route("a", "product")}, If: test.guard, DryRun: true})
			if test.holds {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			p, ok := errors.AsType[*Precondition](err)
			if !ok || p.Current != test.current {
				t.Errorf("error %v, want a precondition with the current revision %v", err, test.current)
			}
		})
	}
}

func TestDryRun(t *testing.T) {
	c, st := open(t)
	mustApply(t, c, Change{Puts: []rule.Rule{route("a", "product")}})
	before, commits := c.Revision(), st.commits
	got := mustApply(t, c, Change{Puts: []rule.Rule{route("b", "order"), route("a", "product")}, DryRun: true})
	if diff := cmp.Diff([]Outcome{Created, Unchanged}, outcomes(got)); diff != "" {
		t.Error(diff)
	}
	if _, ok := c.Rule(key("b")); ok || c.Revision() != before || st.commits != commits {
		t.Error("a dry run wrote")
	}
	_, err := c.ApplyRules(t.Context(), Change{Puts: []rule.Rule{route("b", "product")}, DryRun: true})
	if _, ok := errors.AsType[*Conflict](err); !ok {
		t.Errorf("a dry run does not see the conflict: %v", err)
	}
}

func TestBadRules(t *testing.T) {
	c, _ := open(t)
	bad := route("a", "product")
	bad.Spec.(*rule.Route).Rules[0].Split[0].Weight = 99
	if _, err := c.ApplyRules(t.Context(), Change{Puts: []rule.Rule{bad}}); err == nil || !strings.Contains(err.Error(), "99") {
		t.Errorf("invalid: %v", err)
	}
	twice := Change{Puts: []rule.Rule{route("a", "product"), route("a", "order")}}
	if _, err := c.ApplyRules(t.Context(), twice); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("twice: %v", err)
	}
	both := Change{Puts: []rule.Rule{route("a", "product")}, Deletes: []rule.Key{key("a")}}
	if _, err := c.ApplyRules(t.Context(), both); !errors.Is(err, discovery.ErrInvalid) {
		t.Errorf("put and deleted: %v", err)
	}
}

func TestFilter(t *testing.T) {
	c, _ := open(t)
	other := route("z", "product")
	other.Namespace = "bank"
	mustApply(t, c, Change{Puts: []rule.Rule{route("b", "order"), route("a", "*"), other}})
	for name, test := range map[string]struct {
		filter Filter
		want   []string
	}{
		"all":               {Filter{}, []string{"z", "a", "b"}},
		"namespace":         {Filter{Namespace: "shop"}, []string{"a", "b"}},
		"service":           {Filter{Service: "order"}, []string{"b"}},
		"all services":      {Filter{Service: "*"}, []string{"a"}},
		"kind ignores case": {Filter{Namespace: "shop", Kind: "route"}, []string{"a", "b"}},
		"other kind":        {Filter{Kind: rule.KindRetry}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := c.Rules(test.filter)
			if diff := cmp.Diff(test.want, names(got)); diff != "" {
				t.Errorf("rules (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRulePush: who uses a service hears of its own rules and of those for all services, when they change.
func TestRulePush(t *testing.T) {
	c, _ := open(t)
	known := mustPut(t, c, instance1("p1"))
	step := func(what string, want int) {
		t.Helper()
		u := c.Update(product, known)
		if u == nil || u.Snapshot || !u.HasRules || len(u.Rules) != want || len(u.Instances) != 0 {
			t.Fatalf("%s: %v, want a delta with %d rules", what, u, want)
		}
		known.Number = u.Revision
	}
	mustApply(t, c, Change{Puts: []rule.Rule{route("own", "product")}})
	step("own rule", 1)
	mustApply(t, c, Change{Puts: []rule.Rule{route("all", "*")}})
	step("rule for all", 2)
	mustApply(t, c, Change{Puts: []rule.Rule{route("own", "order")}})
	step("own rule moved away", 1)
	mustApply(t, c, Change{Deletes: []rule.Key{key("all")}})
	step("rule for all deleted", 0)
	mustApply(t, c, Change{Puts: []rule.Rule{route("foreign", "stock")}})
	if u := c.Update(product, known); u != nil {
		t.Errorf("a foreign rule: %v", u)
	}
	mustPut(t, c, instance1("p2"))
	if u := c.Update(product, known); u == nil || u.HasRules || len(u.Instances) != 1 {
		t.Errorf("an instance: %v, want no rules", u)
	}
	missing := discovery.Name{Service: "nobody", Namespace: "shop"}
	mustApply(t, c, Change{Puts: []rule.Rule{route("all", "*")}})
	if u := c.Update(missing, discovery.Revision{}); !u.Missing || len(u.Rules) != 1 {
		t.Errorf("a missing service: %v, want the rule for all", u)
	}
}

// A rule that the store does not hold is refused alone: what is committed with it is not its business.
func TestARuleThatIsTooLarge(t *testing.T) {
	c, _ := open(t)
	r := route("huge", "product")
	fill := func(n int, text string) rule.StringMatch {
		return rule.StringMatch{In: slices.Repeat([]string{text}, n)}
	}
	values := map[string]rule.StringMatch{"x": fill(100, strings.Repeat("<", 1000)), "y": fill(74, strings.Repeat("<", 1000)), "z": fill(1, "a")}
	r.Spec.(*rule.Route).Rules[0].Match = []rule.Match{{Headers: values}}
	doc, err := newDocument(r, c.Revision(), "", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	values["z"] = fill(1, "a")
	missing := 1<<20 - 20 - len(doc.json)
	values["z"].In[0] = strings.Repeat("a", missing%1000)
	for range missing / 1000 {
		v := values["z"]
		v.In = append(v.In, strings.Repeat("a", 997))
		values["z"] = v
	}
	gate := make(chan struct{})
	started := make(chan struct{})
	go c.committer.Do(context.Background(), func(*store.Batch) error { close(started); <-gate; return nil })
	<-started
	var wg sync.WaitGroup
	var good, bad error
	wg.Go(func() { _, bad = c.ApplyRules(t.Context(), Change{Puts: []rule.Rule{r}}) })
	wg.Go(func() { _, good = c.PutInstances(t.Context(), []discovery.Instance{instance1("p1")}) })
	time.Sleep(50 * time.Millisecond) // both wait
	close(gate)
	wg.Wait()
	if !errors.Is(bad, discovery.ErrInvalid) {
		t.Errorf("the rule: %v", bad)
	}
	if good != nil {
		t.Errorf("an instance is refused for a rule: %v", good)
	}
}
