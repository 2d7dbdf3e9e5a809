package catalog

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

var p1 = InstanceKey{product, "p1"}

func of(process, id string) discovery.Instance {
	in := instance1(id)
	in.Process = process
	return in
}

func own(t *testing.T, c *Catalog, ins ...discovery.Instance) error {
	t.Helper()
	_, err := c.PutOwned(t.Context(), ins, 7*time.Second)
	return err
}

func mustOrder(t *testing.T, c *Catalog, key InstanceKey, o Order) discovery.Instance {
	t.Helper()
	in, _, err := c.OrderInstance(t.Context(), key, o)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func remove(t *testing.T, c *Catalog, reason discovery.Reason, ids ...string) {
	t.Helper()
	var keys []InstanceKey
	for _, id := range ids {
		keys = append(keys, InstanceKey{product, id})
	}
	if _, err := c.DeleteInstances(t.Context(), keys, reason); err != nil {
		t.Fatal(err)
	}
}

func weight(n int) *int { return &n }

// TestOrder: what an operator says goes over what the process says, until it is reset.
func TestOrder(t *testing.T) {
	c, _ := open(t)
	if err := own(t, c, of("a", "p1")); err != nil {
		t.Fatal(err)
	}
	known := c.Revision()
	got := mustOrder(t, c, p1, Order{Weight: weight(7), State: discovery.Isolated})
	want := of("a", "p1")
	want.Weight, want.State = 7, discovery.Isolated
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ordered (-want +got):\n%s", diff)
	}
	if u := c.Update(product, known); u == nil || len(u.Instances) != 1 || u.Instances[0].Weight != 7 || u.Instances[0].State != "isolated" {
		t.Errorf("pushed %v", u)
	}
	if in, _ := c.Written(product, "p1"); !cmp.Equal(in, of("a", "p1")) {
		t.Errorf("written %+v", in)
	}
	before := c.Revision()
	mustOrder(t, c, p1, Order{Weight: weight(7)})
	if c.Revision() != before {
		t.Error("the same order again was written")
	}
	want.Labels = map[string]string{"version": "v9"}
	if got := mustOrder(t, c, p1, Order{Labels: want.Labels}); !cmp.Equal(got, want) {
		t.Errorf("one field more:\n%s", cmp.Diff(want, got))
	}
	if o, ok := c.Ordered(p1); !ok || *o.Weight != 7 || o.State != discovery.Isolated || o.Labels["version"] != "v9" {
		t.Errorf("ordered %+v", o)
	}
	c.SetStates([]StateChange{{product, "p1", discovery.Suspect}})
	if got := mustOrder(t, c, p1, Order{Reset: true, Weight: weight(3)}); got.Weight != 3 || got.State != discovery.Suspect || got.Labels["version"] != "v1" {
		t.Errorf("after a reset: %+v", got)
	}
	want = of("a", "p1")
	want.State = discovery.Suspect
	if got := mustOrder(t, c, p1, Order{Reset: true}); !cmp.Equal(got, want) {
		t.Errorf("after a reset of all:\n%s", cmp.Diff(want, got))
	}
	if _, ok := c.Ordered(p1); ok || len(c.orders) != 0 {
		t.Error("an order is left")
	}
}

