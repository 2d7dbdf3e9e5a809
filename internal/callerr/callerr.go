// Package callerr is the error a caller gets when Weft itself ends a call. The facade exports it as weft.Error.
package callerr

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Reason says why Weft ended a call.
type Reason string

// Attempt is one try of a call, as the error tells it.
type Attempt struct {
	Endpoint string        // instance id
	Address  string        // host:port
	Fate     string        // what became of it, such as "503", "Unavailable" or "not sent: connection refused"
	Latency  time.Duration // until the answer or the failure
}

// Error is returned instead of an answer when Weft refused a call or gave up on it. Its text is an explanation on one
// line. Unwrap gives the cause, which may be a context error or the last attempt's.
type Error struct {
	Service    string        // full name of the callee, "product.shop"
	Method     string        // full gRPC method, or HTTP method and path
	Reason     Reason        // what to branch on
	Rule       string        // name@revision of the rule that decided; "" if none did
	Attempts   []Attempt     // the failed ones, in order; empty if the call was refused before the first
	RetryAfter time.Duration // when it makes sense to call again; 0: unknown
	Err        error         // the cause; may be nil
	Local      bool          // nothing of the call can have reached a server
}

// Error explains on one line: service, reason, rule, and each attempt's endpoint and fate.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "weft: %s %s: %s", oneLine(e.Service), oneLine(e.Method), e.Reason)
	if e.Rule != "" {
		fmt.Fprintf(&b, " (rule %s)", e.Rule)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %s", oneLine(e.Err.Error()))
	}
	for i, a := range e.Attempts {
		sep := "; "
		if i == 0 {
			sep = " ["
		}
		fmt.Fprintf(&b, "%sattempt %d on %s %s: %s", sep, i+1, a.Endpoint, a.Address, oneLine(a.Fate))
	}
	if len(e.Attempts) > 0 {
		b.WriteByte(']')
	}
	return b.String()
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the same call may succeed later.
func (e *Error) Temporary() bool {
	switch e.Reason {
	case "Misused", "Closed", "Unauthorized", "Canceled":
		return false
	}
	return true
}

// Timeout reports whether time ran out; net/http asks it.
func (e *Error) Timeout() bool {
	return e.Reason == "Timeout" || e.Reason == "DeadlineTooShort" || errors.Is(e.Err, context.DeadlineExceeded)
}

// GRPCStatus gives the status a gRPC caller sees: the last attempt's code and details where there is one, else the code
// that fits the reason; the message is the explanation.
func (e *Error) GRPCStatus() *status.Status {
	if e.Err != nil {
		if st, ok := status.FromError(e.Err); ok && st.Code() != codes.OK {
			p := st.Proto()
			p.Message = e.Error()
			return status.FromProto(p)
		}
	}
	return status.New(e.Code(), e.Error())
}

// Code is the gRPC code that fits the reason.
func (e *Error) Code() codes.Code {
	switch e.Reason {
	case "RateLimited":
		return codes.ResourceExhausted
	case "Unauthorized":
		return codes.PermissionDenied
	case "DeadlineTooShort", "Timeout":
		return codes.DeadlineExceeded
	case "Canceled":
		return codes.Canceled
	case "Misused":
		return codes.FailedPrecondition
	}
	return codes.Unavailable
}

// HTTPStatus is the status a callee answers with when it refuses a call for this reason.
func (e *Error) HTTPStatus() int {
	switch e.Reason {
	case "RateLimited":
		return 429
	case "Unauthorized":
		return 403
	case "DeadlineTooShort", "Timeout":
		return 504
	}
	return 503
}
