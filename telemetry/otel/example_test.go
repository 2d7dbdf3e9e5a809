package otel_test

import (
	"context"
	"fmt"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/weftmesh/weft/telemetry"
	"github.com/weftmesh/weft/telemetry/otel"
)

// A program makes a provider of the SDK it likes and gives it to the mesh: weft.New(weft.WithTracerProvider(provider)).
// The rest shows what the engine then does for a call with one attempt. A real provider has a batcher and an exporter
// such as OTLP in place of the one in memory.
func ExampleNew() {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))

	tracer := otel.New(provider)
	ctx, call := tracer.Start(context.Background(), telemetry.SpanStart{Kind: telemetry.CallSpan, Protocol: telemetry.HTTP,
		Service: "product.shop", Method: "GET", Path: "/items"})
	_, attempt := tracer.Start(ctx, telemetry.SpanStart{Kind: telemetry.AttemptSpan, Protocol: telemetry.HTTP,
		Service: "product.shop", Method: "GET", Path: "/items", Attempt: 1})
	attempt.End(telemetry.SpanEnd{Code: 200, Endpoint: "product-1"})
	call.End(telemetry.SpanEnd{Code: 200, Attempts: 1})

	for _, s := range exporter.GetSpans() {
		fmt.Println(s.SpanKind, s.Name, "child:", s.Parent.IsValid())
	}
	// Output:
	// client GET child: true
	// client GET child: false
}
