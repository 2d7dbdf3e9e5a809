package budget

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 300e6, time.UTC) // not at the start of a second

// account is what the load below needs of a budget, so that a control can take its place.
type account interface {
	Deposit(time.Time)
	Withdraw(time.Time) bool
}

// unlimited is the control: retries with no budget.
type unlimited struct{}

func (unlimited) Deposit(time.Time)       {}
func (unlimited) Withdraw(time.Time) bool { return true }

// outage makes calls at an even rate, each of which fails three attempts, and returns the times of the retries.
func outage(a account, rate int, from time.Time, lasting time.Duration) (retries []time.Time) {
	for t := from; t.Before(from.Add(lasting)); t = t.Add(time.Second / time.Duration(rate)) {
		a.Deposit(t)
		for attempt := 1; attempt < 3 && a.Withdraw(t); attempt++ {
			retries = append(retries, t)
		}
	}
	return retries
}

// busiest is the largest number of times within any one second.
func busiest(times []time.Time) (most int) {
	first := 0
	for i, t := range times {
		for t.Sub(times[first]) >= time.Second {
			first++
		}
		most = max(most, i-first+1)
	}
	return most
}

// within checks an outage of 20 s against the promise: the larger of 10 % and 3 a second, plus one second's worth
// that may have been stored before.
func within(a account, rate int) error {
	const seconds = 20
	retries := outage(a, rate, start, seconds*time.Second)
	worth := max(float64(rate)/10, 3)
	if most := int(worth*seconds) + 3; len(retries) > most {
		return fmt.Errorf("%d retries in %d s at %d calls/s, want at most %d", len(retries), seconds, rate, most)
	}
	if least := int(worth * seconds * 0.95); len(retries) < least {
		return fmt.Errorf("%d retries in %d s at %d calls/s, want at least %d", len(retries), seconds, rate, least)
	}
	if most := int(2 * worth); busiest(retries) > most {
		return fmt.Errorf("%d retries in one second at %d calls/s, want at most %d", busiest(retries), rate, most)
	}
	return nil
}

func TestOutage(t *testing.T) {
	for _, rate := range []int{5, 29, 31, 100, 1_000, 20_000} {
		if err := within(New(Default()), rate); err != nil {
			t.Error(err)
		}
		if within(unlimited{}, rate) == nil {
			t.Errorf("without a budget the bound holds too at %d calls/s: the test proves nothing", rate)
		}
	}
}

// An outage after good times finds one second's worth stored, not more.
func TestOutageAfterHealth(t *testing.T) {
	b := New(Default())
	now := start
	for range 10_000 {
		b.Deposit(now)
		now = now.Add(time.Millisecond)
	}
	retries := outage(b, 1_000, now, 10*time.Second)
	if len(retries) > 1_100 || busiest(retries) > 200 {
		t.Errorf("%d retries, %d in one second; want at most 1100 and 200", len(retries), busiest(retries))
	}
	if got := busiest(retries); got < 150 {
		t.Errorf("%d retries in the busiest second: what was stored was not used", got)
	}
}

func drain(b *Budget, now time.Time) (n int) {
	for b.Withdraw(now) {
		n++
	}
	return n
}

