package engine_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/resilience/outlier"
	"github.com/weftmesh/weft/resilience/retry"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

// world is a service with endpoints, a plan that a test can change, and counts of what was observed.
type world struct {
	t        *testing.T
	engine   *engine.Engine
	service  *engine.Service
	plan     engine.Plan
	pool     *balancer.Pool
	detector *outlier.Detector
	seen     counts
}

type counts struct {
	mu       sync.Mutex
	attempts []telemetry.AttemptEvent
	calls    []telemetry.CallEvent
}

func (c *counts) Attempt(e *telemetry.AttemptEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts = append(c.attempts, *e)
}

func (c *counts) Call(e *telemetry.CallEvent) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, *e)
}

func newWorld(t *testing.T, ids ...string) *world {
	w := &world{t: t, engine: engine.New(engine.Config{}), detector: outlier.New(outlier.Default())}
	w.service = w.engine.NewService("product.default")
	w.pool = balancer.NewPool(func(balancer.Spec) any { return w.detector.Host() })
	w.plan = engine.Plan{Service: "product.default", Budget: budget.New(budget.Config{Percent: 100, PerSecond: 1000}),
		Retry: engine.RetryPlan{Policy: retry.Policy{Attempts: 3}}}
	w.endpoints(ids...)
	return w
}

// endpoints makes a plan with these endpoints and publishes it.
func (w *world) endpoints(ids ...string) {
	var specs []balancer.Spec
	for _, id := range ids {
		specs = append(specs, balancer.Spec{ID: id, Address: id + ":1"})
	}
	w.publish(w.pool.Update(specs), nil)
}

func (w *world) publish(up, reserve []*balancer.Endpoint) {
	w.t.Helper()
	router, err := routing.New(routing.Config{Key: "default/product", Policy: balancer.RoundRobin()}, up, reserve)
	if err != nil {
		w.t.Fatal(err)
	}
	p := w.plan
	for i := range p.Protocols {
		p.Protocols[i] = engine.ProtocolPlan{Router: router, Endpoints: append(up[:len(up):len(up)], reserve...), Recorder: &w.seen}
	}
	w.plan = p
	w.service.Publish(&p)
}

func (w *world) on(conditions func(*engine.Conditions)) {
	conditions(&w.plan.Retry.On)
	p := w.plan
	w.service.Publish(&p)
}

// idle fails the test unless no endpoint has a call pending.
func (w *world) idle() {
	w.t.Helper()
	for _, ep := range w.pool.Endpoints() {
		if n := ep.Stats.Pending(); n != 0 {
			w.t.Errorf("endpoint %s has %d calls pending after all is over", ep.ID, n)
		}
	}
}

// script is a transport whose answers a test decides.
type script struct {
	ready     func(*balancer.Endpoint) engine.Ready
	answer    func(a *engine.Attempt) engine.Outcome
	endpoints []string
	discarded int
	last      *engine.Attempt
}

func (s *script) Ready(ep *balancer.Endpoint) engine.Ready {
	if s.ready == nil {
		return engine.Connected
	}
	return s.ready(ep)
}

func (s *script) Try(a *engine.Attempt) engine.Outcome {
	s.last = a
	ep, err := a.Select(s)
	if err != nil {
		return engine.Outcome{Protocol: engine.HTTP, Err: err}
	}
	s.endpoints = append(s.endpoints, ep.ID)
	return s.answer(a)
}

func (s *script) Discard(*engine.Attempt) { s.discarded++ }

func status(code int) engine.Outcome {
	return engine.Outcome{Protocol: engine.HTTP, Code: code, Sent: true}
}

var errDial = errors.New("connection refused")

func notSent() engine.Outcome { return engine.Outcome{Protocol: engine.HTTP, Err: errDial} }

func (w *world) get(ctx context.Context, s *script, edit ...func(*engine.Call)) (*engine.Call, *engine.Refusal) {
	c := &engine.Call{Protocol: engine.HTTP, Method: "GET", Idempotent: true, Replayable: true,
		Request: routing.Request{Method: "GET", Path: "/items"}}
	for _, e := range edit {
		e(c)
	}
	return c, w.service.Do(ctx, c, s)
}

func post(c *engine.Call) { c.Method, c.Request.Method, c.Idempotent = "POST", "POST", false }

func within(t *testing.T, what string, got, lo, hi time.Duration) {
	t.Helper()
	if got < lo || got > hi {
		t.Errorf("%s took %s, want %s to %s", what, got, lo, hi)
	}
}
