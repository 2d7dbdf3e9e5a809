package catalog

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strconv"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// Order is what an operator says about an instance, over what its process says. It holds, over restarts and while the
// instance is away, until the id is registered by another process, or by REST. A nil or empty field leaves what was
// ordered before. A process that says it is draining is draining, whatever was ordered.
type Order struct {
	Weight *int              // 1 to 10000
	Labels map[string]string // all labels from now on
	State  discovery.State   // up, draining or isolated
	Reset  bool              // forget what was ordered before first
}

// order is one as it is stored: the word of an operator on an instance of one process. It is immutable.
type order struct {
	Process string            `json:"process,omitempty"`
	Weight  int               `json:"weight,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	State   discovery.State   `json:"state,omitempty"`
	Deleted bool              `json:"deleted,omitempty"` // the instance is not to come back

	idle     bool // there is no instance
	revision uint64
}

// resting gives the order with or without its instance.
func (o *order) resting(idle bool) *order {
	if o.idle == idle {
		return o
	}
	out := *o
	out.idle = idle
	return &out
}

// says reports whether the order says anything.
func (o *order) says() bool { return o.Weight > 0 || len(o.Labels) > 0 || o.State != "" || o.Deleted }

// deletes reports whether an operator removed the instance of the process. o may be nil.
func (o *order) deletes(process string) bool { return o != nil && o.Deleted && o.Process == process }

func (o *order) same(p *order) bool {
	if o == nil || p == nil {
		return o == p
	}
	return o.Process == p.Process && o.Weight == p.Weight && o.State == p.State && o.Deleted == p.Deleted && maps.Equal(o.Labels, p.Labels)
}

// OrderInstance gives an order and returns once it is on disk, with the instance as callers see it then. One that changes
// nothing writes nothing. The error wraps [ErrNotFound] or [discovery.ErrInvalid].
func (c *Catalog) OrderInstance(ctx context.Context, key InstanceKey, o Order) (discovery.Instance, discovery.Revision, error) {
	if err := o.validate(); err != nil {
		return discovery.Instance{}, discovery.Revision{}, err
	}
	o.Labels = maps.Clone(o.Labels)
	var out discovery.Instance
	rev, err := c.write(ctx, func(d *draft, b *store.Batch) (uint64, error) {
		in, err := d.orderInstance(ctx, b, key, o)
		if err != nil {
			return 0, err
		}
		out = in.public(key.Service)
		return d.revision, nil
	})
	if err != nil {
		return discovery.Instance{}, discovery.Revision{}, err
	}
	return out, rev, nil
}

// Ordered gives what an operator ordered about an instance; false if nothing.
func (c *Catalog) Ordered(key InstanceKey) (Order, bool) {
	o := c.standing(key)
	if o == nil || o.Deleted {
		return Order{}, false
	}
	out := Order{Labels: maps.Clone(o.Labels), State: o.State}
	if o.Weight > 0 {
		out.Weight = &o.Weight
	}
	return out, true
}

// Deleted reports whether an operator removed the instance of the process, and nobody has put it back since. That is
// stored: it outlasts restarts.
func (c *Catalog) Deleted(key InstanceKey, process string) bool {
	return c.standing(key).deletes(process)
}

func (c *Catalog) standing(key InstanceKey) *order {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.orders[key]
}

func (o Order) validate() error {
	if o.Weight != nil && (*o.Weight < 1 || *o.Weight > discovery.MaxWeight) {
		return discovery.Invalid("weight", strconv.Itoa(*o.Weight), "want 1 to 10000")
	}
	switch o.State {
	case "", discovery.Up, discovery.Draining, discovery.Isolated:
		return nil
	}
	return discovery.Invalid("state", string(o.State), "want up, draining or isolated")
}

// over gives the order that stands after this one; nil if none does. old may be nil.
func (o Order) over(old *order, process string, revision uint64) *order {
	out := &order{Process: process}
	if old != nil && !o.Reset {
		out.Weight, out.Labels, out.State = old.Weight, old.Labels, old.State
	}
	if o.Weight != nil {
		out.Weight = *o.Weight
	}
	if len(o.Labels) > 0 {
		out.Labels = o.Labels
	}
	out.State, out.revision = cmp.Or(o.State, out.State), revision
	if !out.says() {
		return nil
	}
	return out
}

func (d *draft) orderInstance(ctx context.Context, b *store.Batch, key InstanceKey, o Order) (*instance, error) {
	in := d.service(key.Service).instance(key.ID)
	if in == nil {
		return nil, &Refused{key, ErrNotFound}
	}
	next := o.over(in.order(), in.process(), d.revision+1)
	if in.order().same(next) {
		return in, nil
	}
	out := in.ordered(next)
	shown := out.publicSaid(key.Service)
	shown.Labels, shown.State = out.shape.attributes().labels, ""
	if err := shown.Validate(); err != nil {
		return nil, err
	}
	out.revision = d.next(b)
	d.put(key.Service, out)
	detail := "reset"
	if next == nil {
		d.dropOrder(b, key)
	} else {
		detail = string(d.storeOrder(b, key, next))
	}
	d.c.auditor(ctx, b, d.revision).instance("order", key, detail)
	return out, nil
}

func (d *draft) order(key InstanceKey) *order {
	if o, ok := d.orders[key]; ok {
		return o
	}
	return d.c.orders[key]
}

// setOrder writes an order into memory; nil takes it out.
func (d *draft) setOrder(key InstanceKey, o *order) {
	if old := d.order(key); old != nil && old.idle {
		d.resting--
	}
	if o != nil && o.idle {
		d.resting++
	}
	d.orders[key] = o
}

// storeOrder writes an order and gives its text.
func (d *draft) storeOrder(b *store.Batch, key InstanceKey, o *order) []byte {
	value, _ := json.Marshal(o) //nolint:errchkjson // texts and numbers: it cannot fail
	d.setOrder(key, o)
	b.Put(orderKey(key), value)
	return value
}

// dropOrder removes an order, if there is one.
func (d *draft) dropOrder(b *store.Batch, key InstanceKey) {
	if d.order(key) != nil {
		d.setOrder(key, nil)
		b.Delete(orderKey(key))
	}
}

// pruneOrders drops the oldest orders without an instance: a hundredth of the bound at once, so that looking for them is
// rare.
func (d *draft) pruneOrders(b *store.Batch) {
	most := d.c.limits.orders
	if d.resting <= most {
		return
	}
	idle := d.idleOrders()
	slices.SortFunc(idle, func(a, b InstanceKey) int {
		return cmp.Or(cmp.Compare(d.order(a).revision, d.order(b).revision), compareNames(a.Service, b.Service), cmp.Compare(a.ID, b.ID))
	})
	for _, key := range idle[:len(idle)-most+most/100] {
		d.dropOrder(b, key)
	}
}

func (d *draft) idleOrders() (keys []InstanceKey) {
	for key, o := range d.c.orders {
		if _, here := d.orders[key]; !here && o.idle {
			keys = append(keys, key)
		}
	}
	for key, o := range d.orders {
		if o != nil && o.idle {
			keys = append(keys, key)
		}
	}
	return keys
}
