package balancer

import "sync/atomic"

// Scoper is a [Policy] that remembers a position. Scope returns the same policy with a position of its own for one
// of several sets of endpoints that are called in turn, such as the subsets of a service; sharing one position,
// strictly alternating calls to two sets of two would always see the same endpoint of each. The name of a set
// stays the same from one update to the next. Sets beyond a few dozen may share a position.
type Scoper interface {
	Policy
	Scope(name string) Policy
}

// position counts picks. It starts at a random place, so that callers which start together do not all begin at
// the first endpoint.
type position struct{ n atomic.Uint64 }

func (p *position) next(r *Rand) uint64 {
	if p.n.Load() == 0 {
		p.n.CompareAndSwap(0, r.Uint64())
	}
	return p.n.Add(1)
}

// positions holds those of all scopes of one policy. They are found by hash, which needs no lock and has a bound.
type positions [64]position

func (p *positions) of(scope string) *position { return &p[Hash64(scope)%uint64(len(p))] }
