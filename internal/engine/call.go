package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/resilience/retry"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

// Transport is the seam between the engine and a protocol: how to try one attempt, and how to drop a loser.
type Transport interface {
	// Try sends the request once. It asks a.Select where to, uses a.Context, and returns what came of it:
	// when all is over on unary gRPC, when the response header is there on HTTP and streams. It keeps the
	// response, of the last Try only, for the application.
	Try(a *Attempt) Outcome
	// Discard drops the response of an attempt that will not be handed to the application: a body is closed,
	// a stream is ended. The attempt has settled.
	Discard(a *Attempt)
}

// Call is one logical request of the application. The adapter fills the exported fields and never changes them
// after Do. A Call is used once.
type Call struct {
	Request    routing.Request // Caller is filled in by the engine
	Protocol   Protocol
	Method     string // for people: the full gRPC method, or the HTTP method
	Idempotent bool   // as the protocol says; rules and contexts may say otherwise
	Replayable bool   // the request can be sent again from its start; Try may correct it before it returns
	Stream     bool   // may live long: no timeout of a rule applies, and its latency says nothing

	service   *Service
	ctx       context.Context // the caller's, with the call's span and total timeout
	cancel    context.CancelFunc
	callerCtx context.Context
	span      telemetry.Span
	values    Values

	plan       *Plan
	retry      *RetryPlan
	route      routing.Result
	repeatable bool // what protocol, program and rule together say of Idempotent
	start      time.Time
	seed       uint64
	rand       balancer.Rand
	attempts   int
	tried      []*balancer.Stats
	triedBuf   [2]*balancer.Stats
	fates      []Fate
	reason     Reason
	stop       retry.Stop
	event      telemetry.CallEvent // what the observers get, here to save an allocation
	first      Attempt
}

// Do runs the call. nil means that the transport holds what the application gets, be it good or bad; a Refusal
// means that the application gets that error instead.
func (s *Service) Do(ctx context.Context, c *Call, t Transport) *Refusal {
	c.begin(ctx, s)
	if err := ctx.Err(); err != nil {
		return c.refuse(&Refusal{Reason: contextReason(err), Err: err})
	}
	plan, err := s.Wait(ctx)
	if err != nil {
		return c.refuse(c.noPlan(err))
	}
	c.adopt(plan)
	c.limit()
	plan.Budget.Deposit(c.start)
	return c.loop(t)
}

func (c *Call) engine() *Engine { return c.service.engine }

func (c *Call) begin(ctx context.Context, s *Service) {
	c.service, c.ctx, c.callerCtx = s, ctx, ctx
	c.values = ValuesFrom(ctx)
	c.start = s.engine.now()
	c.seed = s.engine.seed()
	c.rand = *balancer.NewRand(c.seed)
	c.tried = c.triedBuf[:0]
	if t := s.engine.tracer; t != nil {
		c.ctx, c.span = t.Start(ctx, telemetry.SpanStart{Kind: telemetry.CallSpan, Protocol: telemetry.Protocol(c.Protocol.String()),
			Service: s.Name, Method: c.Method, Path: c.Request.Path, Time: c.start})
	}
	if d := c.values.Record; d != nil {
		*d = telemetry.Decision{Protocol: telemetry.Protocol(c.Protocol.String()), Service: s.Name, Method: c.Method,
			Path: c.Request.Path, Seed: c.seed}
	}
}

// adopt makes plan the one the call follows: its route and its retry policy.
func (c *Call) adopt(plan *Plan) {
	replanned := c.plan != nil
	c.plan = plan
	c.Request.Caller = plan.Caller
	c.retry = plan.retryFor(&c.Request)
	c.repeatable = c.mayRepeat()
	c.route = plan.Protocols[c.Protocol].Router.Route(&c.Request, &c.rand)
	if d := c.values.Record; d != nil {
		c.recordPlan(d, replanned)
	}
}

// mayRepeat asks the protocol, the program, which knows its call better, and the rule, which has the last "no".
func (c *Call) mayRepeat() bool {
	byRule, byProgram := c.retry.Idempotent, c.values.Idempotent
	switch {
	case byRule != nil && (!*byRule || byProgram == nil):
		return *byRule
	case byProgram != nil:
		return *byProgram
	}
	return c.Idempotent
}

