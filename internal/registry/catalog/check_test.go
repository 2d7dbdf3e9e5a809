package catalog

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/discovery"
)

func TestCheckValidation(t *testing.T) {
	for name, test := range map[string]struct {
		check Check
		says  string // "" if it is taken
	}{
		"tcp":               {Check{Type: "tcp"}, ""},
		"no type":           {Check{}, "check.type"},
		"other type":        {Check{Type: "udp"}, `check.type "udp"`},
		"path":              {Check{Type: "http", Path: "/" + strings.Repeat("x", 255)}, ""},
		"path too long":     {Check{Type: "http", Path: "/" + strings.Repeat("x", 256)}, "check.path"},
		"path relative":     {Check{Type: "http", Path: "x"}, "check.path"},
		"path with a space": {Check{Type: "http", Path: "/a b"}, "check.path"},
		"path of tcp":       {Check{Type: "tcp", Path: "/"}, "check.path"},
		"service":           {Check{Type: "grpc", Service: strings.Repeat("x", 256)}, ""},
		"service too long":  {Check{Type: "grpc", Service: strings.Repeat("x", 257)}, "check.service"},
		"service of http":   {Check{Type: "http", Service: "x"}, "check.service"},
		"interval at least": {Check{Type: "tcp", Interval: time.Second}, ""},
		"interval at most":  {Check{Type: "tcp", Interval: time.Hour}, ""},
		"interval below":    {Check{Type: "tcp", Interval: time.Second - 1}, "check.interval"},
		"interval above":    {Check{Type: "tcp", Interval: time.Hour + 1}, "check.interval"},
		"interval negative": {Check{Type: "tcp", Interval: -1}, "check.interval"},
		"timeout at least":  {Check{Type: "tcp", Timeout: 100 * time.Millisecond}, ""},
		"timeout at most":   {Check{Type: "tcp", Interval: time.Hour, Timeout: time.Minute}, ""},
		"timeout below":     {Check{Type: "tcp", Timeout: 100*time.Millisecond - 1}, "check.timeout"},
		"timeout above":     {Check{Type: "tcp", Interval: time.Hour, Timeout: time.Minute + 1}, "check.timeout"},
		"timeout too slow":  {Check{Type: "tcp", Interval: time.Second, Timeout: time.Second + 1}, "check.timeout"},
		"failures at most":  {Check{Type: "tcp", Failures: 100}, ""},
		"failures above":    {Check{Type: "tcp", Failures: 101}, "check.failures"},
		"failures below":    {Check{Type: "tcp", Failures: -1}, "check.failures"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := open(t)
			_, err := c.PutTerms(t.Context(), []discovery.Instance{instance1("p1")}, Terms{Check: &test.check})
			if test.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), test.says) || c.Has(p1) {
				t.Errorf("error %v, want an ErrInvalid that says %s", err, test.says)
			}
		})
	}
}

// TestChecks: a check is stored with its instance, and the worse of check and lease is told.
func TestChecks(t *testing.T) {
	c, st := open(t)
	put := func(check *Check) {
		t.Helper()
		if _, err := c.PutTerms(t.Context(), []discovery.Instance{instance1("p1")}, Terms{TTL: 9 * time.Second, Check: check}); err != nil {
			t.Fatal(err)
		}
	}
	state := func(what string, want discovery.State) {
		t.Helper()
		if in, _, _ := c.Instance(product, "p1"); in.State != want {
			t.Errorf("%s: %s, want %s", what, in.State, want)
		}
	}
	failing := func(f bool) { c.SetChecked(map[InstanceKey]bool{p1: f, {product, "p2"}: f, {product, "never"}: f}) }
	mustPut(t, c, instance1("p2"))
	put(&Check{Type: "http"})
	failing(true)
	state("failing", discovery.Unhealthy)
	if in, _, _ := c.Instance(product, "p2"); in.State != discovery.Up {
		t.Errorf("an instance without a check is %s", in.State)
	}
	before := c.Revision()
	failing(true)
	if c.Revision() != before {
		t.Error("the same again is a change")
	}
	c.SetStates([]StateChange{{product, "p1", discovery.Suspect}})
	state("suspect and failing", discovery.Unhealthy)
	put(&Check{Type: "http", Path: "/"})
	state("registered again with the same check", discovery.Unhealthy)
	failing(false)
	state("suspect and well", discovery.Suspect)
	c.SetStates([]StateChange{{product, "p1", discovery.Up}})
	state("well", discovery.Up)
	if _, err := c.DeleteInstances(t.Context(), []InstanceKey{p1}, discovery.Expired); !errors.Is(err, ErrNotFound) {
		t.Errorf("a check that fails expired its instance: %v", err)
	}
	failing(true)
	put(&Check{Type: "tcp"})
	state("with another check", discovery.Up)
	failing(true)

	c.Close()
	c = openOn(t, st)
	state("after a restart", discovery.Up)
	want := []Checked{{p1, instance1("p1"), Check{Type: "tcp", Interval: 10 * time.Second, Timeout: 2 * time.Second, Failures: 3}}}
	if diff := cmp.Diff(want, c.Checked()); diff != "" {
		t.Errorf("checked (-want +got):\n%s", diff)
	}
	terms, ok := c.Terms(p1)
	if !ok || terms.TTL != 9*time.Second || *terms.Check != want[0].Check {
		t.Errorf("terms %+v", terms)
	}
	mustOrder(t, c, p1, Order{Weight: weight(3)})
	if _, ok := c.Terms(InstanceKey{product, "never"}); ok || len(c.Checked()) != 1 {
		t.Error("the order took the check")
	}
	put(nil)
	if len(c.Checked()) != 0 {
		t.Errorf("checked %v after it was registered without", c.Checked())
	}
}
