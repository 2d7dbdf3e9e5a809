package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/resilience/outlier"
	"github.com/weftmesh/weft/telemetry"
)

// Attempt is one try of a call on one endpoint. It is also the context the try runs in.
type Attempt struct {
	call   *Call
	number int
	delay  time.Duration
	parent context.Context // the call's, with the attempt's span and its per-try timeout
	cancel context.CancelFunc
	span   telemetry.Span

	pick     balancer.Pick
	ready    Readiness
	strict   strictness
	endpoint *balancer.Endpoint
	host     *outlier.Host
	refusal  *Refusal

	start     time.Time // of the attempt, later of its last Select
	settledAt time.Time // when Try returned, later when it settled
	settled   atomic.Bool
	last      bool // its end is the end of the call
	asked     bool // Select was called
	opened    atomic.Bool
	compared  []balancer.Candidate
	refused   []string               // why, for each of compared
	event     telemetry.AttemptEvent // what the observers get, here to save an allocation
}

func (a *Attempt) begin(c *Call, number int, delay time.Duration) {
	a.call, a.number, a.delay, a.parent = c, number, delay, c.ctx
	a.start = c.start
	if number > 1 {
		a.start = c.engine().now()
	}
	a.limit()
	if t := c.engine().tracer; t != nil {
		a.parent, a.span = t.Start(a.parent, telemetry.SpanStart{Kind: telemetry.AttemptSpan, Protocol: telemetry.Protocol(c.Protocol.String()),
			Service: c.service.Name, Method: c.Method, Path: c.Request.Path, Attempt: number, Time: a.start})
	}
	a.pick = balancer.Pick{Now: a.start, Rand: &c.rand, Filter: (*filter)(a)}
	if c.values.Record != nil {
		a.pick.Record = &a.compared
	}
}

// limit sets the per-try timeout, if it is tighter than what the call has left.
func (a *Attempt) limit() {
	timeout := a.call.retry.PerTryTimeout
	if timeout == 0 || a.call.Stream {
		return
	}
	deadline := a.start.Add(timeout)
	if d, ok := a.parent.Deadline(); ok && !deadline.Before(d) {
		return
	}
	a.parent, a.cancel = context.WithDeadline(a.parent, deadline)
}

// timedOut reports whether the per-try timeout ended the attempt while the call goes on.
func (a *Attempt) timedOut(out *Outcome) bool {
	return a.cancel != nil && expired(a.parent, out, a.settledAt) && a.call.ctx.Err() == nil
}

func (a *Attempt) deadline() time.Time {
	d, _ := a.parent.Deadline()
	return d
}

// Number counts the attempts of a call from 1.
func (a *Attempt) Number() int { return a.number }

// Endpoint is what the last Select chose; nil before.
func (a *Attempt) Endpoint() *balancer.Endpoint { return a.endpoint }

// Call is the call the attempt belongs to.
func (a *Attempt) Call() *Call { return a.call }

// Context is the context to send in.
func (a *Attempt) Context() context.Context { return (*attemptContext)(a) }

// attemptContext lets one allocation be call, attempt and context.
type attemptContext Attempt

func (c *attemptContext) Deadline() (time.Time, bool) { return c.parent.Deadline() }
func (c *attemptContext) Done() <-chan struct{}       { return c.parent.Done() }
func (c *attemptContext) Err() error                  { return c.parent.Err() }

func (c *attemptContext) Value(key any) any {
	if key == (valuesKey{}) { // a call made on the way (a token, say) is not the one that the options were meant for
		return &Values{Criticality: c.call.values.Criticality, Retried: c.call.values.Retried}
	}
	return c.parent.Value(key)
}

// try lets a panic of the application's code (an interceptor, GetBody) pass, but gives the endpoint back.
func (a *Attempt) try(t Transport) Outcome {
	returned := false
	defer func() {
		if !returned {
			out := Outcome{Protocol: a.call.Protocol, Err: errPanicked, Misused: true}
			a.answered()
			a.last = true
			a.settle(&out, a.call.judge(&out))
			a.over()
		}
	}()
	out := t.Try(a)
	returned = true
	return out
}

var errPanicked = errors.New("the application's own code panicked")

// answered notes the time at which Try returned.
func (a *Attempt) answered() { a.settledAt = a.call.engine().now() }

// Settle ends an attempt whose Outcome was Open: the body was read or closed, the stream ended. Only the first
// Settle of an attempt counts. It may be called from any goroutine.
func (a *Attempt) Settle(out Outcome) {
	if a.settled.Load() {
		return
	}
	a.settle(&out, a.call.judge(&out))
	a.over()
}

// over frees the attempt's timer. It ends the attempt's context, hence comes last: net/http drops the connection of a
// response whose context ends before its body was read.
func (a *Attempt) over() {
	if a.cancel != nil {
		a.cancel()
	}
}

func (a *Attempt) settle(out *Outcome, v Verdict) {
	if !a.settled.CompareAndSwap(false, true) {
		return
	}
	c := a.call
	latency := max(a.settledAt.Sub(a.start), 0) // a transparent retry of grpc selects again after Try has returned
	if a.endpoint != nil {
		a.learn(out, v, latency, a.end(out))
	}
	if a.endpoint != nil && (v.Class == telemetry.Failure || out.Err != nil) {
		c.fates = append(c.fates, Fate{Endpoint: a.endpoint.ID, Address: a.endpoint.Address, Code: out.Code, Sent: out.Sent,
			Err: out.Err, Latency: latency})
	}
	if c.values.Record != nil {
		a.recordFate(out, v, latency)
	}
	if a.span != nil {
		a.span.End(a.spanEnd(out, v))
	}
	if a.last {
		c.finish(a.end(out), out.Code, v.Class, out.Err)
	}
}

// end is when the call is over: now for a body or a stream, which settle late; else when Try returned.
func (a *Attempt) end(out *Outcome) time.Time {
	if out.Open {
		return a.call.engine().now()
	}
	return a.settledAt
}

// Opened tells outlier detection that the server has answered on a stream, before the stream has ended: it may live for
// days, and one that probes an ejected host must not keep it out for so long. Only the first Opened counts.
func (a *Attempt) Opened() {
	if a.host != nil && a.opened.CompareAndSwap(false, true) {
		a.host.Record(a.call.engine().now(), true)
	}
}

// learn tells the endpoint, its outlier host and the observers.
func (a *Attempt) learn(out *Outcome, v Verdict, latency time.Duration, end time.Time) {
	c := a.call
	failed := v.Class == telemetry.Failure
	result := balancer.Result{Now: end, Latency: latency, Err: failed, Ignore: v.Class == telemetry.Ignorable || c.Stream && !failed}
	a.endpoint.Done(result)
	switch {
	case a.host == nil:
	case v.Class == telemetry.Ignorable:
		a.host.Release(end)
	case failed || !a.opened.Load():
		a.host.Record(end, !failed)
	}
	a.event = telemetry.AttemptEvent{Method: c.Method, Endpoint: a.endpoint.ID, Address: a.endpoint.Address, Subset: c.route.Subset,
		Number: a.number, Code: out.Code, Class: v.Class, Latency: latency}
	c.plan.Protocols[c.Protocol].Recorder.Attempt(&a.event)
}

func (a *Attempt) spanEnd(out *Outcome, v Verdict) telemetry.SpanEnd {
	e := telemetry.SpanEnd{Code: out.Code, Class: v.Class, Err: out.Err}
	if a.endpoint != nil {
		e.Endpoint, e.Address = a.endpoint.ID, a.endpoint.Address
	}
	return e
}
