package retry

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

type fixed float64

func (f fixed) Float64() float64 { return float64(f) }

// purse is a budget that counts what is asked of it.
type purse struct{ tokens, asked int }

func (p *purse) Withdraw(time.Time) bool {
	p.asked++
	p.tokens--
	return p.tokens >= 0
}

// ok is a state in which nothing forbids a retry.
func ok(change ...func(*State)) State {
	s := State{Attempt: 1, Idempotent: true, Replayable: true, Remaining: NoDeadline}
	for _, c := range change {
		c(&s)
	}
	return s
}

func TestNext(t *testing.T) {
	retryable, notSent := Failure{Retryable: true}, Failure{NotSent: true}
	attempt := func(n int) func(*State) { return func(s *State) { s.Attempt = n } }
	remaining := func(d time.Duration) func(*State) { return func(s *State) { s.Remaining = d } }
	unsafe := func(s *State) { s.Idempotent = false }
	consumed := func(s *State) { s.Replayable = false }

	type answer struct {
		Delay time.Duration
		Stop  Stop
		Asked int // how often the budget was asked
	}
	refused := func(s Stop) answer { return answer{Stop: s} }
	tests := []struct {
		name    string
		policy  *Policy
		state   State
		failure Failure
		tokens  int
		want    answer
	}{
		{"retryable", &Policy{}, ok(), retryable, 1, answer{25 * ms, "", 1}},
		{"nil policy", nil, ok(), retryable, 1, answer{25 * ms, "", 1}},
		{"neither kind", &Policy{}, ok(), Failure{}, 1, refused(StopNotRetryable)},
		{"second of three", &Policy{}, ok(attempt(2)), retryable, 1, answer{25 * ms, "", 1}},
		{"third of three", &Policy{}, ok(attempt(3)), retryable, 1, refused(StopAttempts)},
		{"beyond the last", &Policy{}, ok(attempt(9)), notSent, 1, refused(StopAttempts)},
		{"one attempt", &Policy{Attempts: 1}, ok(), notSent, 1, refused(StopAttempts)},
		{"ten attempts", &Policy{Attempts: 10}, ok(attempt(9)), retryable, 1, answer{25 * ms, "", 1}},
		{"below the bound", &Policy{Attempts: -1}, ok(attempt(-3)), retryable, 1, answer{25 * ms, "", 1}},

		{"not idempotent", &Policy{}, ok(unsafe), retryable, 1, refused(StopNotIdempotent)},
		{"not idempotent, not sent", &Policy{}, ok(unsafe), notSent, 1, answer{0, "", 1}},
		{"not sent and not retryable otherwise", &Policy{}, ok(), notSent, 1, answer{0, "", 1}},
		{"not replayable", &Policy{}, ok(consumed), retryable, 1, refused(StopNotReplayable)},
		{"not replayable, not sent", &Policy{}, ok(consumed), notSent, 1, refused(StopNotReplayable)},

		{"not sent again", &Policy{}, ok(attempt(2)), notSent, 1, answer{25 * ms, "", 1}},
		{"server forbids", &Policy{}, ok(), Failure{Retryable: true, NoRetry: true}, 1, refused(StopPushback)},
		{"server forbids, not sent", &Policy{}, ok(), Failure{NotSent: true, NoRetry: true}, 1, refused(StopPushback)},
		{"server asks to wait", &Policy{}, ok(), Failure{Retryable: true, Pushback: 2 * time.Second}, 1, answer{2 * time.Second, "", 1}},
		{"server asks to wait, not sent", &Policy{}, ok(), Failure{NotSent: true, Pushback: time.Second}, 1, answer{time.Second, "", 1}},
		{"server asks for an hour", &Policy{}, ok(), Failure{Retryable: true, Pushback: time.Hour}, 1, answer{30 * time.Second, "", 1}},
		{"negative pushback is none", &Policy{}, ok(), Failure{Retryable: true, Pushback: -1}, 1, answer{25 * ms, "", 1}},

		{"time enough", &Policy{}, ok(remaining(26 * ms)), retryable, 1, answer{25 * ms, "", 1}},
		{"no time for the pause", &Policy{}, ok(remaining(25 * ms)), retryable, 1, refused(StopDeadline)},
		{"no time for the pushback", &Policy{}, ok(remaining(time.Second)), Failure{Retryable: true, Pushback: time.Second}, 1, refused(StopDeadline)},
		{"no time at all", &Policy{}, ok(remaining(0)), notSent, 1, refused(StopDeadline)},
		{"a little time, no pause", &Policy{}, ok(remaining(1)), notSent, 1, answer{0, "", 1}},

		{"budget used up", &Policy{}, ok(), retryable, 0, answer{0, StopBudget, 1}},
		{"budget used up, not sent", &Policy{}, ok(), notSent, 0, answer{0, StopBudget, 1}},
		{"the budget does not pay for what another check refuses", &Policy{}, ok(attempt(3)), retryable, 0, refused(StopAttempts)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := &purse{tokens: tt.tokens}
			delay, stop := tt.policy.Next(time.Time{}, tt.state, tt.failure, b, fixed(0))
			if diff := cmp.Diff(tt.want, answer{delay, stop, b.asked}); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	tests := []struct {
		name      string
		policy    Policy
		attempt   int
		low, high time.Duration
	}{
		{"first", Policy{}, 1, 25 * ms, 50 * ms},
		{"second", Policy{}, 2, 25 * ms, 100 * ms},
		{"third", Policy{}, 3, 25 * ms, 200 * ms},
		{"at the bound", Policy{}, 4, 25 * ms, 250 * ms},
		{"far beyond", Policy{}, 1_000_000, 25 * ms, 250 * ms},
		{"own base", Policy{Base: 10 * ms, Max: time.Second}, 2, 10 * ms, 40 * ms},
		{"exactly max", Policy{Base: 10 * ms, Max: 40 * ms}, 2, 10 * ms, 40 * ms},
		{"base above max", Policy{Base: time.Second}, 1, 125 * ms, 250 * ms},
		{"base is max", Policy{Base: 250 * ms}, 1, 125 * ms, 250 * ms},
		{"below the bounds", Policy{Base: -1, Max: -1}, 1, 25 * ms, 50 * ms},
		{"the longest", Policy{Base: 1, Max: math.MaxInt64}, 62, 1, 1 << 62},
		{"no overflow", Policy{Base: 3, Max: math.MaxInt64}, 62, 3, math.MaxInt64},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.policy
			p.Attempts = math.MaxInt
			pause := func(r float64) time.Duration {
				d, stop := p.Next(time.Time{}, ok(func(s *State) { s.Attempt = tt.attempt }), Failure{Retryable: true}, nil, fixed(r))
				if stop != "" {
					t.Fatalf("stopped: %s", stop)
				}
				return d
			}
			if got := pause(0); got != tt.low {
				t.Errorf("shortest %v, want %v", got, tt.low)
			}
			if got, near := pause(0.999_999), tt.high-tt.high/100_000; got < near || got > tt.high {
				t.Errorf("longest %v, want just below %v", got, tt.high)
			}
		})
	}
}

