package engine

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/resilience/retry"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

// Plan is the immutable compiled form of every rule and endpoint that a call to one service needs. A call reads it
// once, with one atomic load.
type Plan struct {
	Service  string // full name, "product.shop"
	Revision string // of the snapshot and rules it was made of
	Caller   *routing.Caller
	Missing  bool // the service does not exist: no instance and no rule names it

	RouteRule string // name@revision; "" without a Route
	Protocols [NumProtocols]ProtocolPlan

	RetryRule    string // name@revision; "" without a Retry
	Retry        RetryPlan
	RetryMethods []RetryMethod // the first match overrides Retry
	Budget       *budget.Budget
}

// ProtocolPlan is the part of a plan that belongs to one protocol.
type ProtocolPlan struct {
	Router    *routing.Router
	Endpoints []*balancer.Endpoint // all that may be called: up, suspect and last resort, sorted by id
	Recorder  telemetry.Recorder   // never nil
}

// RetryPlan is a compiled retry policy.
type RetryPlan struct {
	retry.Policy
	On         Conditions
	Idempotent *bool // nil: as the protocol says
}

// RetryMethod is a retry policy for some calls.
type RetryMethod struct {
	Match *routing.Matcher
	RetryPlan
}

func (p *Plan) retryFor(req *routing.Request) *RetryPlan {
	for i := range p.RetryMethods {
		if p.RetryMethods[i].Match.Matches(req) {
			return &p.RetryMethods[i].RetryPlan
		}
	}
	return &p.Retry
}

// Describe writes what a call goes through, in words.
func (p *Plan) Describe(w io.Writer) {
	fmt.Fprintf(w, "service %s, revision %s\n", p.Service, orNone(p.Revision))
	fmt.Fprintf(w, "  plan     one snapshot of rules and endpoints for the whole call\n")
	fmt.Fprintf(w, "  route    rule %s\n", orNone(p.RouteRule))
	fmt.Fprintf(w, "  retry    rule %s: %d attempts, %d method entries; not-sent attempts always qualify\n", orNone(p.RetryRule), p.Retry.Attempts, len(p.RetryMethods))
	for proto := range NumProtocols {
		pp := &p.Protocols[proto]
		fmt.Fprintf(w, "  select   %s: %d endpoints; not tried, not ejected, ready\n", proto, len(pp.Endpoints))
		for _, ep := range pp.Endpoints {
			fmt.Fprintf(w, "             %s %s weight %d pending %d\n", ep.ID, ep.Address, ep.Weight, ep.Stats.Pending())
		}
	}
	fmt.Fprintf(w, "  settle   once: endpoint stats, outlier, observers\n")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Service is a callee as a process sees it: the place where its current plan is published.
type Service struct {
	Name   string // full name
	engine *Engine
	// Recorders are told of calls that ended before there was a plan; nil ones are not. Set before the first call.
	Recorders [NumProtocols]telemetry.Recorder

	plan  atomic.Pointer[Plan]
	first chan struct{} // closed when the first plan is there

	mu        sync.Mutex // guards listeners and orders publications; taken before any lock of a listener
	listeners []*listener
}

type listener struct{ apply func(*Plan) }

// NewService returns a service without a plan.
func (e *Engine) NewService(name string) *Service {
	return &Service{Name: name, engine: e, first: make(chan struct{})}
}

// Plan returns the current plan, nil before the first.
func (s *Service) Plan() *Plan { return s.plan.Load() }

// Publish makes p the plan of all calls that start from now on, and tells the listeners.
func (s *Service) Publish(p *Plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plan.Swap(p) == nil {
		close(s.first)
	}
	for _, l := range s.listeners {
		l.apply(p)
	}
}

// Listen calls apply with the current plan, if there is one, and with every later one, one call at a time, until
// cancel is called. apply must not call back into the service and must not block.
func (s *Service) Listen(apply func(*Plan)) (cancel func()) {
	l := &listener{apply}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listeners = append(s.listeners, l)
	if p := s.plan.Load(); p != nil {
		apply(p)
	}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.listeners = slices.DeleteFunc(s.listeners, func(o *listener) bool { return o == l })
	}
}

// FirstPlanWait is how long a call without a deadline waits for the first plan of its service.
const FirstPlanWait = 5 * time.Second

// Wait returns the current plan, or waits for the first until ctx ends, at most [FirstPlanWait] if it has no deadline.
func (s *Service) Wait(ctx context.Context) (*Plan, error) {
	if p := s.plan.Load(); p != nil {
		return p, nil
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, FirstPlanWait)
		defer cancel()
	}
	select {
	case <-s.first:
		return s.plan.Load(), nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
