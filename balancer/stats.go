package balancer

import (
	"math"
	"sync/atomic"
	"time"
)

// The smoothing of the learned numbers.
const (
	latencySmoothing = 0.1             // share of a new latency in the average
	errorSmoothing   = 0.2             // share of a new result in the error rate
	errorMemory      = 5 * time.Second // an error rate falls to 1/e in this time, even without calls
	errorFloor       = 1e-6            // below this an error rate counts as zero
)

// Stats are what one caller has learned about one instance. Calls report through [Endpoint.Begin] and
// [Endpoint.Done]; everything here only reads. All methods are safe for concurrent use and take no lock; numbers
// read one after the other may come from different moments.
//
// An error teaches nothing about latency: an instance that fails fast must not look like a fast one.
type Stats struct {
	pending   atomic.Int64
	calls     atomic.Uint64
	errors    atomic.Uint64
	latency   atomic.Uint64 // float64 bits, nanoseconds; 0 until the first success
	errorRate atomic.Uint64 // float64 bits, as of errorAt
	errorAt   atomic.Int64  // Unix nanoseconds
	// The rest of 128 bytes: a size class of Go's allocator, hence aligned, and two cache lines, since
	// processors fetch them in pairs. Calls to different endpoints then never write to the same line.
	_ [128 - 6*8]byte
}

// Pending returns the number of calls begun and not done.
func (s *Stats) Pending() int64 { return s.pending.Load() }

// Calls returns how many results were learned since the instance became known.
func (s *Stats) Calls() uint64 { return s.calls.Load() }

// Errors returns how many of [Stats.Calls] were errors.
func (s *Stats) Errors() uint64 { return s.errors.Load() }

// Latency returns the moving average over successful calls, a new one counting a tenth; 0 before the first.
func (s *Stats) Latency() time.Duration {
	return time.Duration(math.Float64frombits(s.latency.Load()))
}

// ErrorRate returns the share of recent calls that failed, from 0 to 1. Each result counts a fifth, and what
// was learned fades with time, to 1/e in 5 seconds, so that an instance nobody calls is forgiven.
func (s *Stats) ErrorRate(now time.Time) float64 {
	rate := math.Float64frombits(s.errorRate.Load())
	if rate == 0 || now.IsZero() {
		return rate
	}
	return rate * fade(now.UnixNano()-s.errorAt.Load())
}

// Result is the outcome of a call to an endpoint.
type Result struct {
	Now     time.Time     // when it ended; zero: the error rate does not fade by this result
	Latency time.Duration // of the whole call; only that of successes is learned
	Err     bool          // the instance failed; not for what the caller itself did wrong
	Ignore  bool          // learn nothing: cancelled, or never sent
}

// Begin says that a call is on its way to e. Exactly one [Endpoint.Done] must follow.
func (e *Endpoint) Begin() { e.Stats.pending.Add(1) }

// Done ends what Begin began and learns from r.
func (e *Endpoint) Done(r Result) {
	e.Stats.pending.Add(-1)
	if !r.Ignore {
		e.Stats.learn(r)
	}
}

func (s *Stats) learn(r Result) {
	s.calls.Add(1)
	s.learnError(r.Err, r.Now)
	if r.Err {
		s.errors.Add(1)
		return
	}
	sample := float64(r.Latency)
	update(&s.latency, func(average float64) float64 {
		if average == 0 {
			return sample
		}
		return average + latencySmoothing*(sample-average)
	})
}

// learnError fades the error rate by the time since the last result and then moves it towards this one. The
// swap gives each stretch of time to exactly one of the results that arrive together.
func (s *Stats) learnError(failed bool, now time.Time) {
	if !failed && s.errorRate.Load() == 0 {
		return // the usual case: nothing to fade, nothing to add
	}
	kept, added := 1-errorSmoothing, 0.0
	if !now.IsZero() {
		at := now.UnixNano()
		kept *= fade(at - s.errorAt.Swap(at))
	}
	if failed {
		added = errorSmoothing
	}
	update(&s.errorRate, func(rate float64) float64 {
		if rate = rate*kept + added; rate < errorFloor {
			return 0
		}
		return rate
	})
}

// fade is the share of an error rate that is left after some nanoseconds. A clock that was set back fades nothing.
func fade(nanoseconds int64) float64 {
	return math.Exp(-float64(max(0, nanoseconds)) / float64(errorMemory))
}

func update(cell *atomic.Uint64, next func(float64) float64) {
	for {
		old := cell.Load()
		if cell.CompareAndSwap(old, math.Float64bits(next(math.Float64frombits(old)))) {
			return
		}
	}
}
