package session

import (
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// One instance that the catalog refuses does not take the others of its message with it.
func TestOnlyTheInstanceAtFaultIsRefused(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		name := discovery.Name{Service: "goods", Namespace: "shop"}
		if _, _, err := f.cat.PutAlias(f.t.Context(), catalog.Alias{Name: name, Target: product}); err != nil {
			t.Fatal(err)
		}
		c := f.connect("proc-1")
		defer c.close()
		other := c.instance("x")
		other.Service = "goods"
		got := c.register(c.instance("a"), other, c.instance("b"))
		if len(got) != 1 || got[0].Id != "x" || got[0].Code != codeForbidden {
			t.Errorf("refusals %v, want x: forbidden", got)
		}
		if f.state("a") != discovery.Up || f.state("b") != discovery.Up {
			t.Errorf("a is %q, b is %q, want both up", f.state("a"), f.state("b"))
		}
		time.Sleep(15 * time.Minute) // longer than a lease waits for its instance
		if keys := f.srv.Clients(); len(keys) != 0 && len(keys[0].Instances) > 2 {
			t.Errorf("the client has %v", keys[0].Instances)
		}
	})
}

// A process that registers what REST has registered is refused while that is up, and does not keep it alive.
func TestARefusedProcessDoesNotRenewTheInstanceOfREST(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		in := discovery.Instance{ID: "x", Service: "product", Namespace: "shop", Address: "10.0.0.1:80", Protocol: discovery.HTTP}
		f.leases.Track(in, 30*time.Second)
		if _, err := f.cat.PutLeased(f.t.Context(), []discovery.Instance{in}, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		c := f.connect("proc-1")
		defer c.close()
		for range 9 {
			time.Sleep(3 * time.Second)
			c.renew()
			if got := c.register(c.instance("x")); len(got) != 1 || got[0].Code != codeForbidden {
				t.Fatalf("refusals %v, want x: forbidden", got)
			}
		}
		time.Sleep(5 * time.Second)
		if got := f.state("x"); got != discovery.Suspect {
			t.Errorf("32 s after REST was last heard of, its instance with a ttl of 30 s is %q, want suspect", got)
		}
		if got := c.register(c.instance("x")); len(got) != 0 { // the control: now it may
			t.Errorf("refusals %v once the instance is not up", got)
		}
		if process, _ := f.cat.Process(catalog.InstanceKey{Service: product, ID: "x"}); process != "proc-1" {
			t.Errorf("the instance is that of %q", process)
		}
	})
}
