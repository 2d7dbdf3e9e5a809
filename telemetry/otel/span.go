package otel

import (
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/weftmesh/weft/telemetry"
)

// span is a recorded span under way.
type span struct {
	span     trace.Span
	kind     telemetry.SpanKind
	protocol telemetry.Protocol
}

// End implements [telemetry.Span].
func (s *span) End(e telemetry.SpanEnd) {
	s.span.SetAttributes(s.endAttributes(&e)...)
	if s.failed(&e) {
		s.span.SetAttributes(s.errorType(&e))
		s.span.SetStatus(codes.Error, description(&e))
	}
	s.span.End()
}

// failed tells whether the span's status is Error. A server is in error if it failed itself, whatever a classifier
// says of answers that blame the request; a call is also in error if Weft refused it or gave it up.
func (s *span) failed(e *telemetry.SpanEnd) bool {
	failure := e.Class == telemetry.Failure
	switch s.kind {
	case telemetry.ServerSpan:
		return failure && s.serverError(e.Code)
	case telemetry.CallSpan:
		return failure || e.Reason != ""
	}
	return failure
}

// serverError reports whether a code blames the server, as the conventions list them.
func (s *span) serverError(code int) bool {
	if s.protocol == telemetry.HTTP {
		return code == 0 || code >= 500
	}
	switch grpcCode(code) {
	case "UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS":
		return true
	}
	return false
}

// errorType is the code as text, or if there is none Weft's reason, or the type of the error.
func (s *span) errorType(e *telemetry.SpanEnd) attribute.KeyValue {
	switch {
	case e.Code != 0 && s.protocol == telemetry.HTTP:
		return semconv.ErrorTypeKey.String(strconv.Itoa(e.Code))
	case e.Code != 0:
		return semconv.ErrorTypeKey.String(grpcCode(e.Code))
	case e.Reason != "":
		return semconv.ErrorTypeKey.String(e.Reason)
	}
	return semconv.ErrorType(e.Err)
}

func description(e *telemetry.SpanEnd) string {
	if e.Err != nil {
		return e.Err.Error()
	}
	return e.Reason
}
