package outlier

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// world uses a detector at random in virtual time and checks every answer against a plain model of the documented
// behaviour: what a host is, how long it stays so, and the caps.
type world struct {
	r        *rand.Rand
	d        *Detector
	config   Config
	now      time.Time
	hosts    []*modelled
	attempts []*modelled // the hosts of the attempts in flight
	events   []Event     // since the last step
	ejected  int         // ejections seen, so that the test knows that it tested something
	// overlap lets attempts end after their host was ejected, even while it is probed. Without it the only
	// attempt in flight on an ejected host is its probe, and there must never be two.
	overlap bool
}

type modelled struct {
	*Host
	out, probing bool
	until        time.Time
	failures     int
}

func newWorld(seed uint64, overlap bool) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 0)), now: start, config: Default(), overlap: overlap}
	w.config.Consecutive = 1 + w.r.IntN(5)
	w.d = New(w.config, WithRand(w.r.Float64), WithObserver(func(e Event) { w.events = append(w.events, e) }))
	for range 1 + w.r.IntN(8) {
		w.join()
	}
	return w
}

func (w *world) join() { w.hosts = append(w.hosts, &modelled{Host: w.d.Host()}) }

func (w *world) out() (n int) {
	for _, h := range w.hosts {
		if h.out {
			n++
		}
	}
	return n
}

func (w *world) allowed() int {
	if w.config.Consecutive == 0 {
		return 0
	}
	return max(min(len(w.hosts)*w.config.MaxEjectedPercent/100, len(w.hosts)-1), 0)
}

func (w *world) step() error {
	w.events = w.events[:0]
	switch n := w.r.IntN(1_000); {
	case n < 2:
		w.join()
	case n < 4 && len(w.hosts) > 1:
		return w.leave(w.r.IntN(len(w.hosts)))
	case n < 7:
		return w.update()
	case n < 400 && len(w.attempts) > 0:
		return w.settle(w.r.IntN(len(w.attempts)))
	case n < 500:
		w.now = w.now.Add(time.Duration(w.r.Int64N(int64(2 * time.Second))))
	default:
		return w.begin(w.hosts[w.r.IntN(len(w.hosts))])
	}
	return w.expect(0)
}

func (w *world) begin(h *modelled) error {
	over := !w.now.Before(h.until)
	if got, want := h.Ejected(w.now), h.out && (h.probing || !over); got != want {
		return fmt.Errorf("Ejected %v, want %v", got, want)
	}
	want := !h.out || over && !h.probing
	if got := h.Admit(w.now); got != want {
		return fmt.Errorf("Admit %v, want %v", got, want)
	}
	if !want {
		return w.expect(0)
	}
	h.probing = h.out
	w.attempts = append(w.attempts, h)
	if h.out && !w.overlap && w.inFlight(h) != 1 {
		return fmt.Errorf("%d attempts on an ejected host", w.inFlight(h))
	}
	return w.expect(0)
}

func (w *world) inFlight(h *modelled) (n int) {
	for _, a := range w.attempts {
		if a == h {
			n++
		}
	}
	return n
}

func (w *world) settle(i int) error {
	h := w.attempts[i]
	w.attempts = append(w.attempts[:i], w.attempts[i+1:]...)
	switch outcome := w.r.IntN(10); {
	case outcome == 0:
		h.Release(w.now)
		h.probing = false
		return w.expect(0)
	default:
		return w.record(h, outcome > 5)
	}
}

func (w *world) record(h *modelled, ok bool) error {
	before := w.out()
	h.Record(w.now, ok)
	switch {
	case h.probing && ok:
		h.out, h.probing, h.failures = false, false, 0
		return w.expect(1)
	case h.probing:
		return w.sentence(h)
	case h.out:
		return w.expect(0)
	case ok:
		h.failures = 0
		return w.expect(0)
	}
	h.failures++
	if limit := w.config.Consecutive; limit == 0 || h.failures%limit != 0 || before >= w.allowed() {
		return w.expect(0)
	}
	return w.sentence(h)
}

// sentence takes the end of an ejection from its event, which must be within the bounds.
func (w *world) sentence(h *modelled) error {
	if err := w.expect(1); err != nil {
		return err
	}
	e := w.events[0]
	if long := e.Until.Sub(w.now); !e.Ejected || e.Host != h.Host || long < w.config.Base/2 || long > w.config.Max {
		return fmt.Errorf("event %+v is %v long", e, long)
	}
	h.out, h.probing, h.until = true, false, e.Until
	w.ejected++
	if !w.overlap {
		w.drop(h)
	}
	return nil
}

// drop ends the attempts in flight on a host.
func (w *world) drop(h *modelled) {
	kept := w.attempts[:0]
	for _, a := range w.attempts {
		if a == h {
			h.Release(w.now)
		} else {
			kept = append(kept, a)
		}
	}
	w.attempts = kept
}

