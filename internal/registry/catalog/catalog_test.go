package catalog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var product = discovery.Name{Service: "product", Namespace: "shop"}

// counting is a store that counts commits and can fail.
type counting struct {
	*store.Memory
	commits int
	err     error
}

func (c *counting) Commit(w []store.Write) error {
	if c.err != nil {
		return c.err
	}
	c.commits++
	return c.Memory.Commit(w)
}

func open(t *testing.T) (*Catalog, *counting) {
	t.Helper()
	st := &counting{Memory: store.NewMemory()}
	return openOn(t, st), st
}

func openOn(t *testing.T, st store.Store) *Catalog {
	t.Helper()
	c, err := Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func instance1(id string) discovery.Instance {
	return discovery.Instance{
		ID: id, Service: "product", Namespace: "shop", Process: "proc-1", Address: "10.0.0.7:8080", Protocol: discovery.HTTP,
		Labels: map[string]string{"version": "v1"}, Weight: 100, State: discovery.Up,
		Locality: discovery.Locality{Region: "eu-1", Zone: "a"},
	}
}

func mustPut(t *testing.T, c *Catalog, ins ...discovery.Instance) discovery.Revision {
	t.Helper()
	rev, err := c.PutInstances(t.Context(), ins)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func route(name, service string) rule.Rule {
	return rule.Rule{
		Kind: rule.KindRoute, Namespace: "shop", Name: name, Service: service, Mode: rule.Enforce,
		Spec: &rule.Route{
			Subsets: map[string]map[string]string{"v1": {"version": "v1"}},
			Rules:   []rule.RouteRule{{Split: []rule.Destination{{Subset: "v1", Weight: 100}}}},
		},
	}
}

func mustApply(t *testing.T, c *Catalog, ch Change) Applied {
	t.Helper()
	applied, err := c.ApplyRules(t.Context(), ch)
	if err != nil {
		t.Fatal(err)
	}
	return applied
}

func ids(ins []discovery.Instance) (out []string) {
	for _, in := range ins {
		out = append(out, in.ID)
	}
	return out
}

func TestPutInstances(t *testing.T) {
	c, st := open(t)
	minimal := discovery.Instance{ID: "p2", Service: "product", Namespace: "shop", Address: "host:1", Protocol: discovery.GRPC}
	first := mustPut(t, c, instance1("p1"), minimal)
	got, rev := c.Instances(product)
	minimal.Weight, minimal.State = 100, discovery.Up
	if diff := cmp.Diff([]discovery.Instance{instance1("p1"), minimal}, got); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	if rev != first || first != c.Revision() || rev.Epoch != st.Epoch() {
		t.Errorf("revisions %v, %v, %v are not one of epoch %x", rev, first, c.Revision(), st.Epoch())
	}
	commits := st.commits
	if again := mustPut(t, c, instance1("p1")); again != first || st.commits != commits {
		t.Errorf("the same again moved the revision from %v to %v, %d commits", first, again, st.commits-commits)
	}
	changed := instance1("p1")
	changed.Weight = 7
	second := mustPut(t, c, changed)
	if in, rev, ok := c.Instance(product, "p1"); !ok || in.Weight != 7 || rev != second || second.Number <= first.Number {
		t.Errorf("after a change: %+v at %v, want weight 7 at %v", in, rev, second)
	}
	if _, rev, _ := c.Instance(product, "p2"); rev != first {
		t.Errorf("p2 moved to %v", rev)
	}
}

func TestReadersOwnWhatTheyGet(t *testing.T) {
	c, _ := open(t)
	in := instance1("p1")
	mustPut(t, c, in)
	in.Labels["version"] = "changed by the writer"
	got, _ := c.Instances(product)
	got[0].Labels["version"] = "changed by a reader"
	if in, _, _ := c.Instance(product, "p1"); in.Labels["version"] != "v1" {
		t.Errorf("labels %v", in.Labels)
	}
}

func TestValidation(t *testing.T) {
	tests := map[string]struct {
		change func(*discovery.Instance)
		says   string // "" if it is taken
	}{
		"id at the bound":       {func(in *discovery.Instance) { in.ID = strings.Repeat("i", 128) }, ""},
		"id empty":              {func(in *discovery.Instance) { in.ID = "" }, `id ""`},
		"id too long":           {func(in *discovery.Instance) { in.ID = strings.Repeat("i", 129) }, "1 to 128"},
		"id with a space":       {func(in *discovery.Instance) { in.ID = "a b" }, `id "a b"`},
		"id with a slash":       {func(in *discovery.Instance) { in.ID = "a/b" }, ""},
		"service":               {func(in *discovery.Instance) { in.Service = "Product" }, `service "Product"`},
		"service of all":        {func(in *discovery.Instance) { in.Service = "*" }, `service "*"`},
		"namespace":             {func(in *discovery.Instance) { in.Namespace = "a.b" }, `namespace "a.b"`},
		"namespace by default":  {func(in *discovery.Instance) { in.Namespace = "" }, ""},
		"process":               {func(in *discovery.Instance) { in.Process = "\n" }, "process"},
		"protocol":              {func(in *discovery.Instance) { in.Protocol = "tcp" }, `protocol "tcp"`},
		"weight at the bound":   {func(in *discovery.Instance) { in.Weight = 10000 }, ""},
		"weight above":          {func(in *discovery.Instance) { in.Weight = 10001 }, `weight "10001"`},
		"weight below":          {func(in *discovery.Instance) { in.Weight = -1 }, `weight "-1"`},
		"state draining":        {func(in *discovery.Instance) { in.State = discovery.Draining }, ""},
		"state suspect":         {func(in *discovery.Instance) { in.State = discovery.Suspect }, `state "suspect"`},
		"zone":                  {func(in *discovery.Instance) { in.Locality.Zone = strings.Repeat("z", 64) }, "locality.zone"},
		"address IPv6":          {func(in *discovery.Instance) { in.Address = "[2001:db8::1]:443" }, ""},
		"address name":          {func(in *discovery.Instance) { in.Address = "Pod-1.product_v2.svc.cluster.local:80" }, ""},
		"address empty":         {func(in *discovery.Instance) { in.Address = "" }, `address ""`},
		"address without port":  {func(in *discovery.Instance) { in.Address = "10.0.0.1" }, "host:port"},
		"address port 0":        {func(in *discovery.Instance) { in.Address = "10.0.0.1:0" }, "1 to 65535"},
		"address port 65536":    {func(in *discovery.Instance) { in.Address = "10.0.0.1:65536" }, "1 to 65535"},
		"address port by name":  {func(in *discovery.Instance) { in.Address = "10.0.0.1:http" }, "1 to 65535"},
		"address unspecified":   {func(in *discovery.Instance) { in.Address = "0.0.0.0:80" }, "others can reach"},
		"address unspecified 6": {func(in *discovery.Instance) { in.Address = "[::]:80" }, "others can reach"},
		"address no host":       {func(in *discovery.Instance) { in.Address = ":80" }, "others can reach"},
		"address mistyped IP":   {func(in *discovery.Instance) { in.Address = "10.0.0.256:80" }, "others can reach"},
		"64 labels":             {func(in *discovery.Instance) { in.Labels = labels(64, 1) }, ""},
		"65 labels":             {func(in *discovery.Instance) { in.Labels = labels(65, 1) }, "at most 64"},
		"4096 bytes of labels":  {func(in *discovery.Instance) { in.Labels = map[string]string{"k": strings.Repeat("v", 4095)} }, ""},
		"4097 bytes of labels":  {func(in *discovery.Instance) { in.Labels = map[string]string{"k": strings.Repeat("v", 4096)} }, "4096 bytes"},
		"label name":            {func(in *discovery.Instance) { in.Labels = map[string]string{"": "v"} }, "labels"},
		"label not UTF-8":       {func(in *discovery.Instance) { in.Labels = map[string]string{"k": "\xff"} }, "UTF-8"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			c, _ := open(t)
			in := instance1("p1")
			test.change(&in)
			_, err := c.PutInstances(t.Context(), []discovery.Instance{instance1("p0"), in})
			if test.says == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, discovery.ErrInvalid) || !strings.Contains(err.Error(), test.says) {
				t.Errorf("error %v, want an ErrInvalid that says %s", err, test.says)
			}
			if got, _ := c.Instances(product); len(got) != 0 {
				t.Errorf("%v was taken beside an invalid one", ids(got))
			}
		})
	}
}

