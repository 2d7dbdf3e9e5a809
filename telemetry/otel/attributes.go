package otel

import (
	"net"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/weftmesh/weft/telemetry"
)

// The attributes of our own.
const (
	serviceKey  = attribute.Key("weft.service")  // full name of the callee
	attemptKey  = attribute.Key("weft.attempt")  // number of the attempt, from 1
	attemptsKey = attribute.Key("weft.attempts") // how many the call had
	endpointKey = attribute.Key("weft.endpoint") // instance id
	reasonKey   = attribute.Key("weft.reason")   // why Weft refused the call or gave it up
)

// name has few values, as the conventions want it: the full gRPC method, or the HTTP verb, since routes are not known.
func name(s *telemetry.SpanStart) string {
	if s.Protocol == telemetry.GRPC {
		return strings.TrimPrefix(s.Method, "/")
	}
	if verb := httpMethod(s.Method); verb != otherMethod {
		return verb
	}
	return "HTTP"
}

func startAttributes(s *telemetry.SpanStart) []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, 8)
	if s.Service != "" {
		list = append(list, semconv.ServerAddress(s.Service), serviceKey.String(s.Service))
	}
	if s.Kind == telemetry.AttemptSpan {
		list = append(list, attemptKey.Int(s.Attempt))
	}
	if s.Protocol == telemetry.GRPC {
		return append(list, semconv.RPCSystemNameGRPC, semconv.RPCMethod(name(s)))
	}
	return appendHTTP(list, s)
}

func appendHTTP(list []attribute.KeyValue, s *telemetry.SpanStart) []attribute.KeyValue {
	verb := httpMethod(s.Method)
	list = append(list, semconv.HTTPRequestMethodKey.String(verb))
	if verb == otherMethod {
		list = append(list, semconv.HTTPRequestMethodOriginal(s.Method))
	}
	if s.Path != "" {
		list = append(list, semconv.URLPath(s.Path))
	}
	if s.Kind == telemetry.AttemptSpan && s.Attempt > 1 {
		list = append(list, semconv.HTTPRequestResendCount(s.Attempt-1))
	}
	return list
}

func (s *span) endAttributes(e *telemetry.SpanEnd) []attribute.KeyValue {
	list := make([]attribute.KeyValue, 0, 6)
	if e.Reason != "" {
		list = append(list, reasonKey.String(e.Reason))
	}
	if s.kind == telemetry.CallSpan {
		list = append(list, attemptsKey.Int(e.Attempts))
	}
	if e.Endpoint != "" {
		list = append(list, endpointKey.String(e.Endpoint))
	}
	return s.appendCode(appendPeer(list, e.Address), e)
}

// appendCode adds the code of the answer. 0 is none on HTTP, and also on gRPC if it did not end well: then it is the
// empty field of a refusal, not OK.
func (s *span) appendCode(list []attribute.KeyValue, e *telemetry.SpanEnd) []attribute.KeyValue {
	if e.Code == 0 && (s.protocol == telemetry.HTTP || e.Err != nil || e.Reason != "") {
		return list
	}
	if s.protocol == telemetry.GRPC {
		return append(list, semconv.RPCResponseStatusCode(grpcCode(e.Code)))
	}
	return append(list, semconv.HTTPResponseStatusCode(e.Code))
}

func appendPeer(list []attribute.KeyValue, address string) []attribute.KeyValue {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return list
	}
	list = append(list, semconv.NetworkPeerAddress(host))
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		list = append(list, semconv.NetworkPeerPort(int(n)))
	}
	return list
}

const otherMethod = "_OTHER"

func httpMethod(verb string) string { return telemetry.HTTPMethod(verb, otherMethod) }

func grpcCode(code int) string {
	name, _ := telemetry.GRPCCode(code)
	return name
}
