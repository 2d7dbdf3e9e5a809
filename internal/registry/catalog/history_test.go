package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

func weighted(name, service string, version int) rule.Rule {
	r := route(name, service)
	r.Spec.(*rule.Route).Subsets["v1"] = map[string]string{"version": fmt.Sprint(version)}
	return r
}

func mustHistory(t *testing.T, c *Catalog, key rule.Key) []Version {
	t.Helper()
	vs, err := c.History(key)
	if err != nil {
		t.Fatal(err)
	}
	return vs
}

func outcomesOf(vs []Version) (out []Outcome) {
	for _, v := range vs {
		out = append(out, v.Outcome)
	}
	return out
}

// contents gives all that is in a store.
func contents(t *testing.T, st store.Store) map[string]store.Entry {
	t.Helper()
	out := make(map[string]store.Entry)
	if err := st.Range("", func(e store.Entry) error {
		e.Value = bytes.Clone(e.Value)
		out[e.Key] = e
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestHistory: what happened to a rule is told newest first, outlasts its deletion and a restart.
func TestHistory(t *testing.T) {
	c, st := open(t)
	first := mustApply(t, c, Change{Puts: []rule.Rule{weighted("a", "product", 1), weighted("ab", "order", 1)}, By: "ann"})
	mustApply(t, c, Change{Puts: []rule.Rule{weighted("a", "product", 1)}}) // the same
	second := mustApply(t, c, Change{Puts: []rule.Rule{weighted("a", "product", 2)}, By: "bob"})
	gone := mustApply(t, c, Change{Deletes: []rule.Key{key("a")}, By: "cem"})
	mustApply(t, c, Change{Puts: []rule.Rule{weighted("a", "product", 3)}, DryRun: true})
	mustApply(t, c, Change{Puts: []rule.Rule{weighted("a", "product", 3)}})
	for range 2 {
		vs := mustHistory(t, c, key("a"))
		if diff := cmp.Diff([]Outcome{Created, RuleDeleted, Configured, Created}, outcomesOf(vs)); diff != "" {
			t.Fatalf("outcomes (-want +got):\n%s", diff)
		}
		if vs[3].Revision != first.Revision || vs[2].Revision != second.Revision || vs[1].Revision != gone.Revision {
			t.Errorf("revisions %v", vs)
		}
		if vs[3].By != "ann" || vs[1].By != "cem" || vs[1].At.IsZero() || vs[1].Rule.Spec != nil {
			t.Errorf("versions %+v", vs)
		}
		if diff := cmp.Diff(second.Rules[0].Rule, vs[2].Rule); diff != "" {
			t.Errorf("the second version (-want +got):\n%s", diff)
		}
		if vs := mustHistory(t, c, key("ab")); len(vs) != 1 {
			t.Errorf("history of ab: %v", vs)
		}
		if vs := mustHistory(t, c, key("never")); vs != nil {
			t.Errorf("history of what never was: %v", vs)
		}
		c.Close()
		c = openOn(t, st)
	}
}

// TestHistoryOfARule: the newest 100 stay, over a restart too.
func TestHistoryOfARule(t *testing.T) {
	c, st := open(t)
	write := func(n int) {
		for i := range n {
			mustApply(t, c, Change{Puts: []rule.Rule{weighted("a", "product", i)}})
		}
	}
	write(maxVersions)
	if vs := mustHistory(t, c, key("a")); len(vs) != maxVersions || vs[maxVersions-1].Outcome != Created {
		t.Fatalf("%d versions at the bound", len(vs))
	}
	write(1)
	c.Close()
	c = openOn(t, st)
	write(2)
	vs := mustHistory(t, c, key("a"))
	if len(vs) != maxVersions || vs[maxVersions-1].Outcome != Configured {
		t.Errorf("%d versions, the oldest %s", len(vs), vs[len(vs)-1].Outcome)
	}
	for i, v := range vs[1:] {
		if v.Revision.Number >= vs[i].Revision.Number {
			t.Fatalf("%v after %v", v.Revision, vs[i].Revision)
		}
	}
}

// TestHistoryInAll: when all versions together are too many, the oldest go, whosever they are.
func TestHistoryInAll(t *testing.T) {
	for name, most := range map[string]int{"bounded": 20_000, "control": maxHistoryBytes} {
		t.Run(name, func(t *testing.T) {
			c, st := open(t)
			c.history.most = most
			for i := range 200 {
				mustApply(t, c, Change{Puts: []rule.Rule{weighted(fmt.Sprintf("r%d", i%20), fmt.Sprintf("s%d", i%20), i)}})
			}
			total, bytes := 0, 0
			if err := st.Range(historyPrefix, func(e store.Entry) error {
				total, bytes = total+1, bytes+len(e.Value)+historyOverhead
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if bytes != c.history.bytes {
				t.Errorf("%d bytes are stored, %d counted", bytes, c.history.bytes)
			}
			if name == "control" {
				if total != 200 {
					t.Errorf("%d versions without a bound, want 200", total)
				}
				return
			}
			if bytes > most || bytes < most*8/10 {
				t.Errorf("%d bytes of history, want at most %d and not much less", bytes, most)
			}
			if vs := mustHistory(t, c, key("r19")); len(vs) == 0 || vs[0].Rule.Spec.(*rule.Route).Subsets["v1"]["version"] != "199" {
				t.Errorf("the newest version is gone: %v", vs)
			}
		})
	}
}

// TestRestoredRules: what comes from a store of another epoch has revisions of this one, so that guards can hold.
func TestRestoredRules(t *testing.T) {
	c, st := open(t)
	mustApply(t, c, Change{Puts: []rule.Rule{route("a", "product")}, By: "ann"})
	c.Close()
	other := store.NewMemory()
	for key, e := range contents(t, st) {
		if err := other.Commit([]store.Write{{Key: key, Value: e.Value}}); err != nil {
			t.Fatal(err)
		}
	}
	c = openOn(t, other)
	r, _ := c.Rule(key("a"))
	at, err := discovery.ParseRevision(r.Revision)
	if err != nil || at.Epoch != other.Epoch() || r.UpdatedBy != "ann" {
		t.Fatalf("rule %+v, want a revision of epoch %x", r, other.Epoch())
	}
	mustApply(t, c, Change{Puts: []rule.Rule{weighted("a", "product", 2)}, If: map[rule.Key]discovery.Revision{key("a"): at}})
	if vs := mustHistory(t, c, key("a")); len(vs) != 2 || vs[1].Revision != at || vs[1].Rule.Revision != at.String() {
		t.Errorf("history %v, want the oldest at %v", vs, at)
	}
}

// TestDo: writes of other rooms share the queue and the revisions, and a failed one leaves nothing.
func TestDo(t *testing.T) {
	c, st := open(t)
	before := mustPut(t, c, instance1("p1"))
	rev, err := c.Do(t.Context(), func(b *store.Batch) error { b.Put("t/1", []byte("token")); return nil })
	if err != nil || rev.Number != before.Number+1 {
		t.Fatalf("%v, %v after %v", rev, err, before)
	}
	c.writing.Lock()
	c.ceiling = c.revision + 1 // the next write sets more aside
	c.writing.Unlock()
	no := errors.New("no")
	if _, err := c.Do(t.Context(), func(b *store.Batch) error { b.Put("t/2", nil); return no }); !errors.Is(err, no) {
		t.Errorf("error %v", err)
	}
	c.writing.Lock() // what the failed operation had set aside is not on disk
	if onDisk := binary.BigEndian.Uint64(contents(t, st)[ceilingKey].Value); c.ceiling > onDisk {
		t.Errorf("the ceiling is %d, on disk %d", c.ceiling, onDisk)
	}
	c.writing.Unlock()
	if after := mustPut(t, c, instance1("p2")); after.Number != rev.Number+1 {
		t.Errorf("revision %v after %v and a failure", after, rev)
	}
	left := contents(t, st)
	if _, two := left["t/2"]; left["t/1"].Revision != rev.Number || two {
		t.Errorf("stored %v", left)
	}
	c.Close()
	if got, _ := openOn(t, st).Instances(product); len(got) != 2 {
		t.Errorf("instances %v beside keys of another room", ids(got))
	}
}

// TestAudit: what an actor changes is in the audit log, what a session changes is not.
func TestAudit(t *testing.T) {
	c, _ := open(t)
	ctx := audit.With(t.Context(), audit.Actor{Who: "ann", From: "10.0.0.1"})
	weight := 5
	owned := instance1("p2")
	if _, err := c.PutOwned(t.Context(), []discovery.Instance{owned}, 0); err != nil {
		t.Fatal(err)
	}
	steps := []error{
		second(c.PutTerms(ctx, []discovery.Instance{instance1("p1")}, Terms{})),
		third(c.OrderInstance(ctx, InstanceKey{product, "p1"}, Order{Weight: &weight})),
		second(c.DeleteInstances(ctx, []InstanceKey{{product, "p1"}}, discovery.Deleted)),
		second(c.ApplyRules(ctx, Change{Puts: []rule.Rule{route("a", "product")}})),
		second(c.ApplyRules(ctx, Change{Puts: []rule.Rule{weighted("a", "product", 2)}, Action: "rollback"})),
		second(c.ApplyRules(ctx, Change{Deletes: []rule.Key{key("a")}})),
		third(c.PutAlias(ctx, Alias{Name: discovery.Name{Service: "1:2", Namespace: "shop"}, Target: product})),
		second(c.DeleteAlias(ctx, discovery.Name{Service: "1:2", Namespace: "shop"})),
	}
	if err := errors.Join(steps...); err != nil {
		t.Fatal(err)
	}
	entries, err := c.Audit().List(audit.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		if e.Who != "ann" || e.From != "10.0.0.1" || e.At.IsZero() || e.Revision == "" || e.Namespace != "shop" {
			t.Errorf("entry %+v", e)
		}
		got = append([]string{strings.Join([]string{e.Action, e.Kind, e.Target, e.Detail}, " ")}, got...)
	}
	want := []string{
		"put instance product/p1 10.0.0.7:8080", `order instance product/p1 {"process":"proc-1","weight":5}`,
		"delete instance product/p1 deleted", "put Route a created", "rollback Route a configured", "delete Route a deleted",
		"put alias 1:2 product.shop", "delete alias 1:2 ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if vs := mustHistory(t, c, key("a")); vs[0].By != "ann" {
		t.Errorf("deleted by %q", vs[0].By)
	}
}

func second[A any](_ A, err error) error        { return err }
func third[A, B any](_ A, _ B, err error) error { return err }
