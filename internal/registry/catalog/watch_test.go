package catalog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

var errEnough = errors.New("enough")

// TestWatchKinds: every kind of change is an event, with what it leads to.
func TestWatchKinds(t *testing.T) {
	c, _ := open(t)
	start := c.Revision()
	mustPut(t, c, instance1("p1"), instance1("p2"))
	c.SetStates([]StateChange{{product, "p1", discovery.Suspect}})
	mustOrder(t, c, p1, Order{Weight: weight(9)})
	remove(t, c, discovery.Deregistered, "p1")
	mustApply(t, c, Change{Puts: []rule.Rule{route("a", "product")}})
	mustApply(t, c, Change{Deletes: []rule.Key{key("a")}})
	mustAlias(t, c, legacy, product)
	if _, err := c.DeleteAlias(t.Context(), legacy); err != nil {
		t.Fatal(err)
	}
	mustPut(t, c, instance1("p2")) // the same
	var got []string
	last := start
	err := c.Watch(t.Context(), start, func(events []Event) error {
		for i, e := range events {
			text := fmt.Sprintf("+%d %s %s %s%s%s", e.Revision.Number-start.Number, e.Kind, e.Service.Service, e.ID, e.Key.Name, e.Removed)
			if e.Instance != nil {
				text += fmt.Sprintf(" %s %d", e.Instance.State, e.Instance.Weight)
			}
			if e.Rule != nil {
				text += " " + e.Rule.Service
			}
			if e.Alias != nil {
				text += " to " + e.Alias.Target.String()
			}
			got = append(got, text)
			if i > 0 && e.Revision != events[0].Revision {
				t.Errorf("revisions %v and %v together", events[0].Revision, e.Revision)
			}
		}
		if last = events[0].Revision; last == c.Revision() {
			return errEnough
		}
		return nil
	})
	if !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	want := []string{
		"+1 instance product p1 up 100", "+1 instance product p2 up 100",
		"+2 instance product p1 suspect 100",
		"+3 instance product p1 suspect 9",
		"+4 instance product p1deregistered",
		"+5 rule product a product", "+6 rule product adeleted",
		"+7 alias 64001:2101  to product.shop", "+8 alias 64001:2101 deleted to product.shop",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func TestWatchFromAnywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, st := open(t)
		mustPut(t, c, instance1("p0"))
		before := c.Revision()
		never := func(events []Event) error { return fmt.Errorf("event %v", events) }
		for name, from := range map[string]discovery.Revision{
			"another epoch": {Epoch: c.Epoch() + 1, Number: before.Number},
			"the future":    {Epoch: c.Epoch(), Number: before.Number + 1},
			"the past":      {Epoch: c.Epoch(), Number: 0},
		} {
			if err := c.Watch(t.Context(), from, never); !errors.Is(err, ErrTooOld) {
				t.Errorf("%s: %v, want ErrTooOld", name, err)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { // from now on
			err := c.Watch(ctx, discovery.Revision{}, func(events []Event) error {
				if events[0].ID != "p1" {
					t.Errorf("events %v", events)
				}
				return errEnough
			})
			if !errors.Is(err, errEnough) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := c.Watch(ctx, c.Revision(), func([]Event) error { return nil }); !errors.Is(err, context.Canceled) {
				t.Errorf("canceled: %v", err)
			}
		})
		synctest.Wait()
		mustPut(t, c, instance1("p1"))
		synctest.Wait()
		cancel()
		wg.Wait()
		wg.Go(func() {
			if err := c.Watch(t.Context(), c.Revision(), never); !errors.Is(err, store.ErrClosed) {
				t.Errorf("closed: %v", err)
			}
		})
		synctest.Wait()
		c.Close()
		wg.Wait()
		c, err := Open(st, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.Watch(t.Context(), before, never); !errors.Is(err, ErrTooOld) {
			t.Errorf("from before the restart: %v, want ErrTooOld", err)
		}
	})
}

// TestWatchBound: 10,000 events are kept, and who needs one more is told so; so is a reader that is too slow.
func TestWatchBound(t *testing.T) {
	c, _ := open(t)
	start := mustPut(t, c, instance1("p1"))
	flip := func(n int) {
		for i := range n {
			c.SetStates([]StateChange{{product, "p1", []discovery.State{discovery.Suspect, discovery.Up}[i%2]}})
		}
	}
	flip(maxEvents)
	seen := 0
	slow := func(more int) func([]Event) error {
		return func(events []Event) error {
			if seen++; seen == 1 {
				flip(more)
			}
			if events[0].Revision == c.Revision() {
				return errEnough
			}
			return nil
		}
	}
	if err := c.Watch(t.Context(), start, slow(0)); !errors.Is(err, errEnough) || seen != maxEvents {
		t.Errorf("at the bound: %v after %d events", err, seen)
	}
	flip(2)
	if err := c.Watch(t.Context(), start, slow(0)); !errors.Is(err, ErrTooOld) {
		t.Errorf("above it: %v", err)
	}
	if n := len(c.events.ring); n != maxEvents {
		t.Errorf("%d events are kept", n)
	}
	for more, want := range map[int]error{10: errEnough, 2 * maxEvents: ErrTooOld} {
		seen = 0
		if err := c.Watch(t.Context(), discovery.Revision{Epoch: c.Epoch(), Number: c.Revision().Number - 2000}, slow(more)); !errors.Is(err, want) {
			t.Errorf("%d events while the reader was busy: %v, want %v", more, err, want)
		}
	}
}

// TestWatchBytes: large rules push older events out.
func TestWatchBytes(t *testing.T) {
	for name, size := range map[string]int{"large": maxEventBytes / eventRule / 10, "control": 100} {
		var k events
		for i := range 100 {
			k.add([]event{{revision: uint64(i + 1), document: &document{json: make([]byte, size)}}})
		}
		kept, _, err := k.after(k.floor)
		if err != nil || name == "control" && len(kept) != 100 || name == "large" && (len(kept) != 10 || k.bytes > maxEventBytes) {
			t.Errorf("%s: %d events of %d bytes: %v", name, len(kept), k.bytes, err)
		}
	}
}

// pace keeps writers within a distance of the slowest reader, so that none falls out of what is kept.
type pace struct {
	mu      sync.Mutex
	moved   sync.Cond
	written int
	read    []int
}

func newPace(readers int) *pace {
	p := &pace{read: make([]int, readers)}
	p.moved.L = &p.mu
	return p
}

func (p *pace) write() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.written-slices.Min(p.read) > maxEvents/2 {
		p.moved.Wait()
	}
	p.written++
}

