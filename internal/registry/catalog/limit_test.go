package catalog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

func TestDefaultLimits(t *testing.T) {
	c, _ := open(t)
	want := limits{instances: 500_000, instancesPerService: 10_000, services: 50_000, rules: 10_000, rulesPerService: 500, aliases: 10_000, orders: 10_000}
	if c.limits != want {
		t.Errorf("%+v, want %+v", c.limits, want)
	}
}

func in(service, id string) discovery.Instance {
	out := instance1(id)
	out.Service = service
	return out
}

// TestInstanceLimits: at a bound the write is refused as a whole, and the instance that is too many is named; one below it
// is taken; a replacement and a place that became free always.
func TestInstanceLimits(t *testing.T) {
	for name, test := range map[string]struct {
		limit func(*limits)
		batch []discovery.Instance
		fault string // "" if the batch is taken
		says  string
	}{
		"control":                   {func(*limits) {}, []discovery.Instance{in("a", "3"), in("b", "1"), in("c", "1")}, "", ""},
		"of a service, at it":       {func(l *limits) { l.instancesPerService = 3 }, []discovery.Instance{in("a", "3"), in("a", "1"), in("b", "1")}, "", ""},
		"of a service, above":       {func(l *limits) { l.instancesPerService = 3 }, []discovery.Instance{in("b", "1"), in("a", "3"), in("a", "4")}, "4", "of a service"},
		"of a new service, above":   {func(l *limits) { l.instancesPerService = 3 }, []discovery.Instance{in("b", "1"), in("b", "2"), in("b", "3"), in("b", "4")}, "4", "of a service"},
		"in all, at it":             {func(l *limits) { l.instances = 4 }, []discovery.Instance{in("a", "1"), in("a", "3"), in("b", "1")}, "", ""},
		"in all, above":             {func(l *limits) { l.instances = 4 }, []discovery.Instance{in("a", "3"), in("b", "1"), in("b", "2")}, "2", "instances: "},
		"services, at it":           {func(l *limits) { l.services = 3 }, []discovery.Instance{in("b", "1"), in("b", "2"), in("ruled", "1")}, "", ""},
		"services, above":           {func(l *limits) { l.services = 3 }, []discovery.Instance{in("b", "1"), in("c", "7")}, "7", "services"},
		"services, one that is":     {func(l *limits) { l.services = 2 }, []discovery.Instance{in("a", "3")}, "", ""},
		"given twice counts once":   {func(l *limits) { l.instances = 3 }, []discovery.Instance{in("a", "3"), in("a", "3")}, "", ""},
		"replacements at the bound": {func(l *limits) { l.instances, l.services = 2, 2 }, []discovery.Instance{in("a", "1"), in("a", "2")}, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			c, st := open(t)
			mustPut(t, c, in("a", "1"), in("a", "2"), in("gone", "1"))
			if _, err := c.DeleteInstances(t.Context(), []InstanceKey{KeyOf(in("gone", "1"))}, discovery.Deregistered); err != nil {
				t.Fatal(err)
			}
			mustApply(t, c, Change{Puts: []rule.Rule{route("r", "ruled"), route("all", "*")}})
			c.Close()
			c = openOn(t, st)
			test.limit(&c.limits)
			before, counted := c.Revision(), c.totals
			_, err := c.PutInstances(t.Context(), test.batch)
			if test.fault == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			refused, _ := errors.AsType[*Refused](err)
			if !errors.Is(err, ErrLimit) || refused == nil || refused.Key.ID != test.fault || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want an ErrLimit of %s that says %s", err, test.fault, test.says)
			}
			if c.Revision() != before || c.totals != counted {
				t.Error("something of it was written")
			}
		})
	}
}

func retry(name, service string) rule.Rule {
	return rule.Rule{Kind: rule.KindRetry, Namespace: "shop", Name: name, Service: service, Mode: rule.Enforce, Spec: &rule.Retry{Attempts: 2}}
}

func TestRuleLimits(t *testing.T) {
	for name, test := range map[string]struct {
		limit  func(*limits)
		change Change
		fault  string // "" if the change is taken
	}{
		"control":             {func(*limits) {}, Change{Puts: []rule.Rule{retry("r1", "a"), retry("r2", "b"), route("r3", "*")}}, ""},
		"of a service, at it": {func(l *limits) { l.rulesPerService = 2 }, Change{Puts: []rule.Rule{retry("r1", "a"), retry("r2", "b")}}, ""},
		"of a service, above": {func(l *limits) { l.rulesPerService = 1 }, Change{Puts: []rule.Rule{retry("r2", "b"), retry("r1", "a")}}, "r1"},
		"of all, above":       {func(l *limits) { l.rulesPerService = 1 }, Change{Puts: []rule.Rule{retry("r1", "*"), route("r2", "*")}}, "r1"},
		"another leaves":      {func(l *limits) { l.rulesPerService = 1 }, Change{Puts: []rule.Rule{retry("r1", "a")}, Deletes: []rule.Key{key("first")}}, ""},
		"moves in":            {func(l *limits) { l.rulesPerService = 1 }, Change{Puts: []rule.Rule{retry("other", "a")}}, "other"},
		"is replaced":         {func(l *limits) { l.rulesPerService, l.rules, l.services = 1, 2, 2 }, Change{Puts: []rule.Rule{weighted("first", "a", 9)}}, ""},
		"in all, at it":       {func(l *limits) { l.rules = 3 }, Change{Puts: []rule.Rule{retry("r1", "a")}}, ""},
		"in all, above":       {func(l *limits) { l.rules = 3 }, Change{Puts: []rule.Rule{retry("r1", "a"), retry("r2", "b")}}, "r1"},
		"services, at it":     {func(l *limits) { l.services = 3 }, Change{Puts: []rule.Rule{retry("r1", "b"), retry("r2", "*")}}, ""},
		"services, above":     {func(l *limits) { l.services = 2 }, Change{Puts: []rule.Rule{retry("r1", "b")}}, "r1"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := open(t)
			mustApply(t, c, Change{Puts: []rule.Rule{retry("other", "z"), route("first", "a")}})
			test.limit(&c.limits)
			before := c.Revision()
			_, err := c.ApplyRules(t.Context(), test.change)
			if test.fault == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), test.fault) || !strings.Contains(err.Error(), "at most") {
				t.Errorf("error %v, want an ErrLimit that names %s", err, test.fault)
			}
			if c.Revision() != before {
				t.Error("something of it was written")
			}
		})
	}
}

// TestManyServices: the bound of services, in full.
func TestManyServices(t *testing.T) {
	c, _ := open(t)
	ins := make([]discovery.Instance, MaxServices)
	for i := range ins {
		ins[i] = in(fmt.Sprintf("s%d", i), "1")
	}
	mustPut(t, c, ins...)
	if _, err := c.PutInstances(t.Context(), []discovery.Instance{in("s0", "2"), in("more", "1")}); !errors.Is(err, ErrLimit) || !strings.Contains(err.Error(), "50000") {
		t.Errorf("one more: %v", err)
	}
	if got := len(c.Services("")); got != MaxServices {
		t.Errorf("%d services", got)
	}
}

// A dry run is refused where the write would be.
func TestDryRunKnowsTheLimits(t *testing.T) {
	c, _ := open(t)
	c.limits.rules = 1
	for _, dry := range []bool{true, false} {
		ch := Change{Puts: []rule.Rule{retry("a", "product"), retry("b", "order")}, DryRun: dry}
		if _, err := c.ApplyRules(t.Context(), ch); !errors.Is(err, ErrLimit) {
			t.Errorf("dry %t: %v", dry, err)
		}
	}
}
