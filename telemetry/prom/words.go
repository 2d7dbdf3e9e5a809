package prom

import (
	"net/http"
	"strconv"

	"github.com/weftmesh/weft/telemetry"
)

// Codes that are no code of a protocol.
const (
	codeNone  = -1 // no answer
	codeOther = -2 // outside the protocol's numbers
)

// words turn what a protocol says into label values. Whatever the other side may choose freely becomes "other" before
// it is looked up, so that it cannot use up the series.
type words struct {
	method func(string) string
	code   func(int) int
	name   func(int) string
}

func wordsOf(p telemetry.Protocol) words {
	if p == telemetry.GRPC {
		return words{method: grpcMethod, code: grpcCode, name: grpcName}
	}
	return words{method: httpMethod, code: httpCode, name: strconv.Itoa}
}

func (w words) text(code int) string {
	switch code {
	case codeNone:
		return "none"
	case codeOther:
		return "other"
	}
	return w.name(code)
}

func grpcMethod(full string) string { return full }

func grpcCode(code int) int {
	if code < 0 || code >= len(grpcNames) {
		return codeOther
	}
	return code
}

func grpcName(code int) string { return grpcNames[code] }

// The names of the gRPC codes by number, as the protocol writes them.
var grpcNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

func httpMethod(verb string) string {
	switch verb {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete,
		http.MethodConnect, http.MethodOptions, http.MethodTrace:
		return verb
	case "":
		return http.MethodGet // what net/http sends for it
	}
	return "other"
}

func httpCode(status int) int {
	switch {
	case status == 0:
		return codeNone
	case status < 100 || status > 999:
		return codeOther
	}
	return status
}