func labels(n, size int) map[string]string {
	out := make(map[string]string)
	for i := range n {
		out[fmt.Sprintf("l%d", i)] = strings.Repeat("v", size)
	}
	return out
}

func TestServiceBound(t *testing.T) {
	c, _ := open(t)
	var ins []discovery.Instance
	for i := range MaxInstances {
		ins = append(ins, instance1(fmt.Sprintf("p%05d", i)))
	}
	mustPut(t, c, ins...)
	mustPut(t, c, func() discovery.Instance { in := instance1("p00000"); in.Weight = 1; return in }()) // replaces
	_, err := c.PutInstances(t.Context(), []discovery.Instance{instance1("p00001"), instance1("one-more")})
	refused, ok := errors.AsType[*Refused](err)
	if !ok || !errors.Is(err, ErrLimit) || refused.Key.ID != "one-more" || !strings.Contains(err.Error(), "10000") {
		t.Errorf("instance 10001: %v", err)
	}
	if _, err := c.DeleteInstances(t.Context(), []InstanceKey{{product, "p00000"}}, discovery.Deleted); err != nil {
		t.Fatal(err)
	}
	mustPut(t, c, instance1("one-more"))
}

func TestDeleteInstances(t *testing.T) {
	c, _ := open(t)
	mustPut(t, c, instance1("p1"), instance1("p2"))
	before := c.Revision()
	rev, err := c.DeleteInstances(t.Context(), []InstanceKey{{product, "p1"}, {product, "never"}}, discovery.Deleted)
	if err != nil || rev.Number <= before.Number {
		t.Fatalf("%v, %v", rev, err)
	}
	if got, at := c.Instances(product); len(got) != 1 || got[0].ID != "p2" || at != rev {
		t.Errorf("left %v at %v, want p2 at %v", ids(got), at, rev)
	}
	_, err = c.DeleteInstances(t.Context(), []InstanceKey{{product, "p1"}}, discovery.Deleted)
	if !errors.Is(err, ErrNotFound) || c.Revision() != rev {
		t.Errorf("deleting it again: %v at %v", err, c.Revision())
	}
}