func TestOrderRefusals(t *testing.T) {
	c, _ := open(t)
	mustPut(t, c, instance1("p1"))
	for name, test := range map[string]struct {
		key   InstanceKey
		order Order
		want  error
	}{
		"absent":          {InstanceKey{product, "p9"}, Order{Weight: weight(1)}, ErrNotFound},
		"weight too low":  {p1, Order{Weight: weight(0)}, discovery.ErrInvalid},
		"weight too high": {p1, Order{Weight: weight(10_001)}, discovery.ErrInvalid},
		"state":           {p1, Order{State: discovery.Suspect}, discovery.ErrInvalid},
		"labels":          {p1, Order{Labels: labels(65, 1)}, discovery.ErrInvalid},
		"at the bound":    {p1, Order{Weight: weight(10_000), Labels: labels(64, 1), State: discovery.Draining}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := c.OrderInstance(t.Context(), test.key, test.order); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

// TestOrderOutlasts: an order stands while its process comes and goes and the registry restarts; another process and a PUT
// by REST end it.
func TestOrderOutlasts(t *testing.T) {
	for name, test := range map[string]struct {
		then   func(t *testing.T, c *Catalog)
		stands bool
	}{
		"nothing": {func(*testing.T, *Catalog) {}, true},
		"same process": {func(t *testing.T, c *Catalog) {
			in := of("a", "p1")
			in.Address = "10.0.0.9:80"
			if err := own(t, c, in); err != nil {
				t.Fatal(err)
			}
		}, true},
		"same process after it left": {func(t *testing.T, c *Catalog) {
			remove(t, c, discovery.Deregistered, "p1")
			if err := own(t, c, of("a", "p1")); err != nil {
				t.Fatal(err)
			}
		}, true},
		"another process": {func(t *testing.T, c *Catalog) {
			if err := own(t, c, of("b", "p1")); err != nil {
				t.Fatal(err)
			}
		}, false},
		"another process after it left": {func(t *testing.T, c *Catalog) {
			remove(t, c, discovery.Deregistered, "p1")
			if err := own(t, c, of("b", "p1")); err != nil {
				t.Fatal(err)
			}
		}, false},
		"REST": {func(t *testing.T, c *Catalog) { mustPut(t, c, of("a", "p1")) }, false},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %t", name, restart), func(t *testing.T) {
				c, st := open(t)
				again := func() {
					if restart {
						c.Close()
						c = openOn(t, st)
					}
				}
				if err := own(t, c, of("a", "p1")); err != nil {
					t.Fatal(err)
				}
				mustOrder(t, c, p1, Order{State: discovery.Isolated, Weight: weight(5), Labels: map[string]string{"x": "y"}})
				again()
				test.then(t, c)
				again()
				in, _, _ := c.Instance(product, "p1")
				if stands := in.State == discovery.Isolated && in.Weight == 5 && in.Labels["x"] == "y"; stands != test.stands {
					t.Errorf("%+v, want the order to stand: %t", in, test.stands)
				}
				if !test.stands && (in.State != discovery.Up || in.Weight != 100 || len(contents(t, st)) != 2) {
					t.Errorf("%+v, stored %v", in, contents(t, st))
				}
			})
		}
	}
}

// TestAProcessThatDrains is draining whatever was ordered.
func TestAProcessThatDrains(t *testing.T) {
	c, _ := open(t)
	in := of("a", "p1")
	if err := own(t, c, in); err != nil {
		t.Fatal(err)
	}
	mustOrder(t, c, p1, Order{State: discovery.Up})
	in.State = discovery.Draining
	if err := own(t, c, in); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := c.Instance(product, "p1"); got.State != discovery.Draining {
		t.Errorf("state %s", got.State)
	}
	in.State = discovery.Isolated // the control: any other word of the process gives way
	if err := own(t, c, in); err != nil {
		t.Fatal(err)
	}
	if got, _, _ := c.Instance(product, "p1"); got.State != discovery.Up {
		t.Errorf("state %s", got.State)
	}
}

// TestDeletedStaysDeleted: over restarts too, until another process or REST comes. What left by itself is the control.
func TestDeletedStaysDeleted(t *testing.T) {
	for _, reason := range []discovery.Reason{discovery.Deleted, discovery.Deregistered} {
		t.Run(string(reason), func(t *testing.T) {
			c, st := open(t)
			if err := own(t, c, of("a", "p1")); err != nil {
				t.Fatal(err)
			}
			remove(t, c, reason, "p1")
			c.Close()
			c = openOn(t, st.Reopen())
			deleted := reason == discovery.Deleted
			if c.Deleted(p1, "a") != deleted || c.Deleted(p1, "b") {
				t.Errorf("deleted: %t of a, %t of b", c.Deleted(p1, "a"), c.Deleted(p1, "b"))
			}
			err := own(t, c, of("a", "p0"), of("a", "p1"))
			refused, _ := errors.AsType[*Refused](err)
			if !deleted {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrDeleted) || refused == nil || refused.Key != p1 || c.Has(InstanceKey{product, "p0"}) {
				t.Fatalf("error %v, want ErrDeleted of p1 and nothing written", err)
			}
			if err := own(t, c, of("b", "p1")); err != nil {
				t.Error(err)
			}
			if c.Deleted(p1, "a") || len(c.orders) != 0 {
				t.Error("it is deleted although another process has put it back")
			}
		})
	}
	t.Run("put back by REST", func(t *testing.T) {
		c, _ := open(t)
		if err := own(t, c, of("a", "p1")); err != nil {
			t.Fatal(err)
		}
		remove(t, c, discovery.Deleted, "p1")
		mustPut(t, c, of("a", "p1"))
		if c.Deleted(p1, "a") {
			t.Error("still deleted")
		}
		if err := own(t, c, of("a", "p1")); err != nil {
			t.Error(err)
		}
	})
	t.Run("without a process", func(t *testing.T) {
		c, st := open(t)
		mustPut(t, c, of("", "p1"))
		mustOrder(t, c, p1, Order{Weight: weight(4)})
		remove(t, c, discovery.Deleted, "p1")
		if left := contents(t, st); len(left) != 1 || len(c.orders) != 0 {
			t.Errorf("stored %v", left)
		}
	})
}

