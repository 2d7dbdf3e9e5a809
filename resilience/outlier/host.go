package outlier

import (
	"sync/atomic"
	"time"
)

// inService is the state of a host that is not ejected. Above it is the end of an ejection, as nanoseconds after
// the detector's origin; below it is the same number negated, while the probe is in flight. One word, so that
// taking and giving back the probe are one compare-and-swap and can never be seen half done.
const inService = 0

// Host is one endpoint of a [Detector]'s pool. It is safe for concurrent use.
//
// An attempt that began before the ejection may end at any time after it. While the host is ejected its outcome is
// ignored; while the probe is in flight it is taken for the probe's, as both are news of the same host.
type Host struct {
	d           *Detector
	state       atomic.Int64
	consecutive atomic.Int64

	// Under d.mu.
	removed  bool
	times    int       // ejections on record
	returned time.Time // when it came back from the last
}

// Ejected reports whether the host should not be picked: it is ejected, or its probe is in flight.
func (h *Host) Ejected(now time.Time) bool {
	switch state := h.state.Load(); {
	case state == inService:
		return false
	case state < inService:
		return true
	default:
		return h.d.waiting(state, now)
	}
}

// Admit is asked when the host was picked and is about to be used. It reports true for a host in service, and for
// the one caller that gets to probe a host whose ejection is over. Whoever got true says Record or Release once.
func (h *Host) Admit(now time.Time) bool {
	for {
		state := h.state.Load()
		if state == inService {
			return true
		}
		if state < inService || h.d.waiting(state, now) {
			return false
		}
		if h.state.CompareAndSwap(state, -state) {
			return true
		}
	}
}

func (d *Detector) waiting(state int64, now time.Time) bool {
	return int64(now.Sub(d.origin)) < state
}

// Record tells the outcome of an admitted attempt.
func (h *Host) Record(now time.Time, ok bool) {
	switch state := h.state.Load(); {
	case state < inService:
		h.d.probed(h, now, ok)
	case state > inService: // an attempt from before the ejection
	case ok:
		h.succeeded()
	default:
		h.failed(now)
	}
}

func (h *Host) succeeded() {
	if h.consecutive.Load() != 0 { // spare the cache line
		h.consecutive.Store(0)
	}
}

// failed asks for ejection at each multiple of the limit, not at every failure above it: when a cap keeps a bad
// host in the pool, its failures must not queue at the lock.
func (h *Host) failed(now time.Time) {
	n, limit := h.consecutive.Add(1), int64(h.d.config.Load().Consecutive)
	if limit > 0 && n%limit == 0 {
		h.d.eject(h, now)
	}
}

// Release ends an admitted attempt whose outcome says nothing about the host, as it was cancelled or never sent. An
// unused probe is given back; the next Admit may take it.
func (h *Host) Release(_ time.Time) {
	if state := h.state.Load(); state < inService {
		h.state.CompareAndSwap(state, -state)
	}
}

// forgive takes one ejection off the record for each healthy interval since the host came back. The caller holds
// d.mu.
func (h *Host) forgive(now time.Time) {
	healthy := max(0, now.Sub(h.returned)/HealthyInterval)
	h.times = max(0, h.times-int(healthy))
}

// State is what a debug view shows of a host.
type State struct {
	EjectedUntil time.Time // zero: in service; in the past: the next Admit probes
	Probing      bool      // the probe is in flight
	Times        int       // ejections on record when it was last ejected
	Consecutive  int       // failures in a row
}

// State returns a picture of the host for people to look at.
func (h *Host) State() State {
	h.d.mu.Lock()
	defer h.d.mu.Unlock()
	s := State{Times: h.times, Consecutive: int(h.consecutive.Load())}
	if state := h.state.Load(); state != inService {
		s.EjectedUntil, s.Probing = h.d.time(state), state < inService
	}
	return s
}