func TestStored(t *testing.T) {
	tests := []struct {
		name   string
		config Config
		calls  int // at 1,000 a second
		idle   time.Duration
		want   int
	}{
		{"cold start", Default(), 0, 0, 3},
		{"cold start, later", Default(), 0, time.Hour, 3},
		{"cold start, percent alone", Config{Percent: 10}, 0, time.Hour, 0},
		{"first calls", Default(), 40, 0, 4},
		{"calls of one second", Default(), 1_000, 0, 100},
		{"calls of ten seconds", Default(), 10_000, 0, 100},
		{"a short pause", Default(), 10_000, 500 * time.Millisecond, 100},
		{"idle", Default(), 10_000, 2 * time.Second, 3},
		{"idle for a day", Default(), 10_000, 24 * time.Hour, 3},
		{"idle, percent alone", Config{Percent: 10}, 10_000, time.Hour, 1},
		{"idle, per second alone", Config{PerSecond: 7}, 10_000, time.Hour, 7},
		{"never", Config{}, 10_000, time.Hour, 0},
		{"never, below zero", Config{Percent: -5, PerSecond: -1}, 10_000, 0, 0},
		{"above the bound", Config{Percent: 500}, 1_000, 0, 1_000},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, now := New(tt.config), start.Truncate(time.Second)
			for range tt.calls {
				b.Deposit(now)
				now = now.Add(time.Millisecond)
			}
			now = now.Add(tt.idle)
			if got := int(b.Balance(now)); got != tt.want {
				t.Errorf("balance %d, want %d", got, tt.want)
			}
			if got := drain(b, now); got != tt.want {
				t.Errorf("withdrew %d, want %d", got, tt.want)
			}
		})
	}
}

// Ten percent of one call a second is a retry every ten seconds, although a second's worth is less than one.
func TestFewCalls(t *testing.T) {
	retries := outage(New(Config{Percent: 10}), 1, start, 100*time.Second)
	if got := len(retries); got < 9 || got > 10 {
		t.Errorf("%d retries of 100 calls, want 9 or 10", got)
	}
}

// Time is credited as it passes, not at the start of each second: callers with little traffic would all retry then.
func TestSmooth(t *testing.T) {
	b := New(Config{PerSecond: 10})
	drain(b, start)
	for i := range 30 {
		now := start.Add(time.Duration(i+1) * 100 * time.Millisecond)
		if got := drain(b, now); got != 1 {
			t.Fatalf("withdrew %d after %v, want 1 every 100 ms", got, now.Sub(start))
		}
	}
}

// Random use against the promise, for every run of whole seconds: what is withdrawn is at most what could be stored
// at its start plus the larger of both for each of its seconds.
func TestPromise(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := Config{Percent: r.IntN(30), PerSecond: r.IntN(12)}
		if err := promise(New(c), c, r); err != nil {
			t.Errorf("seed %d, %+v: %v", seed, c, err)
		}
		if r := rand.New(rand.NewPCG(seed, 1)); promise(unlimited{}, c, r) == nil {
			t.Errorf("seed %d: the promise holds without a budget: the test proves nothing", seed)
		}
	}
}

func promise(a account, c Config, r *rand.Rand) error {
	calls, withdrawn := randomUse(a, r)
	for from := range calls {
		before := 0
		if from > 0 {
			before = calls[from-1]
		}
		// In hundredths, as rounding would hide one token in a hundred.
		worth := max(c.PerSecond*100, c.Percent*max(before, calls[from]), 100)
		used := 0
		for i := from; i < len(calls); i++ {
			worth += max(c.PerSecond*100, c.Percent*calls[i])
			used += withdrawn[i] * 100
			if used > worth {
				return fmt.Errorf("%d withdrawn in seconds %d to %d, worth %d", used/100, from, i, worth/100)
			}
		}
	}
	return nil
}

// randomUse returns the calls and withdrawals in each second.
func randomUse(a account, r *rand.Rand) (calls, withdrawn []int) {
	const seconds = 30
	calls, withdrawn = make([]int, seconds), make([]int, seconds)
	from, pace := start.Truncate(time.Second), 100+r.IntN(1_000)
	for now := from; now.Before(from.Add(seconds * time.Second)); {
		switch r.IntN(100) {
		case 0:
			pace = 1 + r.IntN(1_000)
		case 1:
			now = now.Add(time.Duration(r.Int64N(int64(3 * time.Second))))
			continue
		default:
			now = now.Add(time.Duration(r.Int64N(int64(2*time.Second) / int64(pace))))
		}
		second := int(now.Sub(from) / time.Second)
		if second >= seconds {
			break
		}
		a.Deposit(now)
		calls[second]++
		for range r.IntN(4) {
			if a.Withdraw(now) {
				withdrawn[second]++
			}
		}
	}
	return calls, withdrawn
}