func (p *pace) readTo(reader, n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.read[reader] = n
	p.moved.Broadcast()
}

// TestWatchUnderWriters: 20,000 events of concurrent writers come ordered, unique and without a gap, to readers who stop
// and resume at random as to one who never does, and they add up to what is there.
func TestWatchUnderWriters(t *testing.T) {
	const readers, writers, each = 3, 8, 2600
	c, _ := open(t)
	start, p := c.Revision(), newPace(readers)
	seen := make([][]Event, readers)
	var wg sync.WaitGroup
	for r := range seen {
		wg.Go(func() { seen[r] = follow(t, c, start, writers*each, r > 0, func(n int) { p.readTo(r, n) }) })
	}
	for w := range writers {
		wg.Go(func() { change(t, c, w, each, p.write) })
	}
	wg.Wait()
	for r, events := range seen {
		ordered := slices.IsSortedFunc(events, func(a, b Event) int { return cmp.Compare(a.Revision.Number, b.Revision.Number) })
		same := slices.EqualFunc(events, seen[0], func(a, b Event) bool {
			return a.Revision == b.Revision && a.Kind == b.Kind && a.ID == b.ID && a.Removed == b.Removed
		})
		if !ordered || !same || len(events) != writers*each {
			t.Errorf("reader %d: %d events, in order %t, the same as the first one's %t", r, len(events), ordered, same)
		}
		replay(t, c, events)
	}
	t.Run("control", func(t *testing.T) { // replay notices what is missing and what comes twice
		for what, events := range map[string][]Event{
			"missing": slices.Delete(slices.Clone(seen[0]), 5, 6),
			"twice":   slices.Insert(slices.Clone(seen[0]), 5, seen[0][5]),
		} {
			if _, err := replayed(events); err == nil {
				t.Errorf("an event is %s, and nobody noticed", what)
			}
		}
	})
}

// follow collects n events. If restless, it stops at random and goes on from there.
func follow(t *testing.T, c *Catalog, at discovery.Revision, n int, restless bool, progress func(int)) (all []Event) {
	for len(all) < n {
		err := c.Watch(t.Context(), at, func(events []Event) error {
			if events[0].Revision.Number <= at.Number {
				t.Errorf("revision %v after %v", events[0].Revision, at)
			}
			all, at = append(all, events...), events[0].Revision
			progress(len(all))
			if len(all) >= n || restless && rand.N(50) == 0 {
				return errEnough
			}
			return nil
		})
		if !errors.Is(err, errEnough) {
			t.Error(err)
			progress(n)
			return all
		}
	}
	return all
}

// change makes n changes of all kinds. Each is an event of its own.
func change(t *testing.T, c *Catalog, writer, n int, before func()) {
	for i := range n {
		before()
		id := fmt.Sprintf("w%d-%d", writer, i/4%50)
		in := instance1(id)
		in.Weight = 1 + i%10_000
		var err error
		switch i % 4 {
		case 0, 1:
			_, err = c.PutInstances(context.Background(), []discovery.Instance{in})
		case 2:
			c.SetStates([]StateChange{{product, id, discovery.Suspect}})
		case 3:
			_, err = c.DeleteInstances(context.Background(), []InstanceKey{{product, id}}, discovery.Deregistered)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// replayed plays events of change from an empty catalog. Each has to be the next one of its instance: put, put with another
// weight, suspect, gone.
func replayed(events []Event) (map[string]discovery.Instance, error) {
	have := make(map[string]discovery.Instance)
	for _, e := range events {
		old, there := have[e.ID]
		var next bool
		switch {
		case e.Removed != "":
			next = there && old.State == discovery.Suspect
		case e.Instance.State == discovery.Suspect:
			next = there && old.State == discovery.Up && old.Weight%4 == 2
		case there:
			next = old.State == discovery.Up && e.Instance.Weight == old.Weight+1
		default:
			next = e.Instance.Weight%4 == 1
		}
		if !next {
			return nil, fmt.Errorf("revision %v of %s does not follow %+v", e.Revision, e.ID, old)
		}
		if delete(have, e.ID); e.Removed == "" {
			have[e.ID] = *e.Instance
		}
	}
	return have, nil
}

// replay compares what the events add up to with what is there.
func replay(t *testing.T, c *Catalog, events []Event) {
	t.Helper()
	have, err := replayed(events)
	if err != nil {
		t.Fatal(err)
	}
	want := make(map[string]discovery.Instance)
	ins, _ := c.Instances(product)
	for _, in := range ins {
		want[in.ID] = in
	}
	if diff := gocmp.Diff(want, have); diff != "" {
		t.Errorf("replayed (-want +got):\n%s", diff)
	}
}
