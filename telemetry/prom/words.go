package prom

import (
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
	if _, known := telemetry.GRPCCode(code); !known {
		return codeOther
	}
	return code
}

func grpcName(code int) string {
	name, _ := telemetry.GRPCCode(code)
	return name
}

func httpMethod(verb string) string { return telemetry.HTTPMethod(verb, "other") }

func httpCode(status int) int {
	switch {
	case status == 0:
		return codeNone
	case status < 100 || status > 999:
		return codeOther
	}
	return status
}
