package outlier

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// HealthyInterval is the time in service that takes one earlier ejection off a host's record, as in Envoy.
const HealthyInterval = 10 * time.Second

// Config says when hosts are ejected and for how long.
//
// An ejection lasts Base times the number of earlier ones still on the host's record plus one, at most Max. Half
// of that is fixed and half is random, so that hosts ejected together are not probed together.
type Config struct {
	Consecutive       int           // failures in a row that eject; 0 and less: nothing is ejected
	Base              time.Duration // 0 and less reads as 5 s
	Max               time.Duration // 0 and less reads as 300 s
	MaxEjectedPercent int           // of the pool, rounded down, and never the last host; 0 and less: nothing is ejected; above 100 reads as 100
}

// Default is 5 failures in a row, 5 s to 300 s, half of the pool.
func Default() Config {
	return Config{Consecutive: 5, Base: 5 * time.Second, Max: 300 * time.Second, MaxEjectedPercent: 50}
}

func (c Config) defaulted() *Config {
	if c.Base <= 0 {
		c.Base = 5 * time.Second
	}
	if c.Max <= 0 {
		c.Max = 300 * time.Second
	}
	c.MaxEjectedPercent = min(max(c.MaxEjectedPercent, 0), 100)
	return &c
}

// allowed is how many of a pool may be ejected.
func (c *Config) allowed(pool int) int {
	if c.Consecutive <= 0 {
		return 0
	}
	return max(0, min(pool*c.MaxEjectedPercent/100, pool-1))
}

// length is how long an ejection lasts. Base·times is compared by division, as the product may not be a number.
func (c *Config) length(times int, random float64) time.Duration {
	d := c.Max
	if c.Base <= c.Max/time.Duration(times) {
		d = c.Base * time.Duration(times)
	}
	return d/2 + time.Duration(float64(d-d/2)*random)
}

// Option changes a [Detector] that is being made.
type Option func(*Detector)

// WithObserver has f called after each change, outside the detector's lock, by the goroutine that caused it. So f
// may use the detector, must not block, and may see changes that happen at the same time in either order.
func WithObserver(f func(Event)) Option { return func(d *Detector) { d.observe = f } }

// WithRand draws the random half of ejection times from f, a source of numbers in [0, 1). It is called under the
// detector's lock. Without it math/rand/v2 is used.
func WithRand(f func() float64) Option { return func(d *Detector) { d.random = f } }

// Detector watches the pool of one service. What it has learned outlives changes of its configuration and of the
// pool. It is safe for concurrent use.
type Detector struct {
	config  atomic.Pointer[Config]
	observe func(Event)    // nil: nobody watches
	random  func() float64 // under mu

	mu      sync.Mutex
	pool    int
	ejected []*Host // those not in service, the longest ejected first
	// origin is the time of the first ejection. The states of hosts are offsets from it, which keeps the
	// monotonic clock in them: a clock that is set back holds nobody in ejection. It is written before the first
	// state that is read with it.
	origin  time.Time
	started bool
}

// New returns a detector with an empty pool.
func New(cfg Config, options ...Option) *Detector {
	d := &Detector{random: rand.Float64}
	d.config.Store(cfg.defaulted())
	for _, o := range options {
		o(d)
	}
	return d
}

// Update changes the configuration. Ejections under way keep their time; those that the new caps do not allow
// end at once, the oldest first.
func (d *Detector) Update(cfg Config) {
	d.mu.Lock()
	d.config.Store(cfg.defaulted())
	returned := d.trim()
	d.mu.Unlock()
	d.notify(returned)
}

// Host adds a host in service to the pool.
func (d *Detector) Host() *Host {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.pool++
	return &Host{d: d}
}

// Remove takes a host out of the pool. It may be used further by attempts under way, and is never ejected again.
// The caps count against the smaller pool: ejections above them end, the oldest first. A host of another detector,
// or one removed before, is ignored.
func (d *Detector) Remove(h *Host) {
	if h == nil || h.d != d {
		return
	}
	d.mu.Lock()
	returned := d.remove(h)
	d.mu.Unlock()
	d.notify(returned)
}

func (d *Detector) remove(h *Host) []Event {
	if h.removed {
		return nil
	}
	h.removed = true
	d.pool--
	d.restore(h, time.Time{})
	return d.trim()
}

// restore puts a host back into service as of now. The caller holds mu.
func (d *Detector) restore(h *Host, now time.Time) {
	h.state.Store(inService)
	h.consecutive.Store(0)
	h.returned = now
	d.ejected = slices.DeleteFunc(d.ejected, func(e *Host) bool { return e == h })
}

// trim ends the ejections that the caps do not allow. Their hosts start to earn forgiveness when the ejection would
// have ended, as nothing was learned about them. The caller holds mu.
func (d *Detector) trim() (events []Event) {
	for allowed := d.config.Load().allowed(d.pool); len(d.ejected) > allowed; {
		h := d.ejected[0]
		d.restore(h, d.time(h.state.Load()))
		events = append(events, Event{Host: h, Reason: ReasonCap})
	}
	return events
}

func (d *Detector) notify(events []Event) {
	if d.observe == nil {
		return
	}
	for _, e := range events {
		d.observe(e)
	}
}

// eject takes a host out that failed often enough, unless a cap forbids it.
func (d *Detector) eject(h *Host, now time.Time) {
	d.mu.Lock()
	events := d.tryEject(h, now)
	d.mu.Unlock()
	d.notify(events)
}

func (d *Detector) tryEject(h *Host, now time.Time) []Event {
	c := d.config.Load()
	if h.removed || h.state.Load() != inService || int(h.consecutive.Load()) < c.Consecutive {
		return nil // somebody was faster
	}
	if len(d.ejected) >= c.allowed(d.pool) {
		return nil
	}
	if !d.started {
		d.origin, d.started = now, true
	}
	h.forgive(now)
	d.ejected = append(d.ejected, h)
	return d.sentence(h, inService, now, ReasonConsecutive)
}

// sentence ejects a host that is in the given state. The caller holds mu.
func (d *Detector) sentence(h *Host, from int64, now time.Time, why Reason) []Event {
	c, times := d.config.Load(), h.times
	if times == 0 || c.Base <= c.Max/time.Duration(times) { // beyond Max it would only take longer to forgive
		times++
	}
	until := now.Add(c.length(times, d.random()))
	if !h.state.CompareAndSwap(from, d.offset(until)) {
		return nil
	}
	h.times = times
	return []Event{{Host: h, Ejected: true, Until: until, Reason: why}}
}

// probed ends a probe by its outcome.
func (d *Detector) probed(h *Host, now time.Time, ok bool) {
	d.mu.Lock()
	events := d.judge(h, now, ok)
	d.mu.Unlock()
	d.notify(events)
}

// judge ends a probe that is still in flight. Only Release works on a probe without the lock; if it comes first,
// the compare-and-swap fails and the probe stays given back.
func (d *Detector) judge(h *Host, now time.Time, ok bool) []Event {
	state := h.state.Load()
	if state >= inService {
		return nil
	}
	if !ok {
		return d.sentence(h, state, now, ReasonProbeFailed)
	}
	if !h.state.CompareAndSwap(state, inService) {
		return nil
	}
	d.restore(h, now)
	return []Event{{Host: h, Reason: ReasonProbeSucceeded}}
}

// offset and time translate between the time an ejection ends and the state of a host.
func (d *Detector) offset(t time.Time) int64 { return max(int64(t.Sub(d.origin)), 1) }

func (d *Detector) time(state int64) time.Time {
	return d.origin.Add(time.Duration(max(state, -state)))
}