func (w *world) leave(i int) error {
	h := w.hosts[i]
	w.hosts = append(w.hosts[:i], w.hosts[i+1:]...)
	w.d.Remove(h.Host)
	w.drop(h)
	return w.trimmed()
}

func (w *world) update() error {
	w.config.Consecutive = w.r.IntN(6)
	w.config.MaxEjectedPercent = w.r.IntN(101)
	w.d.Update(w.config)
	return w.trimmed()
}

// trimmed expects exactly the excess to come back.
func (w *world) trimmed() error {
	if err := w.expect(max(0, w.out()-w.allowed())); err != nil {
		return err
	}
	for _, e := range w.events {
		for _, h := range w.hosts {
			if h.Host == e.Host && (!h.out || e.Ejected || e.Reason != ReasonCap) {
				return fmt.Errorf("event %+v", e)
			} else if h.Host == e.Host {
				h.out, h.probing, h.failures = false, false, 0
			}
		}
	}
	return nil
}

// expect checks the number of events of a step, and the caps.
func (w *world) expect(events int) error {
	if len(w.events) != events {
		return fmt.Errorf("events %+v, want %d", w.events, events)
	}
	really := 0
	for _, h := range w.hosts {
		if h.state.Load() != inService {
			really++
		}
	}
	if really > w.allowed() {
		return fmt.Errorf("%d of %d hosts out, want at most %d", really, len(w.hosts), w.allowed())
	}
	return nil
}

// comeBack shows that every host can return, whatever happened.
func (w *world) comeBack() error {
	for len(w.attempts) > 0 {
		w.attempts[0].Release(w.now)
		w.attempts = w.attempts[1:]
	}
	w.now = w.now.Add(w.config.Max)
	for _, h := range w.hosts {
		if !h.Admit(w.now) {
			return fmt.Errorf("no probe of a host after the longest ejection: %+v", h.State())
		}
		h.Record(w.now, true)
		if h.Ejected(w.now) || !h.Admit(w.now) {
			return fmt.Errorf("the host did not return: %+v", h.State())
		}
	}
	return nil
}

func TestRandom(t *testing.T) {
	for _, overlap := range []bool{false, true} {
		ejections := 0
		for seed := range uint64(200) {
			w := newWorld(seed, overlap)
			for step := range 3_000 {
				if err := w.step(); err != nil {
					t.Fatalf("overlap %v, seed %d, step %d: %v", overlap, seed, step, err)
				}
			}
			if err := w.comeBack(); err != nil {
				t.Fatalf("overlap %v, seed %d: %v", overlap, seed, err)
			}
			ejections += w.ejected
		}
		if ejections < 5_000 {
			t.Errorf("overlap %v: only %d ejections, which tests little", overlap, ejections)
		}
	}
}

// Goroutines race for one probe: one gets it, each time. The caps hold at every moment.
func TestParallelProbe(t *testing.T) {
	d := New(Default(), fixed(0))
	h, now := hosts(d, 2)[0], start
	fail(h, now, 5)
	for range 500 {
		now = h.State().EjectedUntil
		var won atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if h.Admit(now) {
					won.Add(1)
				}
			})
		}
		wg.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d probes at once", won.Load())
		}
		h.Record(now, false)
	}
}

// Everything at once. The numbers are checked under the detector's lock while it goes on, and in the end every host
// comes back.
func TestParallel(t *testing.T) {
	d := New(Default(), WithObserver(func(Event) {}))
	all := hosts(d, 5)
	var clock atomic.Int64 // nanoseconds after start
	var workers, watcher sync.WaitGroup
	for id := range 8 {
		workers.Go(func() {
			r := rand.New(rand.NewPCG(uint64(id), 0))
			for range 5_000 {
				h, now := all[r.IntN(len(all))], start.Add(time.Duration(clock.Add(int64(time.Millisecond))))
				if h.Ejected(now) || !h.Admit(now) {
					continue
				}
				if r.IntN(10) == 0 {
					h.Release(now)
				} else {
					h.Record(now, r.IntN(4) == 0)
				}
			}
		})
	}
	done := make(chan struct{})
	var most, churned int
	watcher.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			d.mu.Lock()
			most = max(most, len(d.ejected))
			d.mu.Unlock()
			h := d.Host() // six of them may have three out
			h.State()
			d.Remove(h)
			d.Update(Default())
			churned++
		}
	})
	workers.Wait()
	close(done)
	watcher.Wait()
	if most > 3 || churned == 0 {
		t.Errorf("%d of at most 6 hosts were out at once, want at most 3 (%d changes of the pool)", most, churned)
	}
	if got := len(d.ejected); got > 2 {
		t.Errorf("%d of 5 hosts are out, want at most 2", got)
	}
	later := start.Add(time.Hour)
	for _, h := range all {
		if !h.Admit(later) {
			t.Fatalf("no probe after the longest ejection: %+v", h.State())
		}
		h.Record(later, true)
	}
	if got := len(d.ejected); got != 0 || ejected(all, later) != 0 {
		t.Errorf("%d hosts are out after all returned", got)
	}
}
