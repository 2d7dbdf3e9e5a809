package main

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// spans keeps the latest spans in memory and shows those of one trace; a real service exports them instead.
type spans struct {
	mu     sync.Mutex
	latest []sdk.ReadOnlySpan
}

// maxSpans is how many are kept.
const maxSpans = 1000

func newSpans() *spans { return &spans{} }

func (s *spans) provider(service string) trace.TracerProvider {
	return sdk.NewTracerProvider(sdk.WithSyncer(s), sdk.WithSampler(sdk.ParentBased(sdk.NeverSample())),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", service))))
}

// ExportSpans implements the SDK's exporter.
func (s *spans) ExportSpans(_ context.Context, list []sdk.ReadOnlySpan) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = append(s.latest, list...)
	if extra := len(s.latest) - maxSpans; extra > 0 {
		s.latest = append(s.latest[:0:0], s.latest[extra:]...)
	}
	return nil
}

// Shutdown implements the SDK's exporter.
func (s *spans) Shutdown(context.Context) error { return nil }

// span is what /spans shows.
type span struct {
	Service  string        `json:"service"`
	Name     string        `json:"name"`
	ID       string        `json:"id"`
	Parent   string        `json:"parent"`
	Start    time.Time     `json:"start"`
	Duration time.Duration `json:"duration"`
}

// ServeHTTP answers GET /spans?trace=ID.
func (s *spans) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := []span{}
	for _, sp := range s.latest {
		if sp.SpanContext().TraceID().String() != r.FormValue("trace") {
			continue
		}
		service, _ := sp.Resource().Set().Value("service.name")
		found = append(found, span{Service: service.AsString(), Name: sp.Name(), ID: sp.SpanContext().SpanID().String(),
			Parent: sp.Parent().SpanID().String(), Start: sp.StartTime(), Duration: sp.EndTime().Sub(sp.StartTime())})
	}
	json.NewEncoder(w).Encode(found)
}
