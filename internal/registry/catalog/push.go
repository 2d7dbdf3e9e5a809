package catalog

import (
	"iter"
	"slices"
	"sync"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
)

// Update is what has to be told to somebody who knows a service up to a revision; nil if that is everything. It
// is a delta if the revision is of this epoch and not too old, else a snapshot; the zero revision always gets
// a snapshot, and so does a revision that the catalog has not reached. The rules are those of the service itself
// and the "*" rules of its namespace. That of an alias says where it leads, and nothing else. The update may be shared
// and must not be changed.
func (c *Catalog) Update(name discovery.Name, known discovery.Revision) *weftv1.Update {
	s, star := c.lookup(name)
	revision := max(s.revision, star.revision)
	since, ours := known.Number, known.Epoch == c.epoch
	if ours && since == revision {
		return nil
	}
	if ours && since > revision {
		if since <= c.Revision().Number {
			return nil
		}
		ours = false
	}
	delta := ours && since >= s.floor
	u := &weftv1.Update{
		Service:  name.String(),
		Epoch:    c.epoch,
		Revision: revision,
		Snapshot: !delta,
		Missing:  s.empty(),
		HasRules: !delta || max(s.ruled, star.ruled) > since,
	}
	if delta {
		u.Instances = s.wire(s.instances.since(since))
	} else {
		u.Instances = s.wire(s.instances.all())
	}
	if ours {
		u.Removals = s.removals(since)
	}
	if u.HasRules {
		u.Rules = append(texts(s.rules), texts(star.rules)...)
	}
	if s.alias != nil {
		u.Alias = s.alias.target.String()
	}
	return u
}

// wire gives instances as they are pushed. Neighbours of one shape share their labels.
func (s *service) wire(instances iter.Seq[*instance]) (out []*weftv1.Instance) {
	var last shape
	var a attributes
	for in := range instances {
		if in.shape != last {
			last, a = in.shape, in.shape.attributes()
		}
		out = append(out, ToWire(in.show(s.name, a, in.weight, in.state())))
	}
	return out
}

// removals gives the instances that went after a revision and have not come back. A snapshot has them too: the
// reasons tell a receiver that it may forget them.
func (s *service) removals(since uint64) (out []*weftv1.Removal) {
	for t := range s.gone.since(since) {
		if s.instance(t.id) == nil {
			out = append(out, &weftv1.Removal{Id: t.id, Reason: string(t.reason)})
		}
	}
	return out
}

func texts(docs []*document) (out [][]byte) {
	for _, d := range docs {
		out = append(out, d.json)
	}
	return out
}

// Subscribe calls fn after each change with the services that changed, sorted; the name with service "*" stands
// for every service of its namespace, existing or not. Changes that come while fn runs are told together. fn
// runs on the catalog's goroutine, under no lock, and must not block. After cancel it is not called again, but
// a call may be under way.
func (c *Catalog) Subscribe(fn func(services []discovery.Name)) (cancel func()) {
	return c.notifier.subscribe(fn)
}

// notifier tells subscribers what changed, on one goroutine.
type notifier struct {
	signal chan struct{} // holds one: there is something to tell
	done   chan struct{} // closed by stop
	wg     sync.WaitGroup

	mu      sync.Mutex
	changed map[discovery.Name]struct{}
	next    int
	fns     map[int]func([]discovery.Name)
	stopped bool
}

func newNotifier() *notifier {
	return &notifier{
		signal:  make(chan struct{}, 1),
		done:    make(chan struct{}),
		changed: make(map[discovery.Name]struct{}),
		fns:     make(map[int]func([]discovery.Name)),
	}
}

func (n *notifier) subscribe(fn func([]discovery.Name)) (cancel func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	id := n.next
	n.next++
	n.fns[id] = fn
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.fns, id)
	}
}

// add remembers what changed; wake tells it.
func (n *notifier) add(names []discovery.Name) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range names {
		n.changed[name] = struct{}{}
	}
}

func (n *notifier) wake() {
	select {
	case n.signal <- struct{}{}:
	default: // it is awake
	}
}

// start runs the goroutine; after each round it calls then.
func (n *notifier) start(then func()) {
	n.wg.Go(func() {
		for {
			select {
			case <-n.done:
				return
			case <-n.signal:
				n.tell()
				then()
			}
		}
	})
}

func (n *notifier) tell() {
	names, fns := n.take()
	if len(names) == 0 {
		return
	}
	for _, fn := range fns {
		fn(slices.Clone(names))
	}
}

// take gives what changed and whom to tell, in the order of their subscription.
func (n *notifier) take() ([]discovery.Name, []func([]discovery.Name)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	names := make([]discovery.Name, 0, len(n.changed))
	for name := range n.changed {
		names = append(names, name)
	}
	clear(n.changed)
	slices.SortFunc(names, compareNames)
	fns := make([]func([]discovery.Name), 0, len(n.fns))
	for id := range n.next {
		if fn, ok := n.fns[id]; ok {
			fns = append(fns, fn)
		}
	}
	return names, fns
}

// stop ends the goroutine and waits for it; false if it had been stopped already.
func (n *notifier) stop() bool {
	n.mu.Lock()
	stopped := n.stopped
	n.stopped = true
	n.mu.Unlock()
	if !stopped {
		close(n.done)
	}
	n.wg.Wait()
	return !stopped
}