// Callers that failed together must not come back together: no tenth of the range may get more than twice its
// share of them. The control draws without jitter.
func TestJitter(t *testing.T) {
	if most := crowd(rand.New(rand.NewPCG(1, 2))); most > 200 {
		t.Errorf("%d of 1,000 callers retry within a tenth of the range", most)
	}
	if most := crowd(fixed(0.5)); most <= 200 {
		t.Errorf("without jitter %d of 1,000 callers retry together: the test proves nothing", most)
	}
}

func crowd(r Rand) (most int) {
	var counts [10]int
	var p Policy
	for range 1_000 {
		d, _ := p.Next(time.Time{}, ok(), Failure{Retryable: true}, nil, r)
		i := int((d - 25*ms) * 10 / (25 * ms))
		counts[i]++
		most = max(most, counts[i])
	}
	return most
}

func TestOwnRandomSource(t *testing.T) {
	for range 100 {
		if d, stop := (*Policy)(nil).Next(time.Time{}, ok(), Failure{Retryable: true}, nil, nil); stop != "" || d < 25*ms || d > 50*ms {
			t.Fatalf("pause %v, stop %q; want 25 to 50 ms", d, stop)
		}
	}
}

func TestAllocations(t *testing.T) {
	p, b, r := &Policy{}, &purse{tokens: math.MaxInt}, rand.New(rand.NewPCG(1, 2))
	s, f := ok(), Failure{Retryable: true}
	if n := testing.AllocsPerRun(1_000, func() { p.Next(time.Time{}, s, f, b, r) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}
