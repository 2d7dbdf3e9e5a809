// Package routing decides to which instances of a service a call goes: rules match the call, a matched rule splits
// its calls among subsets, and a subset is the endpoints whose labels fit. It depends on package balancer alone
// and can be used without the rest of Weft:
//
//	router, err := routing.New(routing.Config{
//		Key:     "default/product",
//		Subsets: map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "v2"}},
//		Rules: []routing.Rule{{
//			Split:    []routing.Share{{Subset: "v1", Weight: 90}, {Subset: "v2", Weight: 10}},
//			StickyBy: routing.Sticky{Header: "x-user-id"},
//		}},
//		Policy: balancer.LeastRequest(),
//	}, up, reserve)
//	result := router.Route(&routing.Request{Path: "/v1/items", Method: "GET"}, rnd)
//	if d := result.Destination; d != nil {
//		endpoint := d.Pick(&balancer.Pick{Rand: rnd})
//		…
//	}
//
// A [Router] is compiled once for a set of rules and endpoints and is immutable, hence safe for concurrent use;
// when either changes, a new one is made. The balancer's policy outlives routers and carries its memory over.
package routing

import (
	"time"

	"github.com/weftmesh/weft/balancer"
)

// Config is what a [Router] is compiled from. It is not kept.
type Config struct {
	// Key names the service, "namespace/service". It salts sticky buckets, so that a user's place in the split
	// of one service says nothing about that in another.
	Key string
	// Subsets are named sets of labels; an instance belongs to a subset when it has all of them.
	Subsets map[string]map[string]string
	// Rules are tried in order; the first match wins. A call that none matches goes to all instances.
	Rules []Rule
	// Policy picks among the endpoints of a destination; nil means balancer.LeastRequest.
	Policy balancer.Policy
}

// Rule says where the calls that it matches go.
type Rule struct {
	Match     []Match // entries are OR; none: always
	Split     []Share // none: all instances
	WhenEmpty WhenEmpty
	StickyBy  Sticky        // zero: each call draws anew
	Timeout   time.Duration // handed through in the [Result]; 0: none
}

// Share is one part of a split. A single share gets everything; of several, each gets Weight of the sum of the
// weights, and one with weight 0 gets nothing.
type Share struct {
	Subset string // "": all instances
	Weight int    // 0 to 1,000,000
}

// WhenEmpty says what happens to the calls of a share without instances.
type WhenEmpty int

// The choices. With Rest the other shares of the split take over, in proportion to their weights, and a share
// that has only reserve endpoints counts as empty while another one has better. With Fail the calls of a share fail
// when it has no endpoint at all.
const (
	Rest WhenEmpty = iota
	Fail
)

// Sticky names the value that decides a caller's place in a split. At most one field may be set.
type Sticky struct {
	Header string
	Cookie string
}

// Attributes are the parts of a call that an adapter looks up when a rule asks for them. A nil result means that
// the call has no such header or query parameter.
type Attributes interface {
	Header(name string) []string // name is in lower case
	Query(name string) []string
}

// Caller describes the calling service.
type Caller struct {
	Service, Namespace string
	Labels             map[string]string
}

// Request is the call to route.
type Request struct {
	Path       string     // for gRPC the full method, /pkg.Service/Method
	Method     string     // HTTP's method; POST for gRPC
	Caller     *Caller    // nil: unknown
	Attributes Attributes // nil: the call has none
}

// Result says where a call goes and why.
type Result struct {
	Rule          int           // index of the matched rule; -1: none matched
	Destination   *Destination  // nil: there is nothing to call
	Subset        string        // as drawn, even when it is empty
	Timeout       time.Duration // the rule's
	Bucket        int           // place of the sticky value, 0 to 9999; -1: not sticky
	Substituted   bool          // the drawn share was empty and the rest took over
	NoStickyValue bool          // the rule is sticky, the call had no value, and its share was drawn at random
}
