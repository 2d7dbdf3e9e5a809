// Package telemetry holds the words in which Weft reports what it does: an [Observer] is told of every settled
// attempt and every finished call, a [Tracer] carries spans along, and a [Decision] is the record of why a call
// went where it went.
//
// Observers are bound when a plan is compiled: [Observer.Bind] gets all that is constant for a service, so that
// the [Recorder] it returns can hold ready cells and record without allocating.
//
// telemetry/prom and telemetry/otel implement these interfaces over Prometheus and OpenTelemetry.
package telemetry

import (
	"context"
	"time"
)

// Direction says on which side of a call an event was seen.
type Direction string

// The directions.
const (
	Outbound Direction = "outbound" // at the caller
	Inbound  Direction = "inbound"  // at the callee
)

// Protocol is "grpc" or "http".
type Protocol string

// The protocols.
const (
	GRPC Protocol = "grpc"
	HTTP Protocol = "http"
)

// Binding is what all events of one [Recorder] have in common.
type Binding struct {
	Direction Direction
	Protocol  Protocol
	Caller    string // full name of the calling service; "" if unknown
	Service   string // full name of the callee, "product.shop"
}

// Observer makes recorders. Bind is called for each service when its plan is first compiled, never on the path of
// a call; equal bindings may be bound more than once and must then count into the same cells.
type Observer interface {
	Bind(Binding) Recorder
}

// Recorder is told of events. Its methods are on the path of every call: they must not block, and must not keep
// the event, whose memory belongs to the call.
type Recorder interface {
	// Attempt is called exactly once for each attempt that chose an endpoint, when it has settled.
	Attempt(*AttemptEvent)
	// Call is called exactly once for each call, when it has finished or was refused.
	Call(*CallEvent)
}

// Class is a verdict on an outcome.
type Class uint8

// The classes.
const (
	Success   Class = iota // the server did its job, also by saying that the request was wrong
	Failure                // the server, or the way to it, failed
	Ignorable              // says nothing about the server: cancelled by the caller, refused by a limit, never sent
)

// String gives "success", "failure" or "ignorable".
func (c Class) String() string {
	switch c {
	case Success:
		return "success"
	case Failure:
		return "failure"
	default:
		return "ignorable"
	}
}

// AttemptEvent is one settled try of a call on one endpoint.
type AttemptEvent struct {
	Method   string // full gRPC method, or the HTTP method
	Endpoint string // instance id
	Address  string
	Subset   string
	Number   int // from 1
	Code     int // gRPC code, or HTTP status; 0 on HTTP: no response
	Class    Class
	Latency  time.Duration // to the response header on HTTP, to the end on unary gRPC, to the creation of gRPC streams
}

// CallEvent is one finished call.
type CallEvent struct {
	Method   string
	Code     int
	Class    Class
	Reason   string        // why it was refused or given up by Weft; "" otherwise
	Attempts int           // 0: refused before the first
	Duration time.Duration // from the start of the call until it settled, bodies and streams included
}

// Observers tells several observers.
func Observers(list ...Observer) Observer { return observers(list) }

type observers []Observer

func (o observers) Bind(b Binding) Recorder {
	rs := make(recorders, 0, len(o))
	for _, obs := range o {
		rs = append(rs, obs.Bind(b))
	}
	return rs
}

type recorders []Recorder

func (r recorders) Attempt(e *AttemptEvent) {
	for _, rec := range r {
		rec.Attempt(e)
	}
}

func (r recorders) Call(e *CallEvent) {
	for _, rec := range r {
		rec.Call(e)
	}
}

// SpanKind says what a span stands for.
type SpanKind uint8

// The kinds.
const (
	CallSpan    SpanKind = iota // an outbound call with all its attempts
	AttemptSpan                 // one attempt, child of its call
	ServerSpan                  // an inbound call
)

// SpanStart describes a span that begins.
type SpanStart struct {
	Kind     SpanKind
	Protocol Protocol
	Service  string // callee
	Method   string // full gRPC method, or the HTTP method
	Path     string // HTTP path; "" on gRPC
	Attempt  int    // number of the attempt, for AttemptSpan
	Time     time.Time
}

// SpanEnd describes how it ended.
type SpanEnd struct {
	Code     int
	Class    Class
	Err      error
	Reason   string
	Endpoint string // instance id, for AttemptSpan
	Address  string
	Attempts int // for CallSpan
}

// Tracer carries spans across calls. A nil Tracer means no tracing; then nothing of it costs anything.
type Tracer interface {
	// Start begins a span as a child of the one in ctx and returns a context that holds it.
	Start(ctx context.Context, s SpanStart) (context.Context, Span)
	// Inject writes what carries the span in ctx to the other side.
	Inject(ctx context.Context, c Carrier)
	// Extract returns a context with the remote span that c carries, or ctx itself.
	Extract(ctx context.Context, c Carrier) context.Context
}

// Span is a span under way.
type Span interface {
	// End ends the span. It is called exactly once.
	End(SpanEnd)
}

// Carrier is a set of headers or metadata.
type Carrier interface {
	Get(key string) string
	Set(key, value string)
	Keys() []string
}
