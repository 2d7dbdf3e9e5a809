package balancer

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// Pool turns the changing list of a service's instances into endpoints and keeps what was learned about an
// instance for as long as its ID stays in the list. It is safe for concurrent use.
type Pool struct {
	attach func(Spec) any

	mu      sync.Mutex // one Update at a time; guards byID
	byID    map[string]*Endpoint
	current atomic.Pointer[[]*Endpoint]
}

// NewPool returns an empty pool. attach, when not nil, is called once for each new ID, and what it returns
// becomes the Attachment of the instance's endpoints. It runs inside Update and must not call the pool.
func NewPool(attach func(Spec) any) *Pool {
	p := &Pool{attach: attach}
	p.current.Store(new([]*Endpoint))
	return p
}

// Update replaces the list and returns the new endpoints, sorted by ID; the slice must not be changed. An
// instance whose Spec is as before keeps its Endpoint; a changed one gets a new Endpoint with the same Stats and
// Attachment; one that is gone is forgotten, and known as new if it returns. Of several specs with one ID the
// first counts and the others are skipped: the lists of sources are checked where they come in.
//
// Calls under way on an endpoint that is gone still report to it; nothing needs to be cleaned up.
func (p *Pool) Update(specs []Spec) []*Endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	byID := make(map[string]*Endpoint, len(specs))
	endpoints := make([]*Endpoint, 0, len(specs))
	for _, spec := range specs {
		if byID[spec.ID] != nil {
			continue
		}
		e := p.endpoint(spec)
		byID[spec.ID] = e
		endpoints = append(endpoints, e)
	}
	slices.SortFunc(endpoints, func(a, b *Endpoint) int { return strings.Compare(a.ID, b.ID) })
	p.byID = byID
	p.current.Store(&endpoints)
	return endpoints
}

// Endpoints returns what the last Update returned; before the first, nothing. It takes no lock.
func (p *Pool) Endpoints() []*Endpoint { return *p.current.Load() }

func (p *Pool) endpoint(spec Spec) *Endpoint {
	old := p.byID[spec.ID]
	switch {
	case old == nil:
		return p.newEndpoint(spec)
	case same(old.Spec, spec):
		return old
	default:
		return &Endpoint{Spec: spec, Stats: old.Stats, Attachment: old.Attachment}
	}
}

func (p *Pool) newEndpoint(spec Spec) *Endpoint {
	e := &Endpoint{Spec: spec, Stats: new(Stats)}
	if p.attach != nil {
		e.Attachment = p.attach(spec)
	}
	return e
}

func same(a, b Spec) bool {
	return a.ID == b.ID && a.Address == b.Address && a.Weight == b.Weight &&
		a.Region == b.Region && a.Zone == b.Zone && a.Suspect == b.Suspect && a.HTTP2 == b.HTTP2 && maps.Equal(a.Labels, b.Labels)
}