// TestExpiredOnlyTakesUnhealthy: an instance that registered again while its removal was queued stays.
func TestExpiredOnlyTakesUnhealthy(t *testing.T) {
	c, _ := open(t)
	in := instance1("p1")
	if _, err := c.PutLeased(t.Context(), []discovery.Instance{in}, time.Second); err != nil {
		t.Fatal(err)
	}
	c.SetStates([]StateChange{{product, "p1", discovery.Unhealthy}})
	if _, err := c.PutLeased(t.Context(), []discovery.Instance{in}, time.Second); err != nil {
		t.Fatal(err)
	}
	keys := []InstanceKey{{product, "p1"}}
	if _, err := c.DeleteInstances(t.Context(), keys, discovery.Expired); !errors.Is(err, ErrNotFound) {
		t.Errorf("expired after it came back: %v", err)
	}
	c.SetStates([]StateChange{{product, "p1", discovery.Unhealthy}}) // the control
	if _, err := c.DeleteInstances(t.Context(), keys, discovery.Expired); err != nil {
		t.Error(err)
	}
}

func TestSetStates(t *testing.T) {
	c, st := open(t)
	draining := instance1("p2")
	draining.State = discovery.Draining
	at := mustPut(t, c, instance1("p1"), draining)
	commits := st.commits
	rev := c.SetStates([]StateChange{{product, "p1", discovery.Suspect}, {product, "p2", discovery.Suspect}, {product, "p3", discovery.Up}})
	if rev.Number != at.Number+1 || st.commits != commits {
		t.Errorf("revision %v after %v with %d commits, want the next one and none", rev, at, st.commits-commits)
	}
	got, _ := c.Instances(product)
	if got[0].State != discovery.Suspect || got[1].State != discovery.Draining {
		t.Errorf("states %s and %s, want suspect, and draining as registered", got[0].State, got[1].State)
	}
	if in, ok := c.Written(product, "p1"); !ok || in.State != discovery.Up {
		t.Errorf("written %+v, want up", in)
	}
	if again := c.SetStates([]StateChange{{product, "p1", discovery.Suspect}, {product, "p1", "nonsense"}}); again != rev {
		t.Errorf("the same state again moved the revision from %v to %v", rev, again)
	}
	changed := instance1("p1")
	changed.Weight = 5
	mustPut(t, c, changed) // an operator's change says nothing about its health
	if in, _, _ := c.Instance(product, "p1"); in.State != discovery.Suspect {
		t.Errorf("state %s after a change, want suspect", in.State)
	}
	for before, after := range map[discovery.State]discovery.State{
		discovery.Suspect:   discovery.Suspect, // its lease will say that it is up, unless it flaps
		discovery.Unhealthy: discovery.Up,      // or else its removal, which may be under way, would meet it
	} {
		c.SetStates([]StateChange{{product, "p1", before}})
		if _, err := c.PutLeased(t.Context(), []discovery.Instance{changed}, time.Second); err != nil {
			t.Fatal(err)
		}
		if in, _, _ := c.Instance(product, "p1"); in.State != after {
			t.Errorf("state %s after it registered as %s, want %s", in.State, before, after)
		}
	}
}

