// Package otel makes OpenTelemetry spans of calls and attempts and carries W3C trace context and baggage along.
// [Tracer] implements [telemetry.Tracer]; a mesh makes one of the provider it is given:
//
//	m, err := weft.New(weft.WithTracerProvider(provider))
//
// A call gives one span, each of its attempts a child of it, and the callee's span is a child of the attempt that
// reached it:
//
//	shop.Stock/Get             client    weft.attempts=2
//	├─ shop.Stock/Get          client    weft.attempt=1 weft.endpoint=stock-1, UNAVAILABLE
//	└─ shop.Stock/Get          client    weft.attempt=2 weft.endpoint=stock-2
//	   └─ shop.Stock/Get       server    in the other process
//
// Attempts are of kind client, as the conventions want it of what goes over the network: whoever pairs client with
// server spans, as service graphs do, finds a pair for each attempt that arrived. To count what the application
// asked for, take the client spans without weft.attempt.
//
// Names and attributes are those of the semantic conventions 1.43 (rpc.*, http.*, server.address, network.peer.*,
// error.type), besides weft.service, weft.attempts on calls, weft.endpoint and weft.attempt on attempts, and
// weft.reason where Weft refused or gave up a call. They are made only for spans that are recorded; samplers therefore
// see the name and the kind of a span, and its parent. The attempts of a call that is not recorded have no spans.
//
// The package needs the API of OpenTelemetry alone; the program chooses the SDK.
package otel

import (
	"context"

	"go.opentelemetry.io/otel/propagation"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/weftmesh/weft/telemetry"
)

const scope = "github.com/weftmesh/weft/telemetry/otel"

// Tracer is a [telemetry.Tracer]. It is safe for concurrent use.
type Tracer struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
}

// New makes a tracer whose spans come from tp. With nil there are no spans, and what comes in is carried along. The
// propagators are the tracer's own; the global ones are neither read nor set.
func New(tp trace.TracerProvider) *Tracer {
	if tp == nil {
		tp = noop.NewTracerProvider()
	}
	return &Tracer{
		tracer:     tp.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL)),
		propagator: propagation.NewCompositeTextMapPropagator(propagation.TraceContext{}, propagation.Baggage{}),
	}
}

// Start implements [telemetry.Tracer].
func (t *Tracer) Start(ctx context.Context, s telemetry.SpanStart) (context.Context, telemetry.Span) {
	if s.Kind == telemetry.AttemptSpan && !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, unrecorded{}
	}
	ctx, sp := t.tracer.Start(ctx, name(&s), trace.WithSpanKind(kind(s.Kind)), trace.WithTimestamp(s.Time))
	if !sp.IsRecording() {
		return ctx, unrecorded{}
	}
	sp.SetAttributes(startAttributes(&s)...)
	return ctx, &span{span: sp, kind: s.Kind, protocol: s.Protocol}
}

func kind(k telemetry.SpanKind) trace.SpanKind {
	if k == telemetry.ServerSpan {
		return trace.SpanKindServer
	}
	return trace.SpanKindClient
}

// Inject implements [telemetry.Tracer]: it sets traceparent, tracestate and baggage, as far as ctx has them.
func (t *Tracer) Inject(ctx context.Context, c telemetry.Carrier) { t.propagator.Inject(ctx, c) }

// Extract implements [telemetry.Tracer]. What cannot be read counts as absent.
func (t *Tracer) Extract(ctx context.Context, c telemetry.Carrier) context.Context {
	return t.propagator.Extract(ctx, c)
}

// unrecorded stands for a span that nobody will see.
type unrecorded struct{}

// End implements [telemetry.Span].
func (unrecorded) End(telemetry.SpanEnd) {}
