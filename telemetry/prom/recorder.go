package prom

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftmesh/weft/telemetry"
)

// recorder counts the events of one binding.
type recorder struct {
	observer *Observer
	binding  telemetry.Binding
	words    words
	calls    table[callKey, *callCells]
	attempts table[attemptKey, prometheus.Counter]
}

// callKey is what differs between the calls of a binding. There is one series of weft_requests_total for each key and
// at most one of the other metrics of calls, so that the bound of the first bounds them all.
type callKey struct {
	method string
	code   int
	reason string
}

type callCells struct {
	requests prometheus.Counter
	duration prometheus.Observer
	refusals prometheus.Counter // nil if the key has no reason
}

type attemptKey struct {
	subset string
	method string
	code   int
	class  telemetry.Class
}

func newRecorder(o *Observer, b telemetry.Binding) *recorder {
	r := &recorder{observer: o, binding: b, words: wordsOf(b.Protocol)}
	r.calls.init(&o.calls, r.resolveCall)
	r.attempts.init(&o.tries, r.resolveAttempt)
	return r
}

// Call implements [telemetry.Recorder].
func (r *recorder) Call(e *telemetry.CallEvent) {
	code := r.words.code(e.Code)
	if e.Code == 0 && e.Reason != "" {
		code = codeNone // on gRPC 0 is also OK, which nobody said
	}
	c := r.calls.get(callKey{r.words.method(e.Method), code, e.Reason})
	c.requests.Inc()
	c.duration.Observe(e.Duration.Seconds())
	if e.Reason != "" {
		c.refusals.Inc()
	}
}

// Attempt implements [telemetry.Recorder].
func (r *recorder) Attempt(e *telemetry.AttemptEvent) {
	r.attempts.get(attemptKey{e.Subset, r.words.method(e.Method), r.words.code(e.Code), e.Class}).Inc()
}

func (r *recorder) resolveCall(k callKey) *callCells {
	b, o := &r.binding, r.observer
	common := valid(string(b.Direction), string(b.Protocol), b.Service, b.Caller)
	own := valid(k.method, r.words.text(k.code), k.reason)
	c := &callCells{
		requests: o.requests.WithLabelValues(append(common, own...)...),
		duration: o.duration.WithLabelValues(append(common, own[0])...),
	}
	if k.reason != "" {
		c.refusals = o.refusals.WithLabelValues(append(common, own[2])...)
	}
	return c
}

func (r *recorder) resolveAttempt(k attemptKey) prometheus.Counter {
	b := &r.binding
	return r.observer.attempts.WithLabelValues(valid(string(b.Protocol), b.Service, b.Caller, k.subset, k.method,
		r.words.text(k.code), k.class.String())...)
}

// valid makes label values of any text: methods come from the wire, and a value that is not UTF-8 is refused with a
// panic.
func valid(values ...string) []string {
	for i, v := range values {
		values[i] = strings.ToValidUTF8(v, "\uFFFD")
	}
	return values
}

func (o *Observer) overflowCall() *callCells {
	return &callCells{
		requests: o.requests.WithLabelValues(overflow, overflow, overflow, overflow, overflow, overflow, overflow),
		duration: o.duration.WithLabelValues(overflow, overflow, overflow, overflow, overflow),
		refusals: o.refusals.WithLabelValues(overflow, overflow, overflow, overflow, overflow),
	}
}

func (o *Observer) overflowAttempt() prometheus.Counter {
	return o.attempts.WithLabelValues(overflow, overflow, overflow, overflow, overflow, overflow, overflow)
}
