package prom

import (
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weftmesh/weft/telemetry"
)

var (
	outGRPC = telemetry.Binding{Direction: telemetry.Outbound, Protocol: telemetry.GRPC, Caller: "web.shop", Service: "stock.shop"}
	outHTTP = telemetry.Binding{Direction: telemetry.Outbound, Protocol: telemetry.HTTP, Caller: "web.shop", Service: "stock.shop"}
	inHTTP  = telemetry.Binding{Direction: telemetry.Inbound, Protocol: telemetry.HTTP, Service: "web.shop"}
)

func TestEvents(t *testing.T) {
	const grpc, http = `protocol="grpc",service="stock.shop"`, `protocol="http",service="stock.shop"`
	for name, c := range map[string]struct {
		binding telemetry.Binding
		call    *telemetry.CallEvent
		attempt *telemetry.AttemptEvent
		want    []string
	}{
		"gRPC call": {outGRPC, &telemetry.CallEvent{Method: "/shop.Stock/Get"}, nil, []string{
			`weft_request_duration_seconds_count{caller="web.shop",direction="outbound",method="/shop.Stock/Get",` + grpc + `} 1`,
			`weft_requests_total{caller="web.shop",code="OK",direction="outbound",method="/shop.Stock/Get",` + strings.Replace(grpc, ",", `,reason="",`, 1) + `} 1`,
		}},
		"gRPC failure": {outGRPC, &telemetry.CallEvent{Method: "/shop.Stock/Get", Code: 14, Class: telemetry.Failure, Reason: "AttemptsFailed"}, nil, []string{
			`weft_refusals_total{caller="web.shop",direction="outbound",protocol="grpc",reason="AttemptsFailed",service="stock.shop"} 1`,
			`weft_request_duration_seconds_count{caller="web.shop",direction="outbound",method="/shop.Stock/Get",` + grpc + `} 1`,
			`weft_requests_total{caller="web.shop",code="UNAVAILABLE",direction="outbound",method="/shop.Stock/Get",protocol="grpc",reason="AttemptsFailed",service="stock.shop"} 1`,
		}},
		"gRPC refusal is not OK": {outGRPC, &telemetry.CallEvent{Method: "/m", Reason: "NoInstance", Class: telemetry.Ignorable}, nil, []string{
			`weft_refusals_total{caller="web.shop",direction="outbound",protocol="grpc",reason="NoInstance",service="stock.shop"} 1`,
			`weft_request_duration_seconds_count{caller="web.shop",direction="outbound",method="/m",` + grpc + `} 1`,
			`weft_requests_total{caller="web.shop",code="none",direction="outbound",method="/m",protocol="grpc",reason="NoInstance",service="stock.shop"} 1`,
		}},
		"HTTP call": {inHTTP, &telemetry.CallEvent{Method: "POST", Code: 422}, nil, []string{
			`weft_request_duration_seconds_count{caller="",direction="inbound",method="POST",protocol="http",service="web.shop"} 1`,
			`weft_requests_total{caller="",code="422",direction="inbound",method="POST",protocol="http",reason="",service="web.shop"} 1`,
		}},
		"HTTP with made-up verb and status": {inHTTP, &telemetry.CallEvent{Method: "BREW", Code: 7777}, nil, []string{
			`weft_request_duration_seconds_count{caller="",direction="inbound",method="other",protocol="http",service="web.shop"} 1`,
			`weft_requests_total{caller="",code="other",direction="inbound",method="other",protocol="http",reason="",service="web.shop"} 1`,
		}},
		"text that is not UTF-8": {outGRPC, &telemetry.CallEvent{Method: "/\xff", Code: 99}, nil, []string{
			`weft_request_duration_seconds_count{caller="web.shop",direction="outbound",method="/` + "\uFFFD" + `",` + grpc + `} 1`,
			`weft_requests_total{caller="web.shop",code="other",direction="outbound",method="/` + "\uFFFD" + `",protocol="grpc",reason="",service="stock.shop"} 1`,
		}},
		"gRPC attempt": {outGRPC, nil, &telemetry.AttemptEvent{Method: "/m", Subset: "v2", Code: 4, Class: telemetry.Failure, Endpoint: "a"}, []string{
			`weft_attempts_total{caller="web.shop",class="failure",code="DEADLINE_EXCEEDED",method="/m",` + grpc + `,subset="v2"} 1`,
		}},
		"HTTP attempt without response": {outHTTP, nil, &telemetry.AttemptEvent{Class: telemetry.Ignorable}, []string{
			`weft_attempts_total{caller="web.shop",class="ignorable",code="none",method="GET",` + http + `,subset=""} 1`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			o, reg := observe(t)
			r := o.Bind(c.binding)
			if c.call != nil {
				r.Call(c.call)
			}
			if c.attempt != nil {
				r.Attempt(c.attempt)
			}
			if diff := cmp.Diff(c.want, counts(t, reg)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDurationsFallIntoTheirBuckets(t *testing.T) {
	o, reg := observe(t)
	for _, d := range []time.Duration{400 * time.Microsecond, 3 * time.Millisecond, 9 * time.Second, time.Minute} {
		o.Bind(outGRPC).Call(&telemetry.CallEvent{Method: "/m", Duration: d})
	}
	var got []float64
	for _, line := range gather(t, reg) {
		if strings.HasPrefix(line.series, "weft_request_duration_seconds_bucket{") {
			got = append(got, line.value)
		}
	}
	// 0.5, 1, 2.5, 5 ms to 10 s, and all
	want := []float64{1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestEqualBindingsCountTogether(t *testing.T) {
	o, reg := observe(t)
	o.Bind(outGRPC).Call(&telemetry.CallEvent{Method: "/m"})
	o.Bind(outGRPC).Call(&telemetry.CallEvent{Method: "/m"})
	if s := of(gather(t, reg), "weft_requests_total"); len(s) != 1 || s[0].value != 2 {
		t.Errorf("%v, want one series of 2 calls", s)
	}
}

func TestTheSameRegistererTwice(t *testing.T) {
	for name, reg := range map[string]prometheus.Registerer{
		"plain":   prometheus.NewRegistry(),
		"wrapped": prometheus.WrapRegistererWith(prometheus.Labels{"zone": "a"}, prometheus.NewRegistry()),
	} {
		first, err := New(reg)
		if err != nil {
			t.Fatal(name, err)
		}
		if again, err := New(reg); err != nil || again != first {
			t.Errorf("%s: the second New gives %p, %v; want the first observer %p", name, again, err, first)
		}
	}
}

func TestForeignCollectors(t *testing.T) {
	for name, foreign := range map[string]prometheus.Collector{
		"other labels": prometheus.NewCounter(prometheus.CounterOpts{Name: "weft_requests_total", Help: "Mine."}),
		"same labels":  newObserver(MaxSeries).attempts,
		"same metrics": struct{ prometheus.Collector }{newObserver(MaxSeries)},
	} {
		reg := prometheus.NewRegistry()
		reg.MustRegister(foreign)
		if o, err := New(reg); err == nil || o != nil {
			t.Errorf("%s: New gives %v, %v; want an error", name, o, err)
		}
	}
	if _, err := New(nil); err == nil {
		t.Error("New(nil) gives no error")
	}
	refusing := refusingRegisterer{errors.New("full")}
	if _, err := New(refusing); !errors.Is(err, refusing.err) {
		t.Errorf("New gives %v, want %v wrapped", err, refusing.err)
	}
}

type refusingRegisterer struct{ err error }

func (r refusingRegisterer) Register(prometheus.Collector) error  { return r.err }
func (r refusingRegisterer) MustRegister(...prometheus.Collector) {}
func (r refusingRegisterer) Unregister(prometheus.Collector) bool { return false }

// At the bound each metric has MaxSeries series. Control: with the bound out of reach the same calls make more.
func TestOverflow(t *testing.T) {
	const calls = MaxSeries + 100
	for name, c := range map[string]struct {
		limit, series int
		overflown     float64
	}{
		"bound":   {MaxSeries, MaxSeries, calls - (MaxSeries - 1)},
		"control": {2 * calls, calls, 0},
	} {
		t.Run(name, func(t *testing.T) {
			o, reg := observeUpTo(t, c.limit)
			r := o.Bind(outGRPC)
			for i := range calls {
				method := fmt.Sprint("/m", i)
				r.Call(&telemetry.CallEvent{Method: method, Reason: method})
				r.Attempt(&telemetry.AttemptEvent{Method: method})
			}
			all := gather(t, reg)
			for _, metric := range []string{"weft_requests_total", "weft_request_duration_seconds_count", "weft_attempts_total", "weft_refusals_total"} {
				s := of(all, metric)
				if len(s) != c.series {
					t.Errorf("%s has %d series, want %d", metric, len(s), c.series)
				}
				if n := overflown(s); n != c.overflown {
					t.Errorf("%s: %v events in overflow, want %v", metric, n, c.overflown)
				}
			}
		})
	}
}

func TestJustBelowTheBoundNothingOverflows(t *testing.T) {
	o, reg := observe(t)
	r := o.Bind(outGRPC)
	for i := range MaxSeries - 1 {
		r.Call(&telemetry.CallEvent{Method: fmt.Sprint("/m", i)})
	}
	if s := of(gather(t, reg), "weft_requests_total"); len(s) != MaxSeries-1 || overflown(s) != 0 {
		t.Errorf("%d series and %v in overflow, want %d and none", len(s), overflown(s), MaxSeries-1)
	}
	o.Bind(outHTTP).Call(&telemetry.CallEvent{})
	r.Call(&telemetry.CallEvent{Method: "/m0"})
	s := of(gather(t, reg), "weft_requests_total")
	known := slices.IndexFunc(s, func(s sample) bool { return strings.Contains(s.series, `method="/m0"`) })
	if overflown(s) != 1 || known < 0 || s[known].value != 2 {
		t.Errorf("%v in overflow, want 1; the series known before is number %d, want it to count 2", overflown(s), known)
	}
}

func TestOverflowOfRefusalsCountsRefusalsAlone(t *testing.T) {
	o, reg := observeUpTo(t, 1)
	o.Bind(outGRPC).Call(&telemetry.CallEvent{})
	o.Bind(outGRPC).Call(&telemetry.CallEvent{Reason: "NoInstance"})
	if n := overflown(of(gather(t, reg), "weft_refusals_total")); n != 1 {
		t.Errorf("%v refusals, want 1", n)
	}
}

func TestRememberedBindingsAreBounded(t *testing.T) {
	o, _ := observe(t)
	for i := range MaxSeries + 10 {
		o.Bind(telemetry.Binding{Service: fmt.Sprint(i)})
	}
	if n := len(o.recorders); n != MaxSeries {
		t.Errorf("%d recorders, want %d", n, MaxSeries)
	}
}

// Control: the first event of a key does allocate.
func TestEventsDoNotAllocate(t *testing.T) {
	o, _ := observe(t)
	full, _ := observeUpTo(t, 1)
	call := &telemetry.CallEvent{Method: "/shop.Stock/Get", Code: 14, Reason: "AttemptsFailed", Duration: time.Millisecond}
	attempt := &telemetry.AttemptEvent{Method: "/shop.Stock/Get", Code: 14}
	for name, r := range map[string]telemetry.Recorder{"known": o.Bind(outGRPC), "overflow": full.Bind(outGRPC)} {
		if n := testing.AllocsPerRun(100, func() { r.Call(call); r.Attempt(attempt) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
	r, i := o.Bind(outGRPC), 0
	if n := testing.AllocsPerRun(10, func() { i++; r.Attempt(&telemetry.AttemptEvent{Subset: strings.Repeat("v", i)}) }); n == 0 {
		t.Error("control: new keys allocate nothing")
	}
}

func TestConcurrentEventsAreAllCounted(t *testing.T) {
	const workers, events = 8, 500
	o, reg := observeUpTo(t, 50)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := range events {
				o.Bind(outGRPC).Attempt(&telemetry.AttemptEvent{Method: fmt.Sprint("/m", i%100)})
			}
		})
	}
	wg.Wait()
	var sum float64
	s := of(gather(t, reg), "weft_attempts_total")
	for _, s := range s {
		sum += s.value
	}
	if sum != workers*events || len(s) != 50 {
		t.Errorf("%v events in %d series, want %d in 50", sum, len(s), workers*events)
	}
}

func BenchmarkCallAndAttempt(b *testing.B) {
	r := newObserver(MaxSeries).Bind(outGRPC)
	call := &telemetry.CallEvent{Method: "/shop.Stock/Get", Duration: time.Millisecond}
	attempt := &telemetry.AttemptEvent{Method: "/shop.Stock/Get"}
	b.ReportAllocs()
	for b.Loop() {
		r.Attempt(attempt)
		r.Call(call)
	}
}

func observe(t *testing.T) (*Observer, *prometheus.Registry) { return observeUpTo(t, MaxSeries) }

func observeUpTo(t *testing.T, limit int) (*Observer, *prometheus.Registry) {
	t.Helper()
	o, reg := newObserver(limit), prometheus.NewPedanticRegistry()
	if err := reg.Register(o); err != nil {
		t.Fatal(err)
	}
	return o, reg
}

// sample is a line of the text that Prometheus reads: name with labels, and value.
type sample struct {
	series string
	value  float64
}

func gather(t *testing.T, g prometheus.Gatherer) (list []sample) {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(g, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatal(w.Body)
	}
	for line := range strings.Lines(w.Body.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, sample{line[:i], v})
	}
	return list
}

// of keeps the series of one metric.
func of(list []sample, metric string) []sample {
	return slices.DeleteFunc(slices.Clone(list), func(s sample) bool { return !strings.HasPrefix(s.series, metric+"{") })
}

// counts gives the lines that count events.
func counts(t *testing.T, g prometheus.Gatherer) (lines []string) {
	t.Helper()
	for _, s := range gather(t, g) {
		if name, _, _ := strings.Cut(s.series, "{"); strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_count") {
			lines = append(lines, fmt.Sprint(s.series, " ", s.value))
		}
	}
	return lines
}

func overflown(list []sample) (n float64) {
	for _, s := range list {
		if strings.Contains(s.series, `service="overflow"`) {
			n += s.value
		}
	}
	return n
}
