package weft

import (
	"context"
	"errors"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/callerr"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/telemetry"
)

// The words of discovery that every program needs.
type (
	// Instance is one listener of one running copy of a service.
	Instance = discovery.Instance
	// Protocol is what an instance speaks.
	Protocol = discovery.Protocol
)

// The protocols.
const (
	GRPC = discovery.GRPC
	HTTP = discovery.HTTP
)

// Error is what a caller gets when Weft refused a call or gave up on it. Its text is an explanation on one line: service,
// reason, rule@revision, and each attempt's endpoint and fate. Find it with errors.As.
type Error = callerr.Error

// Reason says why; see the constants.
type Reason = callerr.Reason

// The reasons of an [Error].
const (
	NoInstance       = Reason(engine.NoInstance)       // there is no instance that could be called
	DeadlineTooShort = Reason(engine.DeadlineTooShort) // the deadline had passed before the call began, or before its next attempt
	Canceled         = Reason(engine.Canceled)         // the caller gave up between two attempts
	Timeout          = Reason(engine.Timeout)          // a timeout of a rule ended the call
	AttemptsFailed   = Reason(engine.AttemptsFailed)   // every attempt failed without an answer
	Closed           = Reason(engine.Closed)           // the mesh was closed
	Misused          = Reason(engine.Misused)          // the call or the options were used in a way that cannot work
)

// IsLocal reports whether err says that Weft refused the call, so that nothing of it can have reached a server.
func IsLocal(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Local
}

// The input and output of a classifier; see [WithClassifier].
type (
	// Outcome is what came of one attempt.
	Outcome = engine.Outcome
	// Verdict is what it means.
	Verdict = engine.Verdict
	// Classifier judges outcomes.
	Classifier = engine.Classifier
)

// ClassifyGRPC is the default classifier of gRPC: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS are
// failures of the server, CANCELLED and RESOURCE_EXHAUSTED say nothing about it, all else is success.
func ClassifyGRPC(o Outcome) Verdict { return engine.ClassifyGRPC(o) }

// ClassifyHTTP is the default classifier of HTTP: no response and 5xx are failures of the server, 429 says nothing about
// it, all else is success.
func ClassifyHTTP(o Outcome) Verdict { return engine.ClassifyHTTP(o) }

// CallOption is an option of the calls made with a context.
type CallOption func(*engine.Values)

// With returns a context whose calls have the options.
func With(ctx context.Context, options ...CallOption) context.Context {
	v := engine.ValuesFrom(ctx)
	for _, o := range options {
		o(&v)
	}
	return engine.WithValues(ctx, v)
}

// Idempotent says that the call may be made twice, so that it is retried like a GET, unless a Retry rule says
// idempotent: false for it.
func Idempotent() CallOption {
	yes := true
	return func(v *engine.Values) { v.Idempotent = &yes }
}

// NotIdempotent says that the call must not be made twice, whatever its method promises.
func NotIdempotent() CallOption {
	no := false
	return func(v *engine.Values) { v.Idempotent = &no }
}

// CriticalityClass is how much a call matters when there is not room for all. It travels with the call and what the
// callee calls for it.
type CriticalityClass = engine.Criticality

// The classes, ascending. A call without one counts as critical.
const (
	Sheddable     = engine.Sheddable
	SheddablePlus = engine.SheddablePlus
	Critical      = engine.Critical
	CriticalPlus  = engine.CriticalPlus
)

// Criticality sets the class of the call.
func Criticality(c CriticalityClass) CallOption {
	return func(v *engine.Values) { v.Criticality = c }
}

// Decision is the record of one call: which rule matched, where it could go and went, and how each attempt fared.
type Decision = telemetry.Decision

// Record fills d with the record of the next call made with the context. d may be read once the call is over, which for
// a response with a body is when the body was read or closed. Use a context with Record for one call only.
func Record(d *Decision) CallOption {
	return func(v *engine.Values) { v.Record = d }
}
