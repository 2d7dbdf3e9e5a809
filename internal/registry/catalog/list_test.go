package catalog

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/discovery"
)

func small(id string, revision uint64) *instance {
	in := newInstance(discovery.Instance{ID: id, Protocol: discovery.HTTP, State: discovery.Up}, Terms{}, false)
	in.revision = revision
	return in
}

func (l *list) check(t *testing.T) (ids []string) {
	t.Helper()
	for _, c := range l.chunks {
		if len(c.instances) == 0 || len(c.instances) > maxChunk {
			t.Fatalf("a chunk of %d", len(c.instances))
		}
		for _, in := range c.instances {
			if in.revision > c.newest {
				t.Fatalf("revision %d in a chunk up to %d", in.revision, c.newest)
			}
		}
	}
	for in := range l.all() {
		ids = append(ids, in.id())
	}
	if l.size != len(ids) || !slices.IsSortedFunc(ids, strings.Compare) {
		t.Fatalf("size %d, %d ids, sorted %t", l.size, len(ids), slices.IsSortedFunc(ids, strings.Compare))
	}
	return ids
}

// TestList changes versions of a list at random and compares with a map. No version ever changes again.
func TestList(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var l list
	model := make(map[string]uint64)
	var before list
	var known []string
	for draft := range uint64(400) {
		next := l
		for range random.IntN(40) {
			id := fmt.Sprintf("p%04d", random.IntN(1500))
			if there := model[id] > 0; there && (draft/100%2 == 1 || random.IntN(4) == 0) {
				if in := next.remove(id, draft+1); in == nil || in.revision != model[id] {
					t.Fatalf("removed %v", in)
				}
				delete(model, id)
			} else {
				next.put(small(id, draft+1), draft+1)
				model[id] = draft + 1
			}
		}
		if diff := cmp.Diff(known, before.check(t)); diff != "" {
			t.Fatalf("a version changed (-was +is):\n%s", diff)
		}
		l, before, known = next, next, next.check(t)
		since := 0
		for in := range l.since(draft / 2) {
			if since++; model[in.id()] != in.revision || in.revision <= draft/2 {
				t.Fatalf("%s at %d since %d", in.id(), in.revision, draft/2)
			}
		}
		for id, revision := range model {
			if in := l.get(id); in == nil || in.revision != revision {
				t.Fatalf("%s is %v, want revision %d", id, in, revision)
			}
			if revision > draft/2 {
				since--
			}
		}
		if len(known) != len(model) || since != 0 || l.get("p") != nil || l.get("q") != nil || l.remove("q", draft+1) != nil {
			t.Fatalf("%d ids, want %d; %d more since %d than there are", len(known), len(model), since, draft/2)
		}
	}
}

// TestListInOrder: ids that come in their order leave full chunks, and going away they leave few.
func TestListInOrder(t *testing.T) {
	var l list
	for i := range 10 * maxChunk {
		l.put(small(fmt.Sprintf("p%05d", i), 1), 1)
	}
	if l.check(t); len(l.chunks) != 10 {
		t.Errorf("%d chunks, want 10", len(l.chunks))
	}
	for i := range 10 * maxChunk {
		if i%32 != 0 {
			l.remove(fmt.Sprintf("p%05d", i), 2)
		}
	}
	if l.check(t); l.size != 40 || len(l.chunks) > 4 {
		t.Errorf("%d chunks for %d", len(l.chunks), l.size)
	}
}

// TestAWriteCopiesLittle: a change of one instance of 10,000 does not copy 10,000 pointers.
func TestAWriteCopiesLittle(t *testing.T) {
	c, _ := open(t)
	ins := fleet(1, MaxInstances)
	mustPut(t, c, ins...)
	key := KeyOf(ins[5000])
	const n = 1000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		c.SetStates([]StateChange{{key.Service, key.ID, []discovery.State{discovery.Suspect, discovery.Up}[i%2]}})
	}
	runtime.ReadMemStats(&after)
	if bytes := (after.TotalAlloc - before.TotalAlloc) / n; bytes > 16<<10 {
		t.Errorf("%d bytes a change, want a fraction of the 80 KB of pointers", bytes)
	}
}
