package balancer

import (
	"math"
	"sync"
	"testing"
	"time"
	"unsafe"
)

var start = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func TestStatsDoNotShareCacheLines(t *testing.T) {
	if size := unsafe.Sizeof(Stats{}); size != 128 {
		t.Errorf("Stats has %d bytes, want 128", size)
	}
	for _, e := range equalWeights(100) {
		if address := uintptr(unsafe.Pointer(e.Stats)); address%128 != 0 {
			t.Errorf("Stats at %x is not aligned to 128 bytes", address)
		}
	}
}

func TestPendingIsPaired(t *testing.T) {
	e := equalWeights(1)[0]
	e.Begin()
	e.Begin()
	if got := e.Stats.Pending(); got != 2 {
		t.Errorf("pending %d after two Begin", got)
	}
	e.Done(Result{Now: start})
	e.Done(Result{Ignore: true})
	if got := e.Stats.Pending(); got != 0 {
		t.Errorf("pending %d after as many Done", got)
	}
}

func report(e *Endpoint, r Result) {
	e.Begin()
	e.Done(r)
}

func TestLatencyIsLearnedFromSuccess(t *testing.T) {
	e := equalWeights(1)[0]
	report(e, Result{Now: start, Latency: 100 * time.Millisecond})
	if got := e.Stats.Latency(); got != 100*time.Millisecond {
		t.Errorf("after the first: %v", got)
	}
	report(e, Result{Now: start, Latency: 200 * time.Millisecond})
	if got := e.Stats.Latency().Round(time.Microsecond); got != 110*time.Millisecond {
		t.Errorf("after the second: %v", got)
	}
	report(e, Result{Now: start, Latency: time.Millisecond, Err: true})
	report(e, Result{Now: start, Latency: time.Millisecond, Ignore: true})
	if got := e.Stats.Latency().Round(time.Microsecond); got != 110*time.Millisecond {
		t.Errorf("an error or an ignored result taught a latency: %v", got)
	}
	if calls, errors := e.Stats.Calls(), e.Stats.Errors(); calls != 3 || errors != 1 {
		t.Errorf("calls %d, errors %d; want 3, 1", calls, errors)
	}
}

func TestErrorRate(t *testing.T) {
	failed, ok := Result{Now: start, Err: true}, Result{Now: start}
	later := func(r Result, d time.Duration) Result { r.Now = r.Now.Add(d); return r }
	unclocked := Result{Err: true}
	tests := []struct {
		name    string
		results []Result
		at      time.Time
		want    float64
	}{
		{"nothing", nil, start, 0},
		{"one success", []Result{ok}, start, 0},
		{"one error", []Result{failed}, start, 0.2},
		{"two errors", []Result{failed, failed}, start, 0.36},
		{"error, success", []Result{failed, ok}, start, 0.16},
		{"ignored", []Result{{Now: start, Err: true, Ignore: true}}, start, 0},
		{"fades while nobody calls", []Result{failed}, start.Add(5 * time.Second), 0.2 / math.E},
		{"fades between results", []Result{failed, later(failed, 5*time.Second)}, start.Add(5 * time.Second), 0.16/math.E + 0.2},
		{"clock set back", []Result{failed, later(failed, -time.Hour)}, start.Add(-time.Hour), 0.36},
		{"no clock", []Result{unclocked, unclocked}, time.Time{}, 0.36},
	}
	for _, test := range tests {
		e := equalWeights(1)[0]
		for _, r := range test.results {
			report(e, r)
		}
		if got := e.Stats.ErrorRate(test.at); math.Abs(got-test.want) > 1e-9 {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

func TestErrorRateReturnsToZero(t *testing.T) {
	e := equalWeights(1)[0]
	report(e, Result{Now: start, Err: true})
	for range 100 {
		report(e, Result{Now: start})
	}
	if got := e.Stats.ErrorRate(start); got != 0 {
		t.Errorf("after 100 successes: %v", got)
	}
}

func TestStatsInParallel(t *testing.T) {
	const workers, each = 8, 1000
	e := equalWeights(1)[0]
	var group sync.WaitGroup
	for w := range workers {
		group.Go(func() {
			for i := range each {
				report(e, Result{Now: start.Add(time.Duration(i)), Latency: time.Second, Err: w == 0})
			}
		})
	}
	group.Wait()
	s := e.Stats
	if s.Pending() != 0 || s.Calls() != workers*each || s.Errors() != each || s.Latency() != time.Second {
		t.Errorf("pending %d, calls %d, errors %d, latency %v", s.Pending(), s.Calls(), s.Errors(), s.Latency())
	}
	if rate := s.ErrorRate(start); rate < 0 || rate > 1 {
		t.Errorf("error rate %v", rate)
	}
}

func TestStatsDoNotAllocate(t *testing.T) {
	e := equalWeights(1)[0]
	for _, r := range []Result{{Now: start, Latency: time.Second}, {Now: start, Err: true}, {Ignore: true}} {
		if n := testing.AllocsPerRun(100, func() { report(e, r) }); n != 0 {
			t.Errorf("%+v: %v allocations", r, n)
		}
	}
}
