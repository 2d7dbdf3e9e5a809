// Package balancer chooses one endpoint out of many. It depends on the standard library alone and can be used
// without the rest of Weft:
//
//	pool := balancer.NewPool(nil)
//	eps := pool.Update([]balancer.Spec{{ID: "a", Address: "10.0.0.1:80"}, {ID: "b", Address: "10.0.0.2:80"}})
//	picker := balancer.LeastRequest().Picker(eps)
//	ep := picker.Pick(&balancer.Pick{Now: time.Now(), Rand: balancer.NewRand(seed)})
//	ep.Begin()
//	… call ep.Address …
//	ep.Done(balancer.Result{Latency: took})
//
// Endpoints are immutable views of an instance; what a caller learns about an instance (requests pending,
// latency, errors) lives in its [Stats], which a [Pool] carries from one update to the next. The algorithms hold
// no clock and no goroutine: the time and the random source come with each [Pick], so the same code runs in
// production and in simulations.
package balancer

import (
	"time"
)

// Spec describes an instance to a [Pool].
type Spec struct {
	ID      string            // unique in the pool
	Address string            // host:port
	Weight  uint32            // 0 means 100
	Labels  map[string]string // must not change after it was handed over
	Region  string
	Zone    string
	HTTP2   bool // an HTTP instance that is to be called over HTTP/2
	// Suspect marks an instance that only callers with a working connection to it should still call. The
	// algorithms do not look at it; the Filter does.
	Suspect bool
}

// Endpoint is one instance as this caller sees it. All fields are immutable; an update of the instance makes
// a new Endpoint with the same Stats.
type Endpoint struct {
	Spec
	// Stats are the caller's learned numbers. They outlive the Endpoint. Never nil.
	Stats *Stats
	// Attachment is what the pool's owner keeps beside the learned numbers; it lives as long as the Stats do.
	Attachment any
}

// Policy is a balancing algorithm with its parameters. Pickers made by one Policy share what the algorithm
// must remember between updates (the position of a round robin).
type Policy interface {
	// Name is the word for the policy in rules, such as "round_robin".
	Name() string
	// Picker compiles the policy for a set of endpoints. It keeps the slice and must not change it.
	Picker(endpoints []*Endpoint) Picker
}

// Picker chooses among the endpoints it was made for. It is safe for concurrent use and must not block.
type Picker interface {
	// Pick returns an endpoint that p's Filter accepts, or nil when there is none. It does not touch the
	// endpoint's Stats: the caller says Begin when it really uses it.
	Pick(p *Pick) *Endpoint
}

// Filter says which endpoints may be picked. Usable must be cheap and must not block; a picker may ask about
// the same endpoint more than once.
type Filter interface {
	Usable(*Endpoint) bool
}

// Pick is the input of one choice.
type Pick struct {
	Now    time.Time // for algorithms whose numbers age
	Rand   *Rand     // never nil
	Filter Filter    // nil accepts every endpoint
	// Record, when not nil, receives the endpoints that were compared.
	Record *[]Candidate
}

// Candidate is one endpoint that a picker looked at.
type Candidate struct {
	Endpoint *Endpoint
	Usable   bool    // false: the filter refused it
	Cost     float64 // what was compared; less is better; 0 for algorithms that do not compare
}