func TestReopen(t *testing.T) {
	c, st := open(t)
	mustPut(t, c, instance1("p2"))
	if _, err := c.PutLeased(t.Context(), []discovery.Instance{instance1("p1")}, 7*time.Second); err != nil {
		t.Fatal(err)
	}
	mustApply(t, c, Change{Puts: []rule.Rule{route("canary", "product")}, By: "test"})
	c.SetStates([]StateChange{{product, "p1", discovery.Unhealthy}})
	instances, _ := c.Instances(product)
	rules, _ := c.Rules(Filter{})
	_, revision, _ := c.Instance(product, "p2")
	last := c.Revision()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}

	c = openOn(t, st)
	instances[0].State = discovery.Up // states are not kept
	got, _ := c.Instances(product)
	if diff := cmp.Diff(instances, got); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	gotRules, _ := c.Rules(Filter{})
	if diff := cmp.Diff(rules, gotRules); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if _, got, _ := c.Instance(product, "p2"); got != revision {
		t.Errorf("p2 is at %v, was at %v", got, revision)
	}
	if got := c.Revision(); got.Number <= last.Number || got.Number > last.Number+2 || got.Epoch != last.Epoch {
		t.Errorf("revision %v after a clean restart at %v, want the next", got, last)
	}
	if diff := cmp.Diff([]Leased{{InstanceKey{product, "p1"}, 7 * time.Second}}, c.Leased()); diff != "" {
		t.Errorf("leased (-want +got):\n%s", diff)
	}
	if u := c.Update(product, last); u == nil || !u.Snapshot {
		t.Errorf("%v for a session of before the restart, want a snapshot", u)
	}
}

// TestKilled: revisions used up by changes in memory only are not given out again by the next process.
func TestKilled(t *testing.T) {
	c, st := open(t)
	mustPut(t, c, instance1("p1"))
	for range 1000 {
		c.SetStates([]StateChange{{product, "p1", discovery.Suspect}})
		c.SetStates([]StateChange{{product, "p1", discovery.Up}})
	}
	used := c.Revision()
	left := st.Reopen() // what a kill -9 leaves: nothing of Close
	next := openOn(t, left)
	if got := next.Revision(); got.Number <= used.Number || got.Epoch != used.Epoch {
		t.Errorf("revision %v after a kill at %v", got, used)
	}
}

// TestCeiling: the counter never passes what the store has set aside.
func TestCeiling(t *testing.T) {
	c, st := open(t)
	mustPut(t, c, instance1("p1"))
	c.writing.Lock()
	c.ceiling = c.revision + 3
	c.writing.Unlock()
	st.err = store.ErrBroken
	var last discovery.Revision
	for i := range 10 {
		last = c.SetStates([]StateChange{{product, "p1", []discovery.State{discovery.Suspect, discovery.Up}[i%2]}})
	}
	c.writing.Lock()
	if last.Number > c.ceiling {
		t.Errorf("revision %d is above the ceiling of %d", last.Number, c.ceiling)
	}
	c.writing.Unlock()
}

// TestCeilingIsRaised: changes in memory alone make the catalog set new revisions aside in the background.
func TestCeilingIsRaised(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := open(t)
		mustPut(t, c, instance1("p1"))
		c.writing.Lock()
		c.ceiling = c.revision + 3
		c.writing.Unlock()
		c.SetStates([]StateChange{{product, "p1", discovery.Suspect}})
		synctest.Wait()
		c.writing.Lock()
		if c.ceiling < c.revision+revisionStep/2 {
			t.Errorf("ceiling %d at revision %d", c.ceiling, c.revision)
		}
		c.writing.Unlock()
		c.Close()
	})
}

