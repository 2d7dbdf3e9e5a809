package engine

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/weftmesh/weft/telemetry"
)

// Outcome is what came of one attempt, in the words of its protocol. It is the classifier's input.
type Outcome struct {
	Protocol Protocol
	Code     int    // gRPC code, or HTTP status; 0 on HTTP: there was no response
	Header   Header // response header on HTTP, trailer on gRPC; may be nil
	Err      error  // the transport's error, if any
	Sent     bool   // false: the request provably never reached the server
	Answered bool   // Err, if any, is the server's own word; on HTTP a response never is an error
	Misused  bool   // the request itself cannot be sent: says nothing about anybody, and is not tried again

	// Open says that the attempt goes on after Try returned (an HTTP body, a stream): the adapter will settle
	// it. The classifier need not look at it.
	Open bool
}

// Header gives the values of a response header; http.Header fits. Names are asked for in the protocol's own form:
// canonical on HTTP, lower-case on gRPC.
type Header interface {
	Values(name string) []string
}

// Verdict is what an outcome means. Balancer, outlier detection, retries and metrics all use the same one.
type Verdict struct {
	Class telemetry.Class
	// Retryable outcomes are tried again if the call is idempotent, whatever the Retry rule's conditions say.
	Retryable bool
	// NoRetry outcomes are final: the server asked not to be tried again.
	NoRetry bool
	// Pushback is how long the server asked to wait before the next attempt. 0: it did not ask.
	Pushback time.Duration
}

// Classifier judges outcomes of one protocol. It is called once an attempt, and once more when a stream or a body
// ends badly.
type Classifier func(Outcome) Verdict

// gRPC codes, as numbers: the engine does not import grpc.
const (
	grpcOK                = 0
	grpcCanceled          = 1
	grpcUnknown           = 2
	grpcDeadlineExceeded  = 4
	grpcResourceExhausted = 8
	grpcInternal          = 13
	grpcUnavailable       = 14
	grpcDataLoss          = 15
)

// ClassifyGRPC is the default classifier of gRPC. UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE and DATA_LOSS
// are failures of the server; CANCELLED and RESOURCE_EXHAUSTED say nothing about it; with every other code it did
// its job. An answer with weft-reason is a refusal by a limit or a policy and says nothing either.
func ClassifyGRPC(o Outcome) Verdict {
	v := Verdict{}
	switch o.Code {
	case grpcUnknown, grpcDeadlineExceeded, grpcInternal, grpcUnavailable, grpcDataLoss:
		v.Class = telemetry.Failure
	case grpcCanceled, grpcResourceExhausted:
		v.Class = telemetry.Ignorable
	}
	v.pushback(first(o.Header, "grpc-retry-pushback-ms"), time.Millisecond)
	v.refused(o)
	return v
}

// ClassifyHTTP is the default classifier of HTTP. No response and every 5xx are failures of the server; 429 says
// nothing about it; with every other status it did its job. An answer with weft-reason is a refusal by a limit
// or a policy and says nothing either.
func ClassifyHTTP(o Outcome) Verdict {
	v := Verdict{}
	switch {
	case errors.Is(o.Err, context.Canceled):
		v.Class = telemetry.Ignorable
	case o.Code == 0 || o.Code >= 500 || o.Err != nil:
		v.Class = telemetry.Failure
	case o.Code == 429:
		v.Class = telemetry.Ignorable
	}
	if o.Code == 429 || o.Code == 503 {
		v.pushback(first(o.Header, "Retry-After"), time.Second)
	}
	v.refused(o)
	return v
}

// refused marks an answer that a limit or a policy of the callee gave in place of its handler.
func (v *Verdict) refused(o Outcome) {
	if first(o.Header, HeaderReason[o.Protocol]) != "" {
		v.Class = telemetry.Ignorable
	}
}

// pushback reads the server's wish for the next attempt: a number of units, negative for "never". Retry-After as a
// date is not read.
func (v *Verdict) pushback(text string, unit time.Duration) {
	if text == "" {
		return
	}
	n, err := strconv.ParseInt(text, 10, 32)
	switch {
	case err == nil && n >= 0:
		v.Pushback = time.Duration(n) * unit
	case unit == time.Millisecond: // gRFC A6: a value that is negative or unreadable means do not retry
		v.NoRetry = true
	}
}

func first(h Header, name string) string {
	if h == nil {
		return ""
	}
	if vs := h.Values(name); len(vs) > 0 {
		return vs[0]
	}
	return ""
}

// Conditions are the outcomes that a Retry rule wants tried again, compiled.
type Conditions struct {
	Codes   uint32     // gRPC codes, one bit each
	Status  [10]uint64 // HTTP statuses 0 to 639, one bit each
	Reset   bool       // the connection was lost before a response
	Timeout bool       // the per-try timeout ran out
}

// AddCode adds a gRPC code.
func (c *Conditions) AddCode(code int) { c.Codes |= 1 << code }

// AddStatus adds the HTTP statuses from lo to hi.
func (c *Conditions) AddStatus(lo, hi int) {
	for s := max(lo, 0); s <= hi && s < 640; s++ {
		c.Status[s/64] |= 1 << (s % 64)
	}
}

// Match reports whether o is one of them. timedOut says that the attempt's own timeout ended it.
func (c *Conditions) Match(o *Outcome, timedOut bool) bool {
	if timedOut {
		return c.Timeout || o.Protocol == GRPC && c.Codes&(1<<grpcDeadlineExceeded) != 0
	}
	if o.Protocol == GRPC {
		// grpc reports a lost connection as UNAVAILABLE, hence reset means the same as unavailable there.
		return c.Codes&(1<<(o.Code&31)) != 0 || c.Reset && o.Code == grpcUnavailable
	}
	if o.Code == 0 {
		var t net.Error
		return c.Reset && !(errors.As(o.Err, &t) && t.Timeout())
	}
	return o.Code > 0 && o.Code < 640 && c.Status[o.Code/64]&(1<<(o.Code%64)) != 0
}
