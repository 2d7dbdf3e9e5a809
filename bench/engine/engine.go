// Package engine measures Weft's engine alone: one call through plan, route, loop, select and settle, with a transport
// that sends nothing. It is the part of a call's cost that is neither grpc's nor net/http's.
package engine

import (
	"context"
	"fmt"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/bench/measure"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/internal/plan"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/rule"
	"github.com/weftmesh/weft/telemetry"
)

// Rules are a Route that matches by path and header, splits in two and keeps users in their place, and a Retry.
const Rules = `
kind: Route
namespace: default
name: product-split
service: product
spec:
  subsets:
    v1: {version: v1}
    v2: {version: v2}
  rules:
    - match: [{headers: {x-tester: {exact: "yes"}}}]
      split: [{subset: v2}]
    - match: [{path: {prefix: /}}]
      split: [{subset: v1, weight: 50}, {subset: v2, weight: 50}]
      stickyBy: {header: x-user-id}
---
kind: Retry
namespace: default
name: product-retry
service: product
spec:
  attempts: 3
`

// endpoints is how many there are: enough that goroutines rarely meet at one, as in a service that needs a balancer.
const endpoints = 10

// Case is a call through the engine with these rules and this observer (nil: none).
func Case(name string, rules []rule.Rule, observer telemetry.Observer) (measure.Case, error) {
	service, err := service(rules, observer)
	if err != nil {
		return measure.Case{}, fmt.Errorf("%s: %w", name, err)
	}
	ctx := context.Background()
	return measure.Case{Name: name, Work: measure.Always(func() error {
		x := &call{}
		x.Protocol, x.Method, x.Idempotent, x.Replayable = engine.GRPC, "/bench.Service/Get", true, true
		x.Request = routing.Request{Path: x.Method, Method: "POST", Attributes: x}
		if r := service.Do(ctx, &x.Call, x); r != nil {
			return r
		}
		return nil
	})}, nil
}

// Cases are a call without rules and one with [Rules].
func Cases() ([]measure.Case, error) {
	bare, err := Case("engine", nil, nil)
	if err != nil {
		return nil, err
	}
	rules, err := rule.Parse([]byte(Rules))
	if err != nil {
		return nil, err
	}
	ruled, err := Case("engine-rules", rules, nil)
	return []measure.Case{bare, ruled}, err
}

// service is a callee with a plan, made as in a process.
func service(rules []rule.Rule, observer telemetry.Observer) (*engine.Service, error) {
	name := discovery.Name{Service: "product", Namespace: discovery.DefaultNamespace}
	var view discovery.View
	for i := range endpoints {
		address := fmt.Sprintf("10.0.0.%d:80", i+1)
		view.Instances = append(view.Instances, discovery.Instance{ID: address, Service: name.Service, Namespace: name.Namespace,
			Address: address, Protocol: discovery.GRPC, Labels: map[string]string{"version": fmt.Sprintf("v%d", i%2+1)}})
	}
	p, nacks := plan.NewBuilder(plan.Config{Observer: observer}, name).Build(view, rules)
	if p == nil || len(nacks) > 0 {
		return nil, fmt.Errorf("the plan could not be made: %v", nacks)
	}
	s := engine.New(engine.Config{}).NewService(name.String())
	s.Publish(p)
	return s, nil
}

// call is a call and its transport in one, as the adapters have it.
type call struct{ engine.Call }

// users holds the values of the sticky header.
var users = []string{"user-1"}

// Header implements routing.Attributes.
func (*call) Header(name string) []string {
	if name == "x-user-id" {
		return users
	}
	return nil
}

// Query implements routing.Attributes.
func (*call) Query(string) []string { return nil }

// Ready implements engine.Readiness: every endpoint has a connection.
func (*call) Ready(*balancer.Endpoint) engine.Ready { return engine.Connected }

// Try implements engine.Transport. The answer comes at once.
func (c *call) Try(a *engine.Attempt) engine.Outcome {
	if _, err := a.Select(c); err != nil {
		return engine.Outcome{Err: err}
	}
	return engine.Outcome{Sent: true}
}

// Discard implements engine.Transport.
func (*call) Discard(*engine.Attempt) {}
