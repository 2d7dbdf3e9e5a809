package engine

import (
	"strconv"
	"time"

	"github.com/weftmesh/weft/telemetry"
)

// A word is a header name in the form of each protocol: lower-case on gRPC, canonical on HTTP.
type word [NumProtocols]string

// The wire words of this engine. They are the same in gRPC metadata and in HTTP headers.
var (
	HeaderAttempt     = word{"weft-attempt", "Weft-Attempt"}         // number of the attempt; above 1: do not retry below
	HeaderDeadline    = word{"weft-deadline", "Weft-Deadline"}       // milliseconds left; HTTP only, gRPC has grpc-timeout
	HeaderCriticality = word{"weft-criticality", "Weft-Criticality"} // how much the call matters
	HeaderReason      = word{"weft-reason", "Weft-Reason"}           // on a response: why Weft refused the call
)

// WirePrefix begins every wire word. Inbound, whatever begins with it is taken off before the handler sees it.
const WirePrefix = "weft-"

// HasHeaders reports whether [Attempt.WriteHeaders] would write anything.
func (a *Attempt) HasHeaders() bool {
	c := a.call
	return a.number > 1 || c.values.Retried || c.values.Criticality != CriticalityUnset || c.engine().tracer != nil ||
		c.Protocol == HTTP && !c.Stream && !a.deadline().IsZero()
}

// WriteHeaders adds the wire words and the trace of this attempt to the request's headers. The carrier must belong
// to this attempt alone.
func (a *Attempt) WriteHeaders(h telemetry.Carrier) {
	c := a.call
	p := c.Protocol
	if a.number > 1 || c.values.Retried {
		h.Set(HeaderAttempt[p], strconv.Itoa(max(a.number, 2)))
	}
	if c.values.Criticality != CriticalityUnset {
		h.Set(HeaderCriticality[p], c.values.Criticality.String())
	}
	if d := a.deadline(); p == HTTP && !c.Stream && !d.IsZero() { // of an upgrade, the deadline is the handshake's
		h.Set(HeaderDeadline[p], strconv.FormatInt(max(d.Sub(c.engine().now()).Milliseconds(), 0), 10))
	}
	if t := c.engine().tracer; t != nil {
		t.Inject(a.parent, h)
	}
}

// readWire takes what an inbound call brought: its values, and over HTTP its deadline.
func readWire(p Protocol, h telemetry.Carrier, now time.Time) (v Values, deadline time.Time) {
	v = Values{Criticality: ParseCriticality(h.Get(HeaderCriticality[p]))}
	if text := h.Get(HeaderAttempt[p]); text != "" { // reading "" would make an error, for every call
		n, err := strconv.Atoi(text)
		v.Retried = err == nil && n > 1
	}
	if text := h.Get(HeaderDeadline[p]); p == HTTP && text != "" {
		if ms, err := strconv.ParseInt(text, 10, 64); err == nil && ms >= 0 {
			deadline = now.Add(time.Duration(min(ms, int64(maxDeadline/time.Millisecond))) * time.Millisecond)
		}
	}
	return v, deadline
}

// maxDeadline bounds what a caller may announce, so that no number overflows.
const maxDeadline = 24 * time.Hour
