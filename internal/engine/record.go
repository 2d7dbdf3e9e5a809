package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/weftmesh/weft/telemetry"
)

// recordPlan writes what adopting a plan decided.
func (c *Call) recordPlan(d *telemetry.Decision, replanned bool) {
	r := &c.route
	d.Service, d.Revision = c.plan.Service, c.plan.Revision
	moved := d.Route.Replanned
	if replanned {
		moved++
	}
	d.Route = telemetry.RouteDecision{Rule: c.plan.RouteRule, Index: r.Rule, Subset: r.Subset, Bucket: r.Bucket,
		NoStickyValue: r.NoStickyValue, Substituted: r.Substituted, Timeout: r.Timeout, Replanned: moved}
	d.Retry = telemetry.RetryDecision{Rule: c.plan.RetryRule, Attempts: c.retry.Attempts,
		Idempotent: c.repeatable, Replayable: c.Replayable}
}

// recordFate writes what became of an attempt.
func (a *Attempt) recordFate(out *Outcome, v Verdict, latency time.Duration) {
	rec := telemetry.AttemptDecision{Number: a.number, Code: out.Code, Class: v.Class.String(), Sent: out.Sent,
		Delay: a.delay, Latency: latency}
	if a.endpoint != nil {
		rec.Endpoint, rec.Address = a.endpoint.ID, a.endpoint.Address
	}
	if out.Err != nil {
		rec.Error = out.Err.Error()
	}
	for i, cand := range a.compared {
		rec.Compared = append(rec.Compared, telemetry.CandidateDecision{Endpoint: cand.Endpoint.ID, Cost: cand.Cost, Removed: a.refused[i]})
	}
	d := a.call.values.Record
	d.Attempts = append(d.Attempts, rec)
}

// emptiness says why a destination has no endpoint at all.
func (c *Call) emptiness() error {
	if len(c.plan.Protocols[c.Protocol].Endpoints) == 0 {
		for p := range NumProtocols {
			if p != c.Protocol && len(c.plan.Protocols[p].Endpoints) > 0 {
				return fmt.Errorf("it has no %s instance, only %s ones", c.Protocol, p)
			}
		}
		return errors.New("it has no instance")
	}
	return fmt.Errorf("subset %q has no instance", c.route.Subset)
}
