package catalog

import (
	"github.com/weftmesh/weft/discovery"
)

// instance is one registered instance as callers see it: what its process says, and over it what an operator ordered. It
// is immutable, and small: there are 500,000 of them at most.
type instance struct {
	text       string // id, address and process, in one allocation
	shape      shape
	extra      *extra // nil for most
	number     uint64 // its key in the store
	revision   uint64 // of its last change
	ttl        uint32 // ms; 0: not leased
	weight     uint16
	endAddress uint16 // where the address ends in text
	endID      uint8  // where the id ends
	written    state  // before lease and check have their say
	health     state  // what the lease says: up, suspect or unhealthy
	failing    bool   // what the check says
	owned      bool   // registered by its process, in a session
}

// extra is what few instances have.
type extra struct {
	check *Check
	order *order
	said  said // what the process says, if there is an order
}

// said is the part of an instance that an order may change.
type said struct {
	shape  shape
	weight uint16
	state  state
}

// state is a [discovery.State] in a byte.
type state uint8

const (
	up state = iota
	starting
	draining
	isolated
	suspect
	unhealthy
)

var states = [...]discovery.State{
	discovery.Up, discovery.Starting, discovery.Draining, discovery.Isolated, discovery.Suspect, discovery.Unhealthy,
}

func (s state) public() discovery.State { return states[s] }

// stateOf gives false for a state that does not exist.
func stateOf(s discovery.State) (state, bool) {
	for i, known := range states {
		if s == known {
			return state(i), true
		}
	}
	return up, false
}

// newInstance makes an instance of a normalized one.
func newInstance(in discovery.Instance, t Terms, owned bool) *instance {
	written, _ := stateOf(in.State)
	out := &instance{
		text:       in.ID + in.Address + in.Process,
		shape:      newShape(in),
		ttl:        uint32(t.TTL.Milliseconds()),
		weight:     uint16(in.Weight),
		endID:      uint8(len(in.ID)),
		endAddress: uint16(len(in.ID) + len(in.Address)),
		written:    written,
		owned:      owned,
	}
	if t.Check != nil {
		out.extra = &extra{check: t.Check}
	}
	return out
}

func (in *instance) id() string      { return in.text[:in.endID] }
func (in *instance) address() string { return in.text[in.endID:in.endAddress] }
func (in *instance) process() string { return in.text[in.endAddress:] }

// state is what callers are told. A written state that takes the instance out of service wins over its health, of which
// the worse of lease and check counts.
func (in *instance) state() state {
	switch {
	case in.written != up:
		return in.written
	case in.failing:
		return unhealthy
	}
	return in.health
}

func (in *instance) check() *Check {
	if in.extra == nil {
		return nil
	}
	return in.extra.check
}

func (in *instance) order() *order {
	if in.extra == nil {
		return nil
	}
	return in.extra.order
}

// said gives what the process says.
func (in *instance) said() said {
	if in.order() == nil {
		return said{in.shape, in.weight, in.written}
	}
	return in.extra.said
}

// ordered gives the instance under another order; nil takes back the one that it is under.
func (in *instance) ordered(o *order) *instance {
	out, s := *in, in.said()
	out.shape, out.weight, out.written, out.extra = s.shape, s.weight, s.state, nil
	if in.check() != nil || o != nil {
		out.extra = &extra{check: in.check(), order: o}
	}
	if o == nil {
		return &out
	}
	out.extra.said = s
	if o.Weight > 0 {
		out.weight = uint16(o.Weight)
	}
	if len(o.Labels) > 0 {
		out.shape = s.shape.withLabels(o.Labels)
	}
	if ordered, ok := stateOf(o.State); ok && s.state != draining { // a process that leaves is not called back
		out.written = ordered
	}
	return &out
}

// withTerms gives the instance with the terms of another one, and its health.
func (in *instance) withTerms(old *instance) *instance {
	out := *in
	out.ttl, out.health = old.ttl, old.health
	out.owned = old.owned && old.process() == in.process()
	if check := old.check(); check != nil {
		out.extra = &extra{check: check}
	}
	return &out
}

// withHealth gives the instance with another word of its lease and its check.
func (in *instance) withHealth(health state, failing bool) *instance {
	out := *in
	out.health, out.failing = health, failing
	return &out
}

// same reports whether two instances differ in nothing but key and revision. in may be nil.
func (in *instance) same(other *instance) bool {
	if in == nil {
		return false
	}
	a, b := *in, *other
	a.number, a.revision, a.extra = b.number, b.revision, b.extra
	return a == b && in.extra.same(other.extra)
}

func (e *extra) same(f *extra) bool {
	if e == nil || f == nil {
		return e == f
	}
	return sameCheck(e.check, f.check) && e.order == f.order && e.said == f.said
}

func sameCheck(a, b *Check) bool { return a == b || a != nil && b != nil && *a == *b }

// public gives the instance to a caller, who owns it.
func (in *instance) public(name discovery.Name) discovery.Instance {
	return in.show(name, in.shape.attributes(), in.weight, in.state())
}

// publicSaid gives it as its process said it.
func (in *instance) publicSaid(name discovery.Name) discovery.Instance {
	s := in.said()
	return in.show(name, s.shape.attributes(), s.weight, s.state)
}

func (in *instance) show(name discovery.Name, a attributes, weight uint16, s state) discovery.Instance {
	return discovery.Instance{
		ID:        in.id(),
		Service:   name.Service,
		Namespace: name.Namespace,
		Process:   in.process(),
		Address:   in.address(),
		Protocol:  a.protocol,
		HTTP2:     a.http2,
		TLS:       a.tls,
		Labels:    a.labels,
		Weight:    int(weight),
		Locality:  a.locality,
		State:     s.public(),
	}
}
