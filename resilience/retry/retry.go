package retry

import (
	"math/rand/v2"
	"time"
)

// MaxPushback is the longest wait that a server can ask for; what is above reads as this.
const MaxPushback = 30 * time.Second

// NoDeadline is the [State] Remaining of a call that may take for ever.
const NoDeadline time.Duration = -1

// Policy says how often and how fast to retry. The zero value, and nil, is the default. It must not change once
// it is in use.
//
// The pause after attempt n is drawn evenly from [Base, Base·2ⁿ], the upper end being at most Max: 25 to 50 ms,
// 25 to 100, 25 to 200, then 25 to 250. The bounds are Envoy's. The draw spreads callers that failed together
// over the whole range, which is what made "full jitter" cause the least work in AWS's simulations
// (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/), but it starts at Base and not
// at 0, as a server that just failed should get a breath. With Max below 2·Base half of Max is random.
type Policy struct {
	Attempts      int           // counts the first; 0 and less reads as 3; 1 never retries
	PerTryTimeout time.Duration // of one attempt; 0: none
	Timeout       time.Duration // of the call with all its attempts and pauses; 0: none
	Base          time.Duration // 0 and less reads as 25 ms
	Max           time.Duration // 0 and less reads as 250 ms
}

// Failure is what is known about a failed attempt.
type Failure struct {
	NotSent   bool          // provably never reached a server: may be repeated whatever the call is
	Retryable bool          // of a kind that another attempt may cure
	Pushback  time.Duration // the server asked to wait that long; 0: it did not; at most [MaxPushback] counts
	NoRetry   bool          // the server asked not to retry
}

// State is how far the call has come.
type State struct {
	Attempt    int           // number of the attempt that failed, from 1
	Idempotent bool          // the call may be made twice
	Replayable bool          // the request can be sent again: its body, if it was touched, can be had anew
	Remaining  time.Duration // until the deadline, 0 when it has passed; below 0 ([NoDeadline]): there is none
}

// Budget is the account that retries are paid from, such as the one of package budget.
type Budget interface {
	// Withdraw reports whether one more retry may be made, and counts it if so. It must not block.
	Withdraw(now time.Time) bool
}

// Rand is a source of numbers in [0, 1), such as *rand.Rand of math/rand/v2.
type Rand interface {
	Float64() float64
}

// Stop is the reason why there is no retry; "" means that there is one.
type Stop string

const (
	StopAttempts      Stop = "attempts"       // all attempts are used
	StopPushback      Stop = "pushback"       // the server asked not to retry
	StopNotRetryable  Stop = "not retryable"  // another attempt would fail too
	StopNotIdempotent Stop = "not idempotent" // the server may have seen the call, and it must not be made twice
	StopNotReplayable Stop = "not replayable" // the request cannot be sent again
	StopDeadline      Stop = "deadline"       // the time is up, or the pause does not fit into what is left
	StopBudget        Stop = "budget"         // calls to this service retry too much already
)

// Next says what to do after a failed attempt: wait for delay and try again, or stop. The budget is asked last, so
// that it pays only for retries that are made; nil is an unlimited one. A nil r draws from math/rand/v2.
//
// A first attempt that was not sent is repeated at once, as another endpoint will be tried. A server's pushback
// replaces the computed pause.
func (p *Policy) Next(now time.Time, s State, f Failure, b Budget, r Rand) (delay time.Duration, stop Stop) {
	policy := p.defaulted()
	if stop := policy.refuse(s, f); stop != "" {
		return 0, stop
	}
	delay = policy.delay(s.Attempt, f, r)
	if s.Remaining >= 0 && delay >= s.Remaining {
		return 0, StopDeadline
	}
	if b != nil && !b.Withdraw(now) {
		return 0, StopBudget
	}
	return delay, ""
}

func (p *Policy) refuse(s State, f Failure) Stop {
	switch {
	case s.Attempt >= p.Attempts:
		return StopAttempts
	case f.NoRetry:
		return StopPushback
	case !f.NotSent && !f.Retryable:
		return StopNotRetryable
	case !f.NotSent && !s.Idempotent:
		return StopNotIdempotent
	case !s.Replayable:
		return StopNotReplayable
	}
	return ""
}

func (p *Policy) delay(attempt int, f Failure, r Rand) time.Duration {
	switch {
	case f.Pushback > 0:
		return min(f.Pushback, MaxPushback)
	case f.NotSent && attempt <= 1:
		return 0
	}
	return p.backoff(attempt, r)
}

func (p *Policy) backoff(attempt int, r Rand) time.Duration {
	high, shift := p.Max, max(attempt, 1)
	if p.Base <= p.Max>>shift { // else Base·2ⁿ is above Max, and perhaps no longer a number
		high = p.Base << shift
	}
	low := min(p.Base, high/2)
	return low + time.Duration(float64(high-low)*draw(r))
}

func draw(r Rand) float64 {
	if r == nil {
		return rand.Float64()
	}
	return r.Float64()
}

func (p *Policy) defaulted() Policy {
	var d Policy
	if p != nil {
		d = *p
	}
	if d.Attempts <= 0 {
		d.Attempts = 3
	}
	if d.Base <= 0 {
		d.Base = 25 * time.Millisecond
	}
	if d.Max <= 0 {
		d.Max = 250 * time.Millisecond
	}
	return d
}
