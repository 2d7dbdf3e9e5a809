package telemetry

import "strconv"

// The names of gRPC's codes by number, as the protocol writes them.
var grpcCodes = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
	"PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
	"INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
}

// GRPCCode gives the name of a gRPC code, such as "UNAVAILABLE". known is false for a number that gRPC does not
// have, whose digits it gives.
func GRPCCode(code int) (name string, known bool) {
	if code < 0 || code >= len(grpcCodes) {
		return strconv.Itoa(code), false
	}
	return grpcCodes[code], true
}

// HTTPMethod gives the verb, other for one outside the standards, which a client may choose freely, and GET for the
// empty verb, as net/http sends it.
func HTTPMethod(verb, other string) string {
	switch verb {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "QUERY":
		return verb
	case "":
		return "GET"
	}
	return other
}