// TestTaken: a process does not take over what REST registered and is up.
func TestTaken(t *testing.T) {
	for name, test := range map[string]struct {
		before func(t *testing.T, c *Catalog)
		taken  bool
	}{
		"by REST, no process":      {func(t *testing.T, c *Catalog) { mustPut(t, c, of("", "p1")) }, true},
		"by REST, another process": {func(t *testing.T, c *Catalog) { mustPut(t, c, of("b", "p1")) }, true},
		"by REST, this process":    {func(t *testing.T, c *Catalog) { mustPut(t, c, of("a", "p1")) }, false},
		"by REST, suspect": {func(t *testing.T, c *Catalog) {
			mustPut(t, c, of("", "p1"))
			c.SetStates([]StateChange{{product, "p1", discovery.Suspect}})
		}, false},
		"by the session of another process": {func(t *testing.T, c *Catalog) {
			if err := own(t, c, of("b", "p1")); err != nil {
				t.Fatal(err)
			}
		}, false}, // whether that lives the session knows
		"by that, and then by REST": {func(t *testing.T, c *Catalog) {
			if err := own(t, c, of("b", "p1")); err != nil {
				t.Fatal(err)
			}
			if _, err := c.PutTerms(t.Context(), []discovery.Instance{of("b", "p1")}, Terms{TTL: time.Second}); err != nil {
				t.Fatal(err)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c, st := open(t)
			test.before(t, c)
			if name != "by REST, suspect" {
				c.Close()
				c = openOn(t, st)
			}
			err := own(t, c, of("a", "p1"))
			if refused, _ := errors.AsType[*Refused](err); errors.Is(err, ErrTaken) != test.taken || test.taken && refused.Key != p1 {
				t.Errorf("error %v, want taken: %t", err, test.taken)
			}
		})
	}
}

// TestOrdersAreBounded: of orders without an instance the oldest go.
func TestOrdersAreBounded(t *testing.T) {
	for name, most := range map[string]int{"bounded": 300, "control": maxOrders} {
		t.Run(name, func(t *testing.T) {
			c, st := open(t)
			c.limits.orders = most
			const n = 400
			for i := range n {
				id := fmt.Sprintf("x%04d", i)
				if err := own(t, c, of("a", id)); err != nil {
					t.Fatal(err)
				}
				remove(t, c, discovery.Deleted, id)
			}
			if err := own(t, c, of("a", "stays")); err != nil {
				t.Fatal(err)
			}
			mustOrder(t, c, InstanceKey{product, "stays"}, Order{Weight: weight(2)})
			orders := 0
			if err := st.Range(orderPrefix, func(store.Entry) error { orders++; return nil }); err != nil {
				t.Fatal(err)
			}
			if orders != len(c.orders) || c.resting != orders-1 {
				t.Errorf("%d orders stored, %d in memory, %d at rest", orders, len(c.orders), c.resting)
			}
			first, last := InstanceKey{product, "x0000"}, InstanceKey{product, "x0399"}
			if name == "control" {
				if c.resting != n || !c.Deleted(first, "a") {
					t.Errorf("%d orders at rest", c.resting)
				}
				return
			}
			if c.resting > most || c.resting < most*98/100 || c.Deleted(first, "a") || !c.Deleted(last, "a") {
				t.Errorf("%d orders at rest, the first there: %t, the last: %t", c.resting, c.Deleted(first, "a"), c.Deleted(last, "a"))
			}
			c.Close()
			if again := openOn(t, st); again.resting != c.resting || !again.Deleted(last, "a") {
				t.Errorf("%d orders at rest after a restart, %d before", again.resting, c.resting)
			}
		})
	}
}