// replan moves the call to the newest plan if its own is outdated.
func (c *Call) replan() bool {
	newest := c.service.plan.Load()
	if newest == c.plan {
		return false
	}
	c.adopt(newest)
	return true
}

// limit applies the total timeout of the rules, if it is tighter than the caller's own.
func (c *Call) limit() {
	timeout := c.timeout()
	if timeout == 0 {
		return
	}
	deadline := c.start.Add(timeout)
	if d, ok := c.ctx.Deadline(); ok && !deadline.Before(d) {
		return
	}
	c.ctx, c.cancel = context.WithDeadline(c.ctx, deadline)
}

func (c *Call) timeout() time.Duration {
	switch {
	case c.Stream:
		return 0
	case c.route.Timeout > 0:
		return c.route.Timeout
	default:
		return c.retry.Timeout
	}
}

func (c *Call) loop(t Transport) *Refusal {
	a := &c.first
	var delay time.Duration
	for n := 1; ; n++ {
		a.begin(c, n, delay)
		out := a.try(t)
		a.answered()
		if a.refusal != nil && a.endpoint == nil {
			a.settle(&out, c.judge(&out))
			a.over()
			return c.refuse(a.refusal)
		}
		v := c.judge(&out)
		var again bool
		if delay, again = c.again(a, &out, v); !again {
			return c.handOver(a, &out, v)
		}
		a.settle(&out, v)
		t.Discard(a)
		a.over()
		if err := c.pause(delay); err != nil {
			return c.refuse(c.ended(err))
		}
		a = new(Attempt)
	}
}

func (c *Call) judge(out *Outcome) Verdict {
	if out.Misused {
		return Verdict{Class: telemetry.Ignorable}
	}
	return c.engine().classify[c.Protocol](*out)
}

// again decides whether an attempt is followed by another, and after what pause.
func (c *Call) again(a *Attempt, out *Outcome, v Verdict) (time.Duration, bool) {
	retryable := v.Retryable || c.retry.On.Match(out, a.timedOut(out))
	if out.Misused || (out.Sent || v.Class == telemetry.Success) && !retryable || a.endpoint == nil || c.callerCtx.Err() != nil {
		return 0, false
	}
	state := retry.State{Attempt: a.number, Idempotent: c.repeatable, Replayable: c.Replayable, Remaining: c.remaining(a)}
	failure := retry.Failure{NotSent: !out.Sent, Retryable: retryable, NoRetry: v.NoRetry || c.values.Retried && out.Sent, Pushback: v.Pushback}
	delay, stop := c.retry.Next(a.settledAt, state, failure, c.plan.Budget, &c.rand)
	c.stop = stop
	return delay, stop == ""
}

func (c *Call) remaining(a *Attempt) time.Duration {
	if d, ok := c.ctx.Deadline(); ok {
		return max(d.Sub(a.settledAt), 0)
	}
	return -1
}

// handOver ends the loop: what the transport holds goes to the application, unless there is nothing to hand over.
func (c *Call) handOver(a *Attempt, out *Outcome, v Verdict) *Refusal {
	a.last = true
	r := c.failed(a, out, v)
	if r != nil {
		c.reason, r.Local = r.Reason, !out.Sent && c.unsent(r)
	}
	if r != nil || !out.Open {
		a.settle(out, v)
		a.over()
		return r
	}
	// On gRPC a stream opens before anything came back; its adapter knows when. A probe is over with a good header, as
	// its body may take for ever.
	if c.Protocol == HTTP && v.Class == telemetry.Success && (c.Stream || a.host != nil && a.host.Ejected(a.settledAt)) {
		a.Opened()
	}
	return nil
}

// failed tells whether an attempt that was the last one ended in an error of ours instead of an answer of the server.
func (c *Call) failed(a *Attempt, out *Outcome, v Verdict) *Refusal {
	switch {
	case v.Class == telemetry.Success || out.Err == nil || out.Open || !a.asked:
		return nil
	case c.callerCtx.Err() == nil && c.cancel != nil && expired(c.ctx, out, a.settledAt):
		return c.ended(context.DeadlineExceeded)
	case a.endpoint == nil && a.number == 1:
		return &Refusal{Reason: NoInstance, Err: out.Err}
	case v.Class == telemetry.Ignorable:
		return nil
	case !out.Answered || a.number > 1 || a.timedOut(out):
		return &Refusal{Reason: AttemptsFailed, Rule: c.plan.RetryRule, RetryAfter: v.Pushback, Err: out.Err}
	}
	return nil
}

