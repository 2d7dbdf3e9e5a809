package balancer

import (
	"fmt"
	"slices"
	"sync"
	"testing"
)

func ids(endpoints []*Endpoint) (ids []string) {
	for _, e := range endpoints {
		ids = append(ids, e.ID+"@"+e.Address)
	}
	return ids
}

func TestPoolSortsAndDropsDuplicates(t *testing.T) {
	specs := []Spec{{ID: "c", Address: "3"}, {ID: "a", Address: "1"}, {ID: "c", Address: "4"}, {ID: "b", Address: "2"}}
	given := slices.Clone(specs)
	pool := NewPool(nil)
	if got := pool.Endpoints(); len(got) != 0 {
		t.Errorf("before the first update: %v", ids(got))
	}
	got := ids(pool.Update(specs))
	if want := []string{"a@1", "b@2", "c@3"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !slices.Equal(ids(pool.Endpoints()), got) {
		t.Errorf("Endpoints gives %v", ids(pool.Endpoints()))
	}
	for i := range specs {
		if specs[i].ID != given[i].ID {
			t.Fatal("Update changed its argument")
		}
	}
}

// Every field that changes makes a new Endpoint; what was learned stays.
func TestPoolKeepsWhatWasLearned(t *testing.T) {
	before := Spec{ID: "a", Address: "1", Weight: 5, Labels: map[string]string{"v": "1"}, Region: "r", Zone: "z"}
	changes := map[string]func(*Spec){
		"nothing":      func(*Spec) {},
		"equal labels": func(s *Spec) { s.Labels = map[string]string{"v": "1"} },
		"address":      func(s *Spec) { s.Address = "2" },
		"weight":       func(s *Spec) { s.Weight = 6 },
		"labels":       func(s *Spec) { s.Labels = map[string]string{"v": "2"} },
		"region":       func(s *Spec) { s.Region = "x" },
		"zone":         func(s *Spec) { s.Zone = "x" },
		"suspect":      func(s *Spec) { s.Suspect = true },
	}
	for name, change := range changes {
		attached := 0
		pool := NewPool(func(s Spec) any { attached++; return "for " + s.ID })
		old := pool.Update([]Spec{before})[0]
		old.Begin()
		after := before
		change(&after)
		e := pool.Update([]Spec{after})[0]
		if kept := name == "nothing" || name == "equal labels"; (e == old) != kept {
			t.Errorf("%s: endpoint kept: %v", name, e == old)
		}
		if !same(e.Spec, after) {
			t.Errorf("%s: got %+v", name, e.Spec)
		}
		if e.Stats != old.Stats || e.Stats.Pending() != 1 || e.Attachment != "for a" || attached != 1 {
			t.Errorf("%s: learned numbers or attachment were lost; attached %d times", name, attached)
		}
	}
}

func TestPoolForgetsTheRemoved(t *testing.T) {
	attached := 0
	pool := NewPool(func(Spec) any { attached++; return attached })
	specs := []Spec{{ID: "a"}, {ID: "b"}}
	old := pool.Update(specs)[0]
	old.Begin()
	if got := ids(pool.Update(specs[1:])); !slices.Equal(got, []string{"b@"}) {
		t.Errorf("got %v", got)
	}
	old.Done(Result{}) // a call that was under way ends as usual
	if e := pool.Update(specs)[0]; e.Stats == old.Stats || e.Attachment != 3 {
		t.Errorf("a returning instance is not new: attachment %v", e.Attachment)
	}
	if got := pool.Update(nil); len(got) != 0 {
		t.Errorf("after an empty update: %v", ids(got))
	}
}

func TestPoolInParallel(t *testing.T) {
	pool := NewPool(nil)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for i := range 100 {
				pool.Update([]Spec{{ID: "a"}, {ID: "b", Weight: uint32(i)}})
				for _, e := range pool.Endpoints() {
					report(e, Result{Now: start})
				}
			}
		})
	}
	group.Wait()
	for _, e := range pool.Endpoints() {
		if calls, pending := e.Stats.Calls(), e.Stats.Pending(); calls != 400 || pending != 0 {
			t.Errorf("%s: %d calls, %d pending; want 400, 0", e.ID, calls, pending)
		}
	}
}

// An update in which little changed costs a map and a slice, not an object per instance.
func TestPoolUpdateReusesEndpoints(t *testing.T) {
	pool, specs := NewPool(nil), make([]Spec, 10_000)
	for i := range specs {
		specs[i] = Spec{ID: fmt.Sprintf("%05d", i)}
	}
	pool.Update(specs)
	if n := testing.AllocsPerRun(5, func() {
		specs[17].Weight++
		pool.Update(specs)
	}); n > 200 {
		t.Errorf("%v allocations for one change among 10,000", n)
	}
}
