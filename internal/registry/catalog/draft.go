package catalog

import (
	"encoding/binary"
	"maps"
	"slices"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// draft is a change that is being prepared: what differs from what is published. The caller holds the catalog's
// writing.
type draft struct {
	c        *Catalog
	id       uint64 // never that of another draft
	revision uint64
	ceiling  uint64
	number   uint64 // of the newest instance
	services map[discovery.Name]*service
	rules    map[rule.Key]*document // nil: deleted
	orders   map[InstanceKey]*order // nil: deleted
	resting  int                    // orders without an instance
	targets  map[discovery.Name]int // aliases of each service
	totals   counts
	history  history
	events   []event
}

func newDraft(c *Catalog) *draft {
	c.drafts++
	return &draft{ // what is read here is only written under writing
		c:        c,
		id:       c.drafts,
		revision: c.revision,
		ceiling:  c.ceiling,
		number:   c.number,
		services: make(map[discovery.Name]*service),
		rules:    make(map[rule.Key]*document),
		orders:   make(map[InstanceKey]*order),
		resting:  c.resting,
		targets:  make(map[discovery.Name]int),
		totals:   c.totals,
		history:  history{versions: make(map[rule.Key][]version), bytes: c.history.bytes, most: c.history.most},
	}
}

// service gives the service as it is so far, nil if there is none, for reading.
func (d *draft) service(name discovery.Name) *service {
	if s, ok := d.services[name]; ok {
		return s
	}
	return d.c.services[name]
}

// change lets fn change the draft's own copy of a service.
func (d *draft) change(name discovery.Name, fn func(*service)) {
	s, ok := d.services[name]
	if !ok {
		s = &service{name: name, floor: d.c.forgot} // whoever knows that much knows that it was not there
		if old := d.c.services[name]; old != nil {
			*s = *old
		}
		d.services[name] = s
	}
	before := s.counts()
	fn(s)
	d.totals = d.totals.plus(s.counts()).minus(before)
}

func (d *draft) rule(key rule.Key) *document {
	if doc, ok := d.rules[key]; ok {
		return doc
	}
	return d.c.rules[key]
}

// put writes an instance into memory.
func (d *draft) put(name discovery.Name, in *instance) {
	d.change(name, func(s *service) { s.put(in, d.id) })
	d.events = append(d.events, event{revision: in.revision, service: name, instance: in})
}

// remove takes an instance that is there out of memory. Its order rests.
func (d *draft) remove(name discovery.Name, in *instance, reason discovery.Reason) {
	d.change(name, func(s *service) { s.remove(in.id(), reason, d.revision, d.id) })
	d.events = append(d.events, event{revision: d.revision, service: name, instance: in, removed: reason})
	if o := in.order(); o != nil {
		d.setOrder(InstanceKey{name, in.id()}, o.resting(true))
	}
}

// next takes the next revision for a write, and sets more of them aside when few are left.
func (d *draft) next(b *store.Batch) uint64 {
	d.revision++
	b.At(d.revision)
	d.reserve(b)
	return d.revision
}

func (d *draft) reserve(b *store.Batch) {
	if d.revision+revisionStep/2 > d.ceiling {
		d.ceiling = d.revision + revisionStep
		b.Put(ceilingKey, binary.BigEndian.AppendUint64(nil, d.ceiling))
	}
}

// changed lists the services of the draft.
func (d *draft) changed() []discovery.Name {
	return slices.SortedFunc(maps.Keys(d.services), compareNames)
}
