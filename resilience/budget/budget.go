package budget

import (
	"sync/atomic"
	"time"
)

// Config is how much may be spent: the larger of both. With both 0 nothing may.
type Config struct {
	Percent   int // of calls; below 0 reads as 0, above 100 as 100
	PerSecond int // whatever the number of calls; below 0 reads as 0, above 1,000,000 as 1,000,000
}

// Default is 10 % of calls or 3 a second.
func Default() Config { return Config{Percent: 10, PerSecond: 3} }

const (
	token        = 100 // balances are in hundredths of a withdrawal, so that one call deposits exactly Percent
	maxPerSecond = 1_000_000

	// lateness is how far behind the current second a caller's time may be before it means that the clock was
	// set back, rather than that the caller was descheduled after it read the clock.
	lateness = 10
)

// Budget is the account of one (process, service). It is safe for concurrent use, never blocks and never
// allocates.
//
// Time is cut into seconds. Each second is worth the larger of Percent of its calls so far and PerSecond times
// its elapsed part; what a second leaves unspent is stored. So over any run of whole seconds the withdrawals are
// at most what was stored plus, for each second, the larger of both, however many goroutines withdraw: every one
// of them is paid from the one word stored. Two separate accounts would allow the sum to goroutines that race.
//
// The store is capped at the larger of PerSecond and Percent of the calls in the current or the previous second,
// and holds at least one withdrawal, so that ten percent of few calls adds up over time. A new budget stores
// PerSecond. After two idle seconds there is no more than that.
type Budget struct {
	window   atomic.Uint64 // the current second (Unix time, high half) and its calls (low half)
	previous atomic.Uint32 // calls of the second before it
	stored   atomic.Int64  // hundredths left of earlier seconds, less what this one spent; may be negative or above the cap
	config   atomic.Uint64 // Percent (high half) and PerSecond (low half)
}

// New returns a budget that has stored one second's worth of PerSecond.
func New(c Config) *Budget {
	b := &Budget{}
	b.Update(c)
	b.stored.Store(int64(b.limits().PerSecond) * token)
	return b
}

// Update changes the configuration. What is stored stays, up to the new cap, which good times before may have filled
// already, so raising it takes effect at once. The current second earns by the new configuration from its start: if it
// spent more than that, nothing is granted until it ends. The same configuration changes nothing.
func (b *Budget) Update(c Config) {
	percent, perSecond := clamp(c.Percent, 100), clamp(c.PerSecond, maxPerSecond)
	b.config.Store(percent<<32 | perSecond)
}

func clamp(n, most int) uint64 { return uint64(min(max(n, 0), most)) }

func (b *Budget) limits() Config {
	c := b.config.Load()
	return Config{Percent: int(c >> 32), PerSecond: int(uint32(c))}
}

// Deposit counts a call. Say it once for each call, when it is sent, not when it ends: what a slow service
// has not answered yet is load too.
func (b *Budget) Deposit(now time.Time) {
	b.roll(now)
	b.window.Add(1)
}

// Withdraw reports whether one retry or hedge may be made, and takes it from the balance if so.
func (b *Budget) Withdraw(now time.Time) bool {
	b.roll(now)
	for {
		stored := b.stored.Load()
		earned, balance := b.balance(stored, now)
		if balance < token {
			return false
		}
		if b.stored.CompareAndSwap(stored, balance-token-earned) {
			return true
		}
	}
}

// Balance returns how many withdrawals would be granted now; a fraction is on its way to the next one.
func (b *Budget) Balance(now time.Time) float64 {
	b.roll(now)
	_, balance := b.balance(b.stored.Load(), now)
	return float64(max(balance, 0)) / token
}

// balance returns what the current second has earned so far, and that plus stored, capped. A goroutine whose now
// belongs to an earlier second may borrow from this one; it is paid back when this one is closed.
func (b *Budget) balance(stored int64, now time.Time) (earned, balance int64) {
	c, calls := b.limits(), int64(uint32(b.window.Load()))
	elapsed := int64(now.Nanosecond())
	earned = max(int64(c.Percent)*calls, int64(c.PerSecond)*elapsed/(int64(time.Second)/token))
	return earned, min(stored+earned, c.most(max(calls, int64(b.previous.Load()))))
}

// most is the cap of the store for a service that gets calls in a second.
func (c Config) most(calls int64) int64 {
	if c.Percent == 0 {
		return int64(c.PerSecond) * token
	}
	return max(token, int64(c.PerSecond)*token, int64(c.Percent)*calls)
}

// roll closes the current second if now is in a later one: what it earned goes to the store.
func (b *Budget) roll(now time.Time) {
	for {
		w, second := b.window.Load(), uint32(now.Unix())
		passed := int64(int32(second - uint32(w>>32)))
		if passed == 0 || passed < 0 && passed > -lateness {
			return
		}
		if b.window.CompareAndSwap(w, uint64(second)<<32) {
			b.store(int64(uint32(w)), passed)
			return
		}
	}
}

// store credits a second with that many calls, and the idle seconds after it. Between the change of the window
// and this a concurrent Withdraw sees too little, never too much. The cap is applied where the store is used.
func (b *Budget) store(calls, passed int64) {
	if passed != 1 {
		b.previous.Store(0)
	} else {
		b.previous.Store(uint32(calls))
	}
	c := b.limits()
	var credit int64 // none when the clock was set back
	if passed > 0 {
		credit = max(int64(c.Percent)*calls, int64(c.PerSecond)*token) + (passed-1)*int64(c.PerSecond)*token
	}
	for {
		stored := b.stored.Load() // with credit below 0 only if an update made the second worth less than it spent
		if b.stored.CompareAndSwap(stored, max(stored+credit, 0)) {
			return
		}
	}
}
