// Package prom counts calls and attempts in Prometheus metrics. [Observer] implements [telemetry.Observer]; a mesh
// makes one of the registerer it is given:
//
//	m, err := weft.New(weft.WithRegisterer(prometheus.DefaultRegisterer))
//
// The metrics and their labels:
//
//	weft_requests_total            calls that finished or were refused
//	  {direction, protocol, service, caller, method, code, reason}
//	weft_request_duration_seconds  histogram of the same calls, from their start to the end of their bodies and streams
//	  {direction, protocol, service, caller, method}
//	weft_attempts_total            settled attempts; more attempts than calls means retries
//	  {protocol, service, caller, subset, method, code, class}
//	weft_refusals_total            calls that Weft refused or gave up, by reason
//	  {direction, protocol, service, caller, reason}
//
// The direction is "outbound" at the caller and "inbound" at the callee. The method is the full gRPC method or the
// HTTP verb, "other" for verbs outside the standards. The code is the name of a gRPC code ("UNAVAILABLE") or an HTTP
// status ("503"), "none" if there was no answer. The class is "success", "failure" or "ignorable". Endpoints are not a
// label: each release brings new ones, and a process that lives long would run out of series; traces and the decision
// record name them.
//
// No metric gets more than [MaxSeries] combinations of label values. What comes later is counted in one series
// whose labels are all "overflow". A histogram has 17 lines for each combination.
package prom

import (
	"errors"
	"fmt"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftmesh/weft/telemetry"
)

// MaxSeries bounds the combinations of label values of each metric, the one called "overflow" included.
const MaxSeries = 2000

// Observer is a [telemetry.Observer] and the collector of its metrics. It is safe for concurrent use.
type Observer struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	attempts *prometheus.CounterVec
	refusals *prometheus.CounterVec

	calls series[callKey, *callCells]
	tries series[attemptKey, prometheus.Counter]

	mu        sync.Mutex
	recorders map[telemetry.Binding]*recorder
}

// New makes an observer and registers it. Of one registerer all observers are the same one, so that several meshes
// in a process count into the same metrics. The error says that another collector has taken a name; Prometheus also
// sees it so if one registry is used both as it is and through [prometheus.WrapRegistererWith] with labels.
func New(reg prometheus.Registerer) (*Observer, error) {
	if reg == nil {
		return nil, errors.New("prom.New(nil): want a registerer")
	}
	o := newObserver(MaxSeries)
	err := reg.Register(o)
	var known prometheus.AlreadyRegisteredError
	if errors.As(err, &known) {
		if same, ok := known.ExistingCollector.(*Observer); ok {
			return same, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("prom.New: registering the metrics weft_*: %w", err)
	}
	return o, nil
}

func newObserver(maxSeries int) *Observer {
	o := &Observer{
		requests: counters("weft_requests_total", "Calls that finished or were refused.",
			"direction", "protocol", "service", "caller", "method", "code", "reason"),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weft_request_duration_seconds", Help: "Time from the start of a call until it settled.", Buckets: buckets(),
		}, []string{"direction", "protocol", "service", "caller", "method"}),
		attempts: counters("weft_attempts_total", "Settled attempts of calls.",
			"protocol", "service", "caller", "subset", "method", "code", "class"),
		refusals: counters("weft_refusals_total", "Calls that Weft refused or gave up.",
			"direction", "protocol", "service", "caller", "reason"),
		recorders: map[telemetry.Binding]*recorder{},
	}
	o.calls.init(maxSeries, o.overflowCall)
	o.tries.init(maxSeries, o.overflowAttempt)
	return o
}

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
}

// buckets are upper bounds in seconds, three a decade where calls between services usually are.
func buckets() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}
}

// Describe implements [prometheus.Collector].
func (o *Observer) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range o.collectors() {
		c.Describe(ch)
	}
}

// Collect implements [prometheus.Collector].
func (o *Observer) Collect(ch chan<- prometheus.Metric) {
	for _, c := range o.collectors() {
		c.Collect(ch)
	}
}

func (o *Observer) collectors() [4]prometheus.Collector {
	return [...]prometheus.Collector{o.requests, o.duration, o.attempts, o.refusals}
}

// Bind implements [telemetry.Observer]. Equal bindings have the same recorder; beyond [MaxSeries] bindings, when there
// is hardly a series left to share, recorders are no longer remembered.
func (o *Observer) Bind(b telemetry.Binding) telemetry.Recorder {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r, ok := o.recorders[b]; ok {
		return r
	}
	r := newRecorder(o, b)
	if len(o.recorders) < MaxSeries {
		o.recorders[b] = r
	}
	return r
}
