package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

var legacy = discovery.Name{Service: "64001:2101", Namespace: "shop"}

func mustAlias(t *testing.T, c *Catalog, name, target discovery.Name) Alias {
	t.Helper()
	a, _, err := c.PutAlias(t.Context(), Alias{Name: name, Target: target})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// TestAlias: an alias is told to those who use its name, and only when it changes itself.
func TestAlias(t *testing.T) {
	c, st := open(t)
	var known discovery.Revision
	step := func(what string, want *weftv1.Update) {
		t.Helper()
		got := c.Update(legacy, known)
		if want != nil {
			want.Service, want.Epoch, want.Revision = "64001:2101.shop", c.Epoch(), c.Revision().Number
			known = c.Revision()
		}
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
		if at := c.At(legacy); at != known {
			t.Errorf("%s: at %v, want %v", what, at, known)
		}
	}
	mustApply(t, c, Change{Puts: []rule.Rule{route("all", "*")}})
	known = c.At(legacy)
	a, outcome, err := c.PutAlias(t.Context(), Alias{Name: legacy, Target: product})
	if err != nil || outcome != Created || a.Revision != c.Revision() {
		t.Fatalf("%+v, %s, %v", a, outcome, err)
	}
	step("created", &weftv1.Update{Alias: "product.shop", HasRules: true}) // those for all concern it no more
	if again, outcome, err := c.PutAlias(t.Context(), Alias{Name: legacy, Target: product}); err != nil || outcome != Unchanged || again != a {
		t.Errorf("the same again: %+v, %s, %v", again, outcome, err)
	}
	mustPut(t, c, instance1("p1"))
	mustApply(t, c, Change{Puts: []rule.Rule{route("own", "product"), weighted("all", "*", 3)}})
	step("its target changed", nil)
	order := discovery.Name{Service: "order", Namespace: "bank"}
	if _, outcome, _ := c.PutAlias(t.Context(), Alias{Name: legacy, Target: order}); outcome != Configured {
		t.Errorf("outcome %s", outcome)
	}
	step("changed", &weftv1.Update{Alias: "order.bank"})
	if _, ok := c.Service(legacy); ok || len(c.Services("shop")) != 1 {
		t.Errorf("services %v: an alias is none", c.Services("shop"))
	}

	a, _ = c.Alias(legacy)
	c.Close()
	c = openOn(t, st)
	if again, ok := c.Alias(legacy); !ok || again != a || a.Target != order {
		t.Errorf("after a restart %+v, want %+v", again, a)
	}
	step("after a restart", &weftv1.Update{Alias: "order.bank", Snapshot: true, HasRules: true})
	other := mustAlias(t, c, discovery.Name{Service: "old", Namespace: "bank"}, order)
	if all, at := c.Aliases(""); !cmp.Equal(all, []Alias{other, a}) || at != c.Revision() {
		t.Errorf("aliases %+v at %v", all, at)
	}
	if all, _ := c.Aliases("shop"); !cmp.Equal(all, []Alias{a}) {
		t.Errorf("aliases of shop %+v", all)
	}
	if _, err := c.DeleteAlias(t.Context(), legacy); err != nil {
		t.Fatal(err)
	}
	u := c.Update(legacy, known)
	if u == nil || u.Alias != "" || !u.Missing || u.Revision != c.Revision().Number {
		t.Errorf("deleted: %v", u)
	}
	if _, err := c.DeleteAlias(t.Context(), legacy); !errors.Is(err, ErrNotFound) {
		t.Errorf("deleted twice: %v", err)
	}
	c.Close()
	if _, ok := openOn(t, st).Alias(legacy); ok {
		t.Error("it is back after a restart")
	}
}

func TestAliasSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := open(t)
		defer c.Close()
		var told [][]discovery.Name
		c.Subscribe(func(names []discovery.Name) { told = append(told, names) })
		mustAlias(t, c, legacy, product)
		synctest.Wait()
		mustPut(t, c, instance1("p1"))
		synctest.Wait()
		if diff := cmp.Diff([][]discovery.Name{{legacy}, {product}}, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

func TestAliasRefusals(t *testing.T) {
	name := func(s string) discovery.Name { return discovery.Name{Service: s, Namespace: "shop"} }
	for what, test := range map[string]struct {
		alias Alias
		want  error
	}{
		"at the bound":        {Alias{Name: name(strings.Repeat("x", 63)), Target: product}, nil},
		"too long":            {Alias{Name: name(strings.Repeat("x", 64)), Target: product}, discovery.ErrInvalid},
		"empty":               {Alias{Name: name(""), Target: product}, discovery.ErrInvalid},
		"dot":                 {Alias{Name: name("a.b"), Target: product}, discovery.ErrInvalid},
		"slash":               {Alias{Name: name("a/b"), Target: product}, discovery.ErrInvalid},
		"space":               {Alias{Name: name("a b"), Target: product}, discovery.ErrInvalid},
		"not ASCII":           {Alias{Name: name("é"), Target: product}, discovery.ErrInvalid},
		"all":                 {Alias{Name: name("*"), Target: product}, discovery.ErrInvalid},
		"namespace":           {Alias{Name: discovery.Name{Service: "x", Namespace: "a/b"}, Target: product}, discovery.ErrInvalid},
		"target":              {Alias{Name: name("x"), Target: name("1:2")}, discovery.ErrInvalid},
		"itself":              {Alias{Name: name("x"), Target: name("x")}, discovery.ErrInvalid},
		"a service":           {Alias{Name: product, Target: name("x")}, ErrInUse},
		"a service by rule":   {Alias{Name: name("order"), Target: product}, ErrInUse},
		"to an alias":         {Alias{Name: name("x"), Target: name("alias")}, ErrInUse},
		"what an alias names": {Alias{Name: name("future"), Target: product}, ErrInUse},
		"what it named":       {Alias{Name: name("past"), Target: product}, nil},
	} {
		t.Run(what, func(t *testing.T) {
			c, st := open(t)
			mustPut(t, c, instance1("p1"))
			mustApply(t, c, Change{Puts: []rule.Rule{route("r", "order")}})
			mustAlias(t, c, name("alias"), name("past"))
			mustAlias(t, c, name("alias"), name("future"))
			c.Close()
			c = openOn(t, st)
			if _, _, err := c.PutAlias(t.Context(), test.alias); !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}

// TestNoServiceUnderAnAlias: nothing registers under the name of an alias, until it is gone.
func TestNoServiceUnderAnAlias(t *testing.T) {
	c, _ := open(t)
	mustAlias(t, c, product, discovery.Name{Service: "order", Namespace: "shop"})
	for range 2 {
		_, put := c.PutInstances(t.Context(), []discovery.Instance{instance1("p1")})
		_, apply := c.ApplyRules(t.Context(), Change{Puts: []rule.Rule{route("r", "product")}})
		_, there := c.Alias(product)
		for _, err := range []error{put, apply} {
			if there != errors.Is(err, ErrInUse) || !there && err != nil {
				t.Errorf("with an alias %t: error %v", there, err)
			}
		}
		if there {
			if _, err := c.DeleteAlias(t.Context(), product); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAliasesAreBounded(t *testing.T) {
	c, _ := open(t)
	c.limits.aliases = 3
	put := func(i int) error {
		_, _, err := c.PutAlias(t.Context(), Alias{Name: discovery.Name{Service: fmt.Sprintf("1:%d", i), Namespace: "shop"}, Target: product})
		return err
	}
	for i := range 3 {
		if err := put(i); err != nil {
			t.Fatal(err)
		}
	}
	if err := put(3); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "at most 3") {
		t.Errorf("one more: %v", err)
	}
	c.limits.aliases = 4 // the control
	if err := put(3); err != nil {
		t.Error(err)
	}
}