func TestFailedWrite(t *testing.T) {
	c, st := open(t)
	mustPut(t, c, instance1("p1"))
	before := c.Revision()
	st.err = store.ErrFull
	if _, err := c.PutInstances(t.Context(), []discovery.Instance{instance1("p2")}); !errors.Is(err, store.ErrFull) {
		t.Errorf("put: %v", err)
	}
	if _, err := c.DeleteInstances(t.Context(), []InstanceKey{{product, "p1"}}, discovery.Deleted); !errors.Is(err, store.ErrFull) {
		t.Errorf("delete: %v", err)
	}
	if _, err := c.ApplyRules(t.Context(), Change{Puts: []rule.Rule{route("a", "product")}}); !errors.Is(err, store.ErrFull) {
		t.Errorf("apply: %v", err)
	}
	got, at := c.Instances(product)
	rules, _ := c.Rules(Filter{})
	if len(got) != 1 || got[0].ID != "p1" || at != before || len(rules) != 0 {
		t.Errorf("instances %v at %v, %d rules: a failed write shows", ids(got), at, len(rules))
	}
	if u := c.Update(product, before); u != nil {
		t.Errorf("a failed write is pushed: %v", u)
	}
	st.err = store.ErrBroken
	if _, err := c.PutInstances(t.Context(), []discovery.Instance{instance1("p2")}); !errors.Is(err, store.ErrBroken) {
		t.Errorf("put: %v", err)
	}
	st.err = nil
	if after := mustPut(t, c, instance1("p2")); after.Number <= before.Number+1 {
		t.Errorf("revision %v: a number of a write that may be on disk is used again", after)
	}
}

// TestFailedWritesLeaveNothing: what an operation changed beside instances is taken back too.
func TestFailedWritesLeaveNothing(t *testing.T) {
	c, st := open(t)
	if err := own(t, c, of("a", "p1")); err != nil {
		t.Fatal(err)
	}
	counted := c.totals
	for _, failure := range []error{store.ErrFull, nil} {
		st.err = failure
		for what, err := range map[string]error{
			"order": third(c.OrderInstance(t.Context(), p1, Order{Weight: weight(3)})),
			"alias": third(c.PutAlias(t.Context(), Alias{Name: legacy, Target: product})),
			"rule":  second(c.ApplyRules(t.Context(), Change{Puts: []rule.Rule{route("a", "product")}})),
			"more":  second(c.PutInstances(t.Context(), []discovery.Instance{in("order", "o1")})),
		} {
			if !errors.Is(err, failure) {
				t.Errorf("%s: %v, want %v", what, err, failure)
			}
		}
		_, ordered := c.Ordered(p1)
		_, aliased := c.Alias(legacy)
		versions := mustHistory(t, c, key("a"))
		done := failure == nil // the second time is the control
		if ordered != done || aliased != done || (len(versions) == 1) != done || (c.totals == counted) == done || (c.targets[product] == 1) != done {
			t.Errorf("after %v: ordered %t, aliased %t, %d versions, %+v", failure, ordered, aliased, len(versions), c.totals)
		}
	}
}

func TestServices(t *testing.T) {
	c, _ := open(t)
	other := instance1("o1")
	other.Service = "order"
	foreign := instance1("f1")
	foreign.Namespace = "bank"
	isolated := instance1("p2")
	isolated.State = discovery.Isolated
	mustPut(t, c, instance1("p1"), isolated, other, foreign)
	at := mustApply(t, c, Change{Puts: []rule.Rule{route("stock", "stock"), route("all", "*")}}).Revision
	want := []ServiceInfo{
		{Name: discovery.Name{Service: "order", Namespace: "shop"}, Revision: at, Instances: 1, States: map[discovery.State]int{discovery.Up: 1}},
		{Name: product, Revision: at, Instances: 2, States: map[discovery.State]int{discovery.Up: 1, discovery.Isolated: 1}},
		{Name: discovery.Name{Service: "stock", Namespace: "shop"}, Revision: at, Rules: 1, States: map[discovery.State]int{}},
	}
	if diff := cmp.Diff(want, c.Services("shop")); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}
	if got := c.Services(""); len(got) != 4 || got[0].Name.Namespace != "bank" || got[0].Revision == at {
		t.Errorf("all services: %+v", got)
	}
	if got, ok := c.Service(product); !ok || !cmp.Equal(got, want[1]) {
		t.Errorf("service: %+v, %t", got, ok)
	}
	for _, name := range []string{"nobody", "*"} {
		if got, ok := c.Service(discovery.Name{Service: name, Namespace: "shop"}); ok {
			t.Errorf("%s exists: %+v", name, got)
		}
	}
}

