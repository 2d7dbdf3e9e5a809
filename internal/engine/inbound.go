package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/telemetry"
)

// Inbound is the callee's side of a process.
type Inbound struct {
	engine    *Engine
	recorders [NumProtocols]telemetry.Recorder
	inFlight  atomic.Int64
}

// InFlight counts the calls that have begun and not ended.
func (in *Inbound) InFlight() int64 { return in.inFlight.Load() }

// NewInbound returns the callee's side. The recorders are told of every inbound call; nil ones are not.
func (e *Engine) NewInbound(recorders [NumProtocols]telemetry.Recorder) *Inbound {
	return &Inbound{engine: e, recorders: recorders}
}

// Request is an inbound call as its adapter sees it.
type Request struct {
	Protocol Protocol
	Method   string // the full gRPC method, or the HTTP method
	Path     string // HTTP path
	Service  string // full name of the process's own service
	Header   telemetry.Carrier
}

// Served is an inbound call under way. It is ended exactly once.
type Served struct {
	Context context.Context // for the handler: with deadline, trace and values

	in      *Inbound
	req     Request
	start   time.Time
	cancel  context.CancelFunc
	span    telemetry.Span
	refused Reason
	ended   atomic.Bool
	event   telemetry.CallEvent // what the observer gets, here to save an allocation
}

var errLate = errors.New("the caller's deadline had passed when the call arrived")

// Begin takes an inbound call through the phases before its handler. With a Refusal the adapter answers it in its
// protocol and says End; else it runs the handler with s.Context and then says End.
func (in *Inbound) Begin(ctx context.Context, req Request) (s *Served, refusal *Refusal) {
	in.inFlight.Add(1)
	s = &Served{Context: ctx, in: in, req: req, start: in.engine.now()}
	values, deadline := readWire(req.Protocol, req.Header, s.start)
	if values != (Values{}) || ctx.Value(valuesKey{}) != nil {
		s.Context = WithValues(ctx, values)
	}
	if !deadline.IsZero() {
		s.Context, s.cancel = context.WithDeadline(s.Context, deadline)
	}
	if t := in.engine.tracer; t != nil {
		s.Context = t.Extract(s.Context, req.Header)
		s.Context, s.span = t.Start(s.Context, telemetry.SpanStart{Kind: telemetry.ServerSpan, Protocol: telemetry.Protocol(req.Protocol.String()),
			Service: req.Service, Method: req.Method, Path: req.Path, Time: s.start})
	}
	if d, ok := s.Context.Deadline(); ok && !d.After(s.start) {
		s.refused = DeadlineTooShort
		return s, &Refusal{Reason: DeadlineTooShort, Err: errLate}
	}
	return s, nil
}

// End reports the call. Only the first End counts.
func (s *Served) End(out Outcome) {
	if !s.ended.CompareAndSwap(false, true) {
		return
	}
	s.in.inFlight.Add(-1)
	v := s.in.engine.classify[s.req.Protocol](out)
	if r := s.in.recorders[s.req.Protocol]; r != nil {
		s.event = telemetry.CallEvent{Method: s.req.Method, Code: out.Code, Class: v.Class, Reason: string(s.refused),
			Attempts: 1, Duration: s.in.engine.now().Sub(s.start)}
		r.Call(&s.event)
	}
	if s.span != nil {
		s.span.End(telemetry.SpanEnd{Code: out.Code, Class: v.Class, Err: out.Err, Reason: string(s.refused)})
	}
	if s.cancel != nil {
		s.cancel()
	}
}
