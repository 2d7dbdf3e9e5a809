package otel

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/weftmesh/weft/telemetry"
)

type carrier map[string]string

func (c carrier) Get(key string) string { return c[key] }
func (c carrier) Set(key, value string) { c[key] = value }
func (c carrier) Keys() []string        { return slices.Collect(maps.Keys(c)) }

const (
	grpc = telemetry.GRPC
	http = telemetry.HTTP
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// shown is what a person would look at in a span.
type shown struct {
	Name   string
	Kind   trace.SpanKind
	Attrs  map[string]any
	Status codes.Code
	Text   string
}

func show(s tracetest.SpanStub) shown {
	attrs := map[string]any{}
	for _, a := range s.Attributes {
		attrs[string(a.Key)] = a.Value.AsInterface()
	}
	return shown{s.Name, s.SpanKind, attrs, s.Status.Code, s.Status.Description}
}

func TestSpans(t *testing.T) {
	reset := errors.New("connection reset")
	call, attempt, server := telemetry.CallSpan, telemetry.AttemptSpan, telemetry.ServerSpan
	type attrs = map[string]any
	for name, c := range map[string]struct {
		start telemetry.SpanStart
		end   telemetry.SpanEnd
		want  shown
	}{
		"gRPC call": {
			telemetry.SpanStart{Kind: call, Protocol: grpc, Service: "stock.shop", Method: "/shop.Stock/Get"},
			telemetry.SpanEnd{Attempts: 1},
			shown{"shop.Stock/Get", trace.SpanKindClient, attrs{"server.address": "stock.shop", "weft.service": "stock.shop",
				"rpc.system.name": "grpc", "rpc.method": "shop.Stock/Get", "rpc.response.status_code": "OK", "weft.attempts": int64(1)}, codes.Unset, ""},
		},
		"gRPC call refused": {
			telemetry.SpanStart{Kind: call, Protocol: grpc, Service: "stock.shop", Method: "/shop.Stock/Get"},
			telemetry.SpanEnd{Class: telemetry.Ignorable, Reason: "NoInstance"},
			shown{"shop.Stock/Get", trace.SpanKindClient, attrs{"server.address": "stock.shop", "weft.service": "stock.shop",
				"rpc.system.name": "grpc", "rpc.method": "shop.Stock/Get", "weft.attempts": int64(0), "weft.reason": "NoInstance",
				"error.type": "NoInstance"}, codes.Error, "NoInstance"},
		},
		"gRPC attempt failed": {
			telemetry.SpanStart{Kind: attempt, Protocol: grpc, Service: "stock.shop", Method: "/shop.Stock/Get", Attempt: 1},
			telemetry.SpanEnd{Code: 14, Class: telemetry.Failure, Err: reset, Endpoint: "a", Address: "10.0.0.7:8080"},
			shown{"shop.Stock/Get", trace.SpanKindClient, attrs{"server.address": "stock.shop", "weft.service": "stock.shop",
				"rpc.system.name": "grpc", "rpc.method": "shop.Stock/Get", "rpc.response.status_code": "UNAVAILABLE",
				"weft.attempt": int64(1), "weft.endpoint": "a", "network.peer.address": "10.0.0.7", "network.peer.port": int64(8080),
				"error.type": "UNAVAILABLE"}, codes.Error, "connection reset"},
		},
		"HTTP attempt without response": {
			telemetry.SpanStart{Kind: attempt, Protocol: http, Service: "stock.shop", Method: "GET", Path: "/items", Attempt: 2},
			telemetry.SpanEnd{Class: telemetry.Failure, Err: reset, Endpoint: "a", Address: "not an address"},
			shown{"GET", trace.SpanKindClient, attrs{"server.address": "stock.shop", "weft.service": "stock.shop",
				"http.request.method": "GET", "url.path": "/items", "http.request.resend_count": int64(1), "weft.attempt": int64(2),
				"weft.endpoint": "a", "error.type": "*errors.errorString"}, codes.Error, "connection reset"},
		},
		"HTTP attempt cancelled": {
			telemetry.SpanStart{Kind: attempt, Protocol: http, Method: "GET", Attempt: 1},
			telemetry.SpanEnd{Class: telemetry.Ignorable, Err: context.Canceled},
			shown{"GET", trace.SpanKindClient, attrs{"http.request.method": "GET", "weft.attempt": int64(1)}, codes.Unset, ""},
		},
		"HTTP server answers 404": {
			telemetry.SpanStart{Kind: server, Protocol: http, Service: "web.shop", Method: "GET", Path: "/x"},
			telemetry.SpanEnd{Code: 404},
			shown{"GET", trace.SpanKindServer, attrs{"server.address": "web.shop", "weft.service": "web.shop",
				"http.request.method": "GET", "url.path": "/x", "http.response.status_code": int64(404)}, codes.Unset, ""},
		},
		"HTTP server answers 404, which a classifier blames on it": {
			telemetry.SpanStart{Kind: server, Protocol: http, Method: "GET"},
			telemetry.SpanEnd{Code: 404, Class: telemetry.Failure},
			shown{"GET", trace.SpanKindServer, attrs{"http.request.method": "GET", "http.response.status_code": int64(404)}, codes.Unset, ""},
		},
		"HTTP server answers 500 to an odd verb": {
			telemetry.SpanStart{Kind: server, Protocol: http, Method: "BREW"},
			telemetry.SpanEnd{Code: 500, Class: telemetry.Failure},
			shown{"HTTP", trace.SpanKindServer, attrs{"http.request.method": "_OTHER", "http.request.method_original": "BREW",
				"http.response.status_code": int64(500), "error.type": "500"}, codes.Error, ""},
		},
		"gRPC server answers INTERNAL": {
			telemetry.SpanStart{Kind: server, Protocol: grpc, Method: "/m"},
			telemetry.SpanEnd{Code: 13, Class: telemetry.Failure},
			shown{"m", trace.SpanKindServer, attrs{"rpc.system.name": "grpc", "rpc.method": "m", "rpc.response.status_code": "INTERNAL",
				"error.type": "INTERNAL"}, codes.Error, ""},
		},
		"gRPC server answers a code of its own": {
			telemetry.SpanStart{Kind: server, Protocol: grpc, Method: "/m"},
			telemetry.SpanEnd{Code: 99, Class: telemetry.Failure},
			shown{"m", trace.SpanKindServer, attrs{"rpc.system.name": "grpc", "rpc.method": "m", "rpc.response.status_code": "99"}, codes.Unset, ""},
		},
	} {
		t.Run(name, func(t *testing.T) {
			tracer, exporter := record(t)
			ctx, parent := tracer.tracer.Start(t.Context(), "parent")
			c.start.Time = start
			_, s := tracer.Start(ctx, c.start)
			s.End(c.end)
			parent.End()
			got := exporter.GetSpans()[0]
			if diff := cmp.Diff(c.want, show(got)); diff != "" {
				t.Error(diff)
			}
			if !got.StartTime.Equal(start) {
				t.Errorf("began at %v, want %v", got.StartTime, start)
			}
		})
	}
}

// call makes a call with two attempts, the second of which arrives at a server.
func call(ctx context.Context, client, server *Tracer, wire carrier) {
	ctx, c := client.Start(ctx, telemetry.SpanStart{Kind: telemetry.CallSpan, Protocol: grpc, Method: "/call", Time: start})
	_, a := client.Start(ctx, telemetry.SpanStart{Kind: telemetry.AttemptSpan, Protocol: grpc, Method: "/first", Attempt: 1, Time: start})
	a.End(telemetry.SpanEnd{Code: 14, Class: telemetry.Failure})
	actx, a := client.Start(ctx, telemetry.SpanStart{Kind: telemetry.AttemptSpan, Protocol: grpc, Method: "/second", Attempt: 2, Time: start})
	client.Inject(actx, wire)
	sctx := server.Extract(context.Background(), wire)
	_, s := server.Start(sctx, telemetry.SpanStart{Kind: telemetry.ServerSpan, Protocol: grpc, Method: "/served", Time: start})
	s.End(telemetry.SpanEnd{})
	a.End(telemetry.SpanEnd{})
	c.End(telemetry.SpanEnd{Attempts: 2})
}

func TestOneTraceFromEndToEnd(t *testing.T) {
	client, clientSpans := record(t)
	server, serverSpans := record(t)
	call(t.Context(), client, server, carrier{})

	parents, names, traces := map[string]string{}, map[trace.SpanID]string{}, map[trace.TraceID]bool{}
	all := append(clientSpans.GetSpans(), serverSpans.GetSpans()...)
	for _, s := range all {
		names[s.SpanContext.SpanID()] = s.Name
		traces[s.SpanContext.TraceID()] = true
	}
	for _, s := range all {
		parents[s.Name] = names[s.Parent.SpanID()]
	}
	want := map[string]string{"call": "", "first": "call", "second": "call", "served": "second"}
	if diff := cmp.Diff(want, parents); diff != "" {
		t.Errorf("parents: %s", diff)
	}
	if len(traces) != 1 {
		t.Errorf("%d traces, want 1", len(traces))
	}
}

func TestBaggageTravels(t *testing.T) {
	tracer := New(nil)
	member, err := baggage.NewMember("weft.lane", "blue")
	if err != nil {
		t.Fatal(err)
	}
	bag, err := baggage.New(member)
	if err != nil {
		t.Fatal(err)
	}
	wire := carrier{}
	tracer.Inject(baggage.ContextWithBaggage(t.Context(), bag), wire)
	ctx := tracer.Extract(t.Context(), wire)
	if lane := baggage.FromContext(ctx).Member("weft.lane").Value(); lane != "blue" {
		t.Errorf("lane %q arrives by %v, want blue", lane, wire)
	}
}

// A process without spans of its own is no gap in the traces of others.
func TestNoProviderPassesTheTraceOn(t *testing.T) {
	const parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	tracer := New(nil)
	ctx := tracer.Extract(t.Context(), carrier{"traceparent": parent, "tracestate": "vendor=1"})
	ctx, c := tracer.Start(ctx, telemetry.SpanStart{Kind: telemetry.CallSpan, Time: start})
	ctx, a := tracer.Start(ctx, telemetry.SpanStart{Kind: telemetry.AttemptSpan, Time: start})
	got := carrier{}
	tracer.Inject(ctx, got)
	a.End(telemetry.SpanEnd{})
	c.End(telemetry.SpanEnd{})
	if diff := cmp.Diff(carrier{"traceparent": parent, "tracestate": "vendor=1"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestNothingToExtract(t *testing.T) {
	for name, c := range map[string]carrier{
		"empty":      {},
		"unreadable": {"traceparent": "00-zz", "baggage": "="},
	} {
		if ctx := New(nil).Extract(t.Context(), c); ctx != t.Context() {
			t.Errorf("%s: got another context", name)
		}
	}
}

// spy counts what is done to its spans.
type spy struct {
	noop.TracerProvider
	recording         bool
	starts, set, ends int
}

type spyTracer struct {
	trace.Tracer
	spy *spy
}

type spySpan struct {
	trace.Span
	spy *spy
}

func (s *spy) Tracer(name string, opts ...trace.TracerOption) trace.Tracer {
	return spyTracer{s.TracerProvider.Tracer(name, opts...), s}
}

func (t spyTracer) Start(ctx context.Context, name string, opts ...trace.SpanStartOption) (context.Context, trace.Span) {
	t.spy.starts++
	cfg := trace.NewSpanStartConfig(opts...)
	t.spy.set += len(cfg.Attributes())
	_, s := t.Tracer.Start(ctx, name, opts...)
	s = spySpan{s, t.spy}
	return trace.ContextWithSpan(ctx, s), s
}

func (s spySpan) IsRecording() bool                        { return s.spy.recording }
func (s spySpan) SetAttributes(list ...attribute.KeyValue) { s.spy.set += len(list) }
func (s spySpan) End(...trace.SpanEndOption)               { s.spy.ends++ }

// Control: the same calls, recorded, do get attributes and spans of their attempts.
func TestUnrecordedCallsGetNoAttributes(t *testing.T) {
	for name, c := range map[string]struct {
		recording    bool
		starts, ends int
	}{
		"unrecorded": {false, 2, 0}, // the call's and the server's
		"control":    {true, 4, 4},
	} {
		s := &spy{recording: c.recording}
		tracer := New(s)
		call(t.Context(), tracer, tracer, carrier{})
		if s.starts != c.starts || s.ends != c.ends || (s.set > 0) != c.recording {
			t.Errorf("%s: %d spans begun, %d ended, %d attributes; want %d, %d and attributes: %v",
				name, s.starts, s.ends, s.set, c.starts, c.ends, c.recording)
		}
	}
}

// The decision not to sample travels, so that nobody below records half a trace.
func TestUnsampledTravels(t *testing.T) {
	client := New(sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample())))
	server, spans := record(t)
	wire := carrier{}
	call(t.Context(), client, server, wire)
	if tp := wire["traceparent"]; len(tp) != 55 || tp[53:] != "00" {
		t.Errorf("traceparent %q, want one with the flags 00", tp)
	}
	if n := len(spans.GetSpans()); n != 0 {
		t.Errorf("the server recorded %d spans, want none", n)
	}
}

// record gives a tracer and where its spans go.
func record(t *testing.T) (*Tracer, *tracetest.InMemoryExporter) {
	t.Helper()
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	t.Cleanup(func() {
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return New(provider), exporter
}

func BenchmarkUnsampledCall(b *testing.B) {
	tracer := New(sdk.NewTracerProvider(sdk.WithSampler(sdk.NeverSample())))
	ctx, wire := context.Background(), carrier{}
	b.ReportAllocs()
	for b.Loop() {
		ctx, c := tracer.Start(ctx, telemetry.SpanStart{Kind: telemetry.CallSpan, Protocol: grpc, Method: "/shop.Stock/Get", Time: start})
		ctx, a := tracer.Start(ctx, telemetry.SpanStart{Kind: telemetry.AttemptSpan, Protocol: grpc, Method: "/shop.Stock/Get", Attempt: 1, Time: start})
		tracer.Inject(ctx, wire)
		a.End(telemetry.SpanEnd{})
		c.End(telemetry.SpanEnd{})
	}
}