func TestSubscribe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := open(t)
		defer c.Close()
		var told [][]discovery.Name
		cancel := c.Subscribe(func(names []discovery.Name) { told = append(told, names) })
		other := instance1("o1")
		other.Service = "order"
		mustPut(t, c, instance1("p1"), other)
		synctest.Wait()
		c.SetStates([]StateChange{{product, "p1", discovery.Suspect}})
		synctest.Wait()
		mustPut(t, c, instance1("p1")) // nothing new
		synctest.Wait()
		mustApply(t, c, Change{Puts: []rule.Rule{route("all", "*")}})
		synctest.Wait()
		cancel()
		mustPut(t, c, instance1("p2"))
		synctest.Wait()
		want := [][]discovery.Name{{{Service: "order", Namespace: "shop"}, product}, {product}, {{Service: "*", Namespace: "shop"}}}
		if diff := cmp.Diff(want, told); diff != "" {
			t.Errorf("told (-want +got):\n%s", diff)
		}
	})
}

// mirror applies updates as an SDK does.
type mirror struct {
	known     discovery.Revision
	instances map[string]*weftv1.Instance
	rules     [][]byte
	missing   bool
}

func (m *mirror) apply(u *weftv1.Update) {
	if u == nil {
		return
	}
	if u.Snapshot {
		m.instances = make(map[string]*weftv1.Instance)
	}
	for _, r := range u.Removals {
		delete(m.instances, r.Id)
	}
	for _, in := range u.Instances {
		m.instances[in.Id] = in
	}
	if u.HasRules {
		m.rules = u.Rules
	}
	m.known, m.missing = discovery.Revision{Epoch: u.Epoch, Number: u.Revision}, u.Missing
}