// expired reports whether the deadline of ctx ended an attempt. Over gRPC the server keeps the same deadline, and its word
// may arrive a moment before our own timer fires.
func expired(ctx context.Context, out *Outcome, at time.Time) bool {
	if ctx.Err() != nil {
		return true
	}
	d, ok := ctx.Deadline()
	return ok && out.Protocol == GRPC && out.Code == grpcDeadlineExceeded && d.Sub(at) < timerSlack
}

// timerSlack is more than two processes differ in when a deadline ends.
const timerSlack = 10 * time.Millisecond

// ended explains a context that ended: the caller's, or the timeout of a rule.
func (c *Call) ended(err error) *Refusal {
	if c.callerCtx.Err() != nil || c.cancel == nil {
		return &Refusal{Reason: contextReason(err), Err: err}
	}
	rule := c.plan.RetryRule
	if c.route.Timeout > 0 {
		rule = c.plan.RouteRule
	}
	return &Refusal{Reason: Timeout, Rule: rule, Err: err}
}

func contextReason(err error) Reason {
	if errors.Is(err, context.DeadlineExceeded) {
		return DeadlineTooShort
	}
	return Canceled
}

func (c *Call) noPlan(err error) *Refusal {
	if errors.Is(c.callerCtx.Err(), context.Canceled) {
		return &Refusal{Reason: Canceled, Err: err}
	}
	return &Refusal{Reason: NoInstance, Err: errNoPlan}
}

var errNoPlan = errors.New("no source has answered yet and nothing is cached: is the registry running?")

// pause waits before a retry, until the call's context ends at the latest.
func (c *Call) pause(d time.Duration) error {
	if d <= 0 {
		return c.ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// refuse ends a call that has no attempt to hand over.
func (c *Call) refuse(r *Refusal) *Refusal {
	c.reason = r.Reason
	r.Local = c.unsent(r)
	c.finish(c.engine().now(), 0, telemetry.Ignorable, r)
	return r
}

// unsent reports whether nothing of the call can have reached a server, given why it ends and what has settled.
func (c *Call) unsent(r *Refusal) bool {
	return r.Reason.Local() && !slices.ContainsFunc(c.fates, func(f Fate) bool { return f.Sent })
}

// finish reports the call, once: by refuse, or when its last attempt settles.
func (c *Call) finish(now time.Time, code int, class telemetry.Class, err error) {
	if rec := c.recorder(); rec != nil {
		c.event = telemetry.CallEvent{Method: c.Method, Code: code, Class: class, Reason: string(c.reason), Attempts: c.attempts,
			Duration: now.Sub(c.start)}
		rec.Call(&c.event)
	}
	if d := c.values.Record; d != nil {
		d.Reason, d.Code, d.Class, d.Duration, d.Retry.Stop = string(c.reason), code, class.String(), now.Sub(c.start), string(c.stop)
	}
	if c.span != nil {
		c.span.End(telemetry.SpanEnd{Code: code, Class: class, Err: err, Reason: string(c.reason), Attempts: c.attempts})
	}
	if c.cancel != nil {
		c.cancel()
	}
}

// recorder is who is told of the call, nil if nobody is.
func (c *Call) recorder() telemetry.Recorder {
	if c.plan != nil {
		return c.plan.Protocols[c.Protocol].Recorder
	}
	return c.service.Recorders[c.Protocol]
}

// Dialled gives the name that the call began with. A short name may stand for a service of another name; see Service.
func (c *Call) Dialled() string { return c.service.Name }

// Service gives the full name of the callee.
func (c *Call) Service() string {
	if c.plan != nil {
		return c.plan.Service // what a short name stands for
	}
	return c.service.Name
}

// Fates tells what became of each failed attempt that had chosen an endpoint.
func (c *Call) Fates() []Fate { return c.fates }