func TestUpdate(t *testing.T) {
	b, now := New(Default()), start.Truncate(time.Second)
	for range 1_000 {
		b.Deposit(now)
	}
	for range 60 {
		b.Withdraw(now)
	}
	b.Update(Default())
	if got := b.Balance(now); got != 40 {
		t.Errorf("balance %v after the same configuration came again, want 40", got)
	}
	b.Update(Config{PerSecond: 5}) // this second has spent 60, and is now worth less
	for after, want := range []float64{0, 0, 5, 5} {
		if got := b.Balance(now.Add(time.Duration(after) * time.Second)); got != want {
			t.Errorf("balance %v after %d s with a lower cap, want %v", got, after, want)
		}
	}
	b.Update(Config{})
	if b.Withdraw(now.Add(3 * time.Second)) {
		t.Error("withdrew from a budget that was switched off")
	}
}

// A push must not fill a budget that was used up.
func TestUpdateDoesNotRefill(t *testing.T) {
	b, now := New(Default()), start.Truncate(time.Second)
	drain(b, now)
	for range 100 {
		b.Update(Default())
		if b.Withdraw(now) {
			t.Fatal("an update refilled the budget")
		}
	}
}

func TestClock(t *testing.T) {
	b := New(Default())
	now := start.Truncate(time.Second)
	b.Withdraw(now)
	if got := b.Balance(now.Add(-time.Hour)); got != 2 {
		t.Errorf("balance %v after the clock was set back, want 2 as before", got)
	}
	b = New(Default())
	drain(b, start)
	late := start.Add(-2 * time.Second) // a goroutine that was descheduled after it read the clock
	if b.Withdraw(late) || b.Withdraw(start) {
		t.Error("time that went back and forth earned something")
	}
	back := start.Add(-time.Hour)
	if b.Withdraw(back) {
		t.Error("a clock that was set back earned something")
	}
	if got := drain(b, back.Add(10*time.Second)); got != 3 {
		t.Errorf("withdrew %d ten seconds after the clock was set back, want 3", got)
	}
}

func TestParallel(t *testing.T) {
	for range 20 {
		b := New(Default())
		var granted atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 500 {
					b.Deposit(start)
				}
				for range 500 {
					if b.Withdraw(start) {
						granted.Add(1)
					}
				}
			})
		}
		wg.Wait()
		if total := granted.Load() + int64(drain(b, start)); total != 400 {
			t.Fatalf("%d withdrawals of 4,000 calls by 8 goroutines, want 400", total)
		}
	}
}

// Goroutines race over the ends of seconds. None can be late by more than the run, which is within lateness.
func TestParallelSeconds(t *testing.T) {
	const workers, calls, seconds = 8, 90_000, lateness - 1
	b := New(Default())
	var clock, granted atomic.Int64
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := clock.Add(1); i <= calls; i = clock.Add(1) {
				now := start.Add(time.Duration(i) * seconds * time.Second / calls)
				b.Deposit(now)
				if b.Withdraw(now) {
					granted.Add(1)
				}
			}
		})
	}
	wg.Wait()
	// A call may count in the second after its own, which leaves its own second worth PerSecond at least.
	const most, least = calls/10 + 3*(seconds+2), calls / 20
	if got := granted.Load(); got > most || got < least {
		t.Errorf("%d withdrawals, want %d to %d", got, least, most)
	}
}

func TestAllocations(t *testing.T) {
	b, now := New(Default()), start
	if n := testing.AllocsPerRun(1_000, func() {
		now = now.Add(time.Millisecond)
		b.Deposit(now)
		b.Withdraw(now)
	}); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func BenchmarkDeposit(b *testing.B) {
	budget := New(Default())
	for b.Loop() {
		budget.Deposit(start)
	}
}

func BenchmarkDepositParallel(b *testing.B) {
	budget := New(Default())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Deposit(start)
		}
	})
}

func BenchmarkWithdrawParallel(b *testing.B) {
	budget := New(Default())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			budget.Deposit(start)
			budget.Withdraw(start)
		}
	})
}