// TestMirrors changes a service at random while readers follow it by deltas, each at its own pace. All end up with
// what is there, and none sees a revision go backwards.
func TestMirrors(t *testing.T) {
	c, _ := open(t)
	done := make(chan struct{})
	var wg sync.WaitGroup
	mirrors := make([]mirror, 4)
	for i := range mirrors {
		wg.Go(func() {
			m := &mirrors[i]
			for running := true; running; {
				select {
				case <-done:
					running = false
				default:
				}
				before := m.known.Number
				m.apply(c.Update(product, m.known))
				if m.known.Number < before {
					t.Errorf("revision %d after %d", m.known.Number, before)
				}
				time.Sleep(time.Duration(i) * 100 * time.Microsecond)
			}
		})
	}
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 150 {
				id := fmt.Sprintf("p%d", (i*7+w*3)%20)
				in := instance1(id)
				in.Weight = 1 + i%9 + w*10
				switch i % 5 {
				case 0:
					c.DeleteInstances(context.Background(), []InstanceKey{{product, id}}, discovery.Deregistered)
				case 1:
					c.SetStates([]StateChange{{product, id, discovery.Suspect}})
				case 2:
					service := []string{"product", "*"}[w%2]
					r := route(fmt.Sprintf("r%d", w%2), service)
					r.Spec.(*rule.Route).Subsets["v1"]["version"] = fmt.Sprint(i)
					if _, err := c.ApplyRules(context.Background(), Change{Puts: []rule.Rule{r}}); err != nil {
						t.Error(err)
					}
				default:
					if _, err := c.PutInstances(context.Background(), []discovery.Instance{in}); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	writers.Wait()
	close(done)
	wg.Wait()
	var want mirror
	want.apply(c.Update(product, discovery.Revision{}))
	for i, m := range mirrors {
		if diff := cmp.Diff(want, m, cmp.AllowUnexported(mirror{}), protocmp.Transform()); diff != "" {
			t.Errorf("mirror %d (-want +got):\n%s", i, diff)
		}
	}
	if len(want.instances) == 0 || len(want.rules) == 0 {
		t.Errorf("%d instances and %d rules: nothing was compared", len(want.instances), len(want.rules))
	}
}

func TestUpdate(t *testing.T) {
	c, _ := open(t)
	gone := c.Update(product, discovery.Revision{})
	if gone == nil || !gone.Snapshot || !gone.Missing || !gone.HasRules || gone.Revision == 0 {
		t.Fatalf("a service that does not exist: %v", gone)
	}
	if u := c.Update(product, discovery.Revision{Epoch: gone.Epoch, Number: gone.Revision}); u != nil {
		t.Errorf("and again: %v", u)
	}
	one := mustPut(t, c, instance1("p1"), instance1("p2"), instance1("p3"))
	two, err := c.DeleteInstances(t.Context(), []InstanceKey{{product, "p1"}, {product, "p2"}}, discovery.Deleted)
	if err != nil {
		t.Fatal(err)
	}
	three := mustPut(t, c, instance1("p2"))
	wire := func(id string) *weftv1.Instance { return ToWire(instance1(id)) }
	base := func(u *weftv1.Update) *weftv1.Update {
		u.Service, u.Epoch, u.Revision = "product.shop", c.Epoch(), three.Number
		return u
	}
	tests := map[string]struct {
		known discovery.Revision
		want  *weftv1.Update
	}{
		"nothing known": {discovery.Revision{}, base(&weftv1.Update{Snapshot: true, HasRules: true, Instances: []*weftv1.Instance{wire("p2"), wire("p3")}})},
		"other epoch": {discovery.Revision{Epoch: c.Epoch() + 1, Number: one.Number},
			base(&weftv1.Update{Snapshot: true, HasRules: true, Instances: []*weftv1.Instance{wire("p2"), wire("p3")}})},
		"of the future": {discovery.Revision{Epoch: c.Epoch(), Number: three.Number + 100},
			base(&weftv1.Update{Snapshot: true, HasRules: true, Instances: []*weftv1.Instance{wire("p2"), wire("p3")}})},
		"all before":   {one, base(&weftv1.Update{Instances: []*weftv1.Instance{wire("p2")}, Removals: []*weftv1.Removal{{Id: "p1", Reason: "deleted"}}})},
		"the removals": {two, base(&weftv1.Update{Instances: []*weftv1.Instance{wire("p2")}})},
		"all":          {three, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, c.Update(product, test.known), protocmp.Transform()); diff != "" {
				t.Errorf("update (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTombstonesAreBounded: who missed more removals than are remembered gets a snapshot.
func TestTombstonesAreBounded(t *testing.T) {
	c, _ := open(t)
	mustPut(t, c, instance1("stays"))
	start := c.Revision()
	var recent discovery.Revision
	for i := range maxGone + 10 {
		mustPut(t, c, instance1("goes"))
		rev, err := c.DeleteInstances(t.Context(), []InstanceKey{{product, "goes"}}, discovery.Deregistered)
		if err != nil {
			t.Fatal(err)
		}
		if i == maxGone {
			recent = rev
		}
	}
	if n := c.services[product].gone.size; n > maxGone {
		t.Errorf("%d tombstones, want at most %d", n, maxGone)
	}
	if u := c.Update(product, start); !u.Snapshot || len(u.Instances) != 1 {
		t.Errorf("%v, want a snapshot", u)
	}
	if u := c.Update(product, recent); u.Snapshot || len(u.Removals) == 0 {
		t.Errorf("%v, want a delta with removals", u)
	}
}

// TestTombstonesAreAsManyAsInstances: a small service remembers few, and one that loses nearly all at once remembers each.
func TestTombstonesAreAsManyAsInstances(t *testing.T) {
	c, _ := open(t)
	for range 3 * minGone {
		mustPut(t, c, instance1("goes"))
		remove(t, c, discovery.Deregistered, "goes")
	}
	if n := c.services[product].gone.size; n > minGone || n < minGone/2 {
		t.Errorf("%d tombstones of a service of one, want at most %d", n, minGone)
	}
	ins := fleet(1, 500)
	known := mustPut(t, c, ins...)
	for i, reason := range []discovery.Reason{discovery.Deleted, discovery.Expired, discovery.Deregistered} {
		var keys []InstanceKey
		for _, in := range ins[i*160 : i*160+160] {
			keys = append(keys, KeyOf(in))
			c.SetStates([]StateChange{{KeyOf(in).Service, in.ID, discovery.Unhealthy}})
		}
		if _, err := c.DeleteInstances(t.Context(), keys, reason); err != nil {
			t.Fatal(err)
		}
	}
	u := c.Update(KeyOf(ins[0]).Service, known)
	why := make(map[string]int)
	for _, r := range u.GetRemovals() {
		why[r.GetReason()]++
	}
	if want := map[string]int{"deleted": 160, "expired": 160, "deregistered": 160}; u.GetSnapshot() || !cmp.Equal(want, why) {
		t.Errorf("snapshot %t, removals %v, want a delta with %v", u.GetSnapshot(), why, want)
	}
}

// TestFloor: who knows the floor of a service gets a delta, who knows one revision less a snapshot; other services keep
// their own revisions meanwhile.
func TestFloor(t *testing.T) {
	c, _ := open(t)
	other := in("order", "o1")
	at := mustPut(t, c, other)
	mustPut(t, c, instance1("stays"))
	for range minGone + 1 {
		mustPut(t, c, instance1("goes"))
		remove(t, c, discovery.Deregistered, "goes")
	}
	floor := discovery.Revision{Epoch: c.Epoch(), Number: c.services[product].floor}
	if u := c.Update(product, floor); u.GetSnapshot() || len(u.GetInstances()) != 0 || len(u.GetRemovals()) != c.services[product].gone.size {
		t.Errorf("at the floor: %v, want a delta with all removals", u)
	}
	floor.Number--
	if u := c.Update(product, floor); !u.GetSnapshot() || len(u.GetInstances()) != 1 {
		t.Errorf("below the floor: %v, want a snapshot", u)
	}
	if got := c.At(KeyOf(other).Service); got != at {
		t.Errorf("another service moved from %v to %v", at, got)
	}
}

// TestServicesAreForgotten: names that come and go do not stay in memory, and who knew one hears that it is gone.
func TestServicesAreForgotten(t *testing.T) {
	c, _ := open(t)
	var first discovery.Revision
	for i := range maxDead + 20 {
		in := instance1("p1")
		in.Service = fmt.Sprintf("s%d", i)
		rev := mustPut(t, c, in)
		if i == 0 {
			first = rev
		}
		if _, err := c.DeleteInstances(t.Context(), []InstanceKey{KeyOf(in)}, discovery.Deregistered); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(c.services); n > maxDead {
		t.Errorf("%d services in memory, want at most %d", n, maxDead)
	}
	u := c.Update(discovery.Name{Service: "s0", Namespace: "shop"}, first)
	if u == nil || !u.Missing || !u.Snapshot {
		t.Errorf("%v, want a snapshot that says it is missing", u)
	}
}

func TestStoredGarbage(t *testing.T) {
	for name, w := range map[string]store.Write{
		"instance":    {Key: instanceKey(1), Value: []byte("x")},
		"protobuf":    {Key: instanceKey(1), Value: []byte{0xff}},
		"number":      {Key: "i/shop/product/p1", Value: []byte("x")},
		"order":       {Key: "o/shop/product/p1", Value: []byte("{")},
		"order key":   {Key: "o/shop", Value: []byte("{}")},
		"alias":       {Key: "n/shop/x", Value: []byte("..")},
		"rule":        {Key: "r/shop/Route/a", Value: []byte("{}")},
		"version key": {Key: "h/shop/Route/a/12", Value: []byte("{}")},
		"ceiling":     {Key: ceilingKey, Value: []byte("x")},
	} {
		t.Run(name, func(t *testing.T) {
			st := store.NewMemory()
			if err := st.Commit([]store.Write{w}); err != nil {
				t.Fatal(err)
			}
			if c, err := Open(st, nil); !errors.Is(err, store.ErrCorrupt) || !strings.Contains(err.Error(), strconv.Quote(w.Key)) {
				t.Errorf("catalog %v, error %v, want ErrCorrupt that names %s", c, err, w.Key)
			}
		})
	}
}

func TestCloseTwice(t *testing.T) {
	c, _ := open(t)
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.PutInstances(t.Context(), []discovery.Instance{instance1("p1")}); !errors.Is(err, store.ErrClosed) {
		t.Errorf("put after close: %v", err)
	}
}
