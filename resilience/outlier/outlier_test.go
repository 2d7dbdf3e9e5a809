package outlier

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var start = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)

func hosts(d *Detector, n int) []*Host {
	all := make([]*Host, n)
	for i := range all {
		all[i] = d.Host()
	}
	return all
}

// fail records n failures.
func fail(h *Host, now time.Time, n int) {
	for range n {
		h.Record(now, false)
	}
}

func ejected(all []*Host, now time.Time) (n int) {
	for _, h := range all {
		if h.Ejected(now) {
			n++
		}
	}
	return n
}

// fixed is a random source that always draws the same.
func fixed(r float64) Option { return WithRand(func() float64 { return r }) }

// failures is how many of 1,000 calls, spread evenly over a minute and ten hosts of which one always fails, fail.
func failures(c Config) (failed int) {
	d := New(c, fixed(0.5))
	all, next := hosts(d, 10), 0
	for i := range 1_000 {
		now := start.Add(time.Duration(i) * time.Minute / 1_000)
		for !all[next].Admit(now) {
			next = (next + 1) % len(all)
		}
		ok := next != 3
		all[next].Record(now, ok)
		next = (next + 1) % len(all)
		if !ok {
			failed++
		}
	}
	return failed
}

func TestProtects(t *testing.T) {
	if got := failures(Default()); got > 12 {
		t.Errorf("%d of 1,000 calls failed, want 5 and a few probes", got)
	}
	for name, off := range map[string]func(*Config){
		"off":         func(c *Config) { c.Consecutive = 0 },
		"none may be": func(c *Config) { c.MaxEjectedPercent = 0 },
	} {
		c := Default()
		off(&c)
		if got := failures(c); got != 100 {
			t.Errorf("%s: %d of 1,000 calls failed, want the control to have a tenth", name, got)
		}
	}
}

func TestCaps(t *testing.T) {
	tests := []struct{ percent, pool, want int }{
		{50, 1, 0}, {50, 2, 1}, {50, 3, 1}, {50, 4, 2}, {50, 5, 2}, {50, 10, 5}, {50, 1_001, 500},
		{100, 1, 0}, {100, 2, 1}, {100, 3, 2}, {100, 5, 4},
		{10, 1, 0}, {10, 2, 0}, {10, 3, 0}, {10, 5, 0}, {10, 9, 0}, {10, 10, 1}, {10, 19, 1}, {10, 20, 2},
		{0, 10, 0}, {-1, 10, 0}, {101, 5, 4}, {math.MaxInt, 5, 4},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d%% of %d", tt.percent, tt.pool), func(t *testing.T) {
			c := Default()
			c.MaxEjectedPercent = tt.percent
			all := hosts(New(c), tt.pool)
			for _, h := range all {
				fail(h, start, 20)
			}
			if got := ejected(all, start); got != tt.want {
				t.Errorf("%d ejected, want %d", got, tt.want)
			}
		})
	}
}

// A host that a cap kept in the pool is ejected once there is room, if it fails on.
func TestRoom(t *testing.T) {
	all := hosts(New(Default(), fixed(0)), 2)
	fail(all[0], start, 5)
	fail(all[1], start, 7)
	if all[1].Ejected(start) {
		t.Fatal("the last host was ejected")
	}
	now := start.Add(5 * time.Second)
	all[0].Admit(now)
	all[0].Record(now, true)
	fail(all[1], now, 3)
	if !all[1].Ejected(now) || all[1].State().Consecutive != 10 {
		t.Errorf("%+v, want it ejected at the tenth failure", all[1].State())
	}
}

func TestConsecutive(t *testing.T) {
	for name, tt := range map[string]struct {
		outcomes string
		want     bool
	}{
		"four":                {"xxxx", false},
		"five":                {"xxxxx", true},
		"a success starts at": {"xxxx.xxxx", false},
		"five after success":  {"xxxx.xxxxx", true},
		"half of all":         {"x.x.x.x.x.x.x.x.", false},
		"unknown outcomes":    {"xx-x-x-", false},
		"unknown, then five":  {"xx-xx--x", true},
	} {
		t.Run(name, func(t *testing.T) {
			h := hosts(New(Default()), 2)[0]
			for _, o := range tt.outcomes {
				switch o {
				case '-':
					h.Release(start)
				default:
					h.Record(start, o == '.')
				}
			}
			if got := h.Ejected(start); got != tt.want {
				t.Errorf("ejected %v, want %v", got, tt.want)
			}
		})
	}
}

// answer is what a host says at a time.
type answer struct{ Ejected, Admitted bool }

func ask(h *Host, now time.Time) answer { return answer{h.Ejected(now), h.Admit(now)} }

func TestProbe(t *testing.T) {
	h := hosts(New(Default(), fixed(0)), 2)[0] // no random half: 2.5 s
	var got []answer
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }

	got = append(got, ask(h, at(0))) // in service
	fail(h, at(0), 5)
	got = append(got, ask(h, at(0)), ask(h, at(2.499))) // ejected
	h.Record(at(2.499), true)                           // an attempt from before
	h.Record(at(2.499), false)
	h.Release(at(2.499))
	got = append(got, ask(h, at(2.499)))
	got = append(got, ask(h, at(2.5)), ask(h, at(2.5)), ask(h, at(9))) // one probe, however long it takes
	h.Release(at(9))
	got = append(got, ask(h, at(9)), ask(h, at(9))) // given back and taken again
	h.Record(at(10), false)
	got = append(got, ask(h, at(10)), ask(h, at(14.9)), ask(h, at(15)), ask(h, at(15))) // twice as long
	h.Record(at(16), true)
	got = append(got, ask(h, at(16)), ask(h, at(16)))

	in, out, probe := answer{false, true}, answer{true, false}, answer{false, true}
	want := []answer{in, out, out, out, probe, out, out, probe, out, out, out, probe, out, in, in}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(State{Times: 2}, h.State()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestLength(t *testing.T) {
	tests := []struct {
		name     string
		config   Config
		times    int
		low, top time.Duration
	}{
		{"first", Default(), 1, 2500 * time.Millisecond, 5 * time.Second},
		{"second", Default(), 2, 5 * time.Second, 10 * time.Second},
		{"sixtieth", Default(), 60, 150 * time.Second, 300 * time.Second},
		{"at the cap", Default(), 61, 150 * time.Second, 300 * time.Second},
		{"far beyond", Default(), math.MaxInt, 150 * time.Second, 300 * time.Second},
		{"zero values", Config{}, 1, 2500 * time.Millisecond, 5 * time.Second},
		{"base above max", Config{Base: time.Hour, Max: time.Minute}, 1, 30 * time.Second, time.Minute},
		{"no overflow", Config{Base: math.MaxInt64 / 2, Max: math.MaxInt64}, 3, math.MaxInt64 / 2, math.MaxInt64},
		{"below the bounds", Config{Base: -1, Max: -1}, 2, 5 * time.Second, 10 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.config.defaulted()
			if got := c.length(tt.times, 0); got != tt.low {
				t.Errorf("shortest %v, want %v", got, tt.low)
			}
			got := c.length(tt.times, 0.999_999)
			if near := tt.top - tt.top/100_000; got < near || got > tt.top {
				t.Errorf("longest %v, want just below %v", got, tt.top)
			}
		})
	}
}

// round ejects a host after it was in service for a while, and returns how long it stays out.
func round(h *Host, now *time.Time, service time.Duration) time.Duration {
	*now = now.Add(service)
	fail(h, *now, 5)
	until := h.State().EjectedUntil
	long := until.Sub(*now)
	*now = until
	h.Admit(*now)
	h.Record(*now, true)
	return long
}

func TestForgiveness(t *testing.T) {
	const base = 2500 * time.Millisecond
	h, now := hosts(New(Default(), fixed(0)), 2)[0], start
	var got []time.Duration
	for _, service := range []time.Duration{0, 0, 9, 10, 19, 20, 35, 3600} {
		got = append(got, round(h, &now, service*time.Second)/base)
	}
	if diff := cmp.Diff([]time.Duration{1, 2, 3, 3, 3, 2, 1, 1}, got); diff != "" {
		t.Errorf("ejection times in half bases (-want +got)\n%s", diff)
	}
}

// The record does not grow beyond Max, or a host that was bad for a day would be unforgiven for hours.
func TestRecordIsBounded(t *testing.T) {
	h, now := hosts(New(Default(), fixed(0)), 2)[0], start
	fail(h, now, 5)
	for range 1_000 {
		now = now.Add(300 * time.Second)
		if !h.Admit(now) {
			t.Fatal("no probe after the longest ejection")
		}
		h.Record(now, false)
	}
	if got := h.State().Times; got != 61 {
		t.Errorf("%d ejections on record, want 61, the first above 300 s", got)
	}
}

func TestRemove(t *testing.T) {
	d := New(Default(), fixed(0))
	all := hosts(d, 5)
	fail(all[0], start, 5)
	fail(all[1], start.Add(time.Second), 5)
	now := start.Add(time.Second)

	d.Remove(all[4]) // of four two may be out
	d.Remove(all[4])
	d.Remove(nil)
	d.Remove(New(Default()).Host())
	if got := ejected(all, now); got != 2 {
		t.Fatalf("%d ejected of a pool of 4, want 2", got)
	}
	d.Remove(all[3]) // of three one: the first comes back
	if all[0].Ejected(now) || !all[1].Ejected(now) {
		t.Errorf("ejected %v and %v of a pool of 3, want the oldest back", all[0].Ejected(now), all[1].Ejected(now))
	}
	d.Remove(all[0])
	d.Remove(all[2])
	if all[1].Ejected(now) {
		t.Error("the last host is ejected")
	}
	d.Host()
	fail(all[1], now, 5)
	if !all[1].Ejected(now) {
		t.Error("not ejected although another joined")
	}
	d.Host()
	d.Host()
	fail(all[4], now, 50) // with room for another
	if all[4].Ejected(now) {
		t.Error("a removed host was ejected")
	}
	d.Remove(all[1])
	if got := len(d.ejected); got != 0 {
		t.Errorf("%d hosts are held after they were removed", got)
	}
}

func TestUpdate(t *testing.T) {
	d := New(Default(), fixed(0))
	all := hosts(d, 4)
	fail(all[0], start, 5)
	fail(all[1], start, 5)
	fail(all[2], start, 3)
	before := []State{all[0].State(), all[1].State(), all[2].State()}

	d.Update(Default())
	if diff := cmp.Diff(before, []State{all[0].State(), all[1].State(), all[2].State()}); diff != "" {
		t.Errorf("the same configuration changed the state (-want +got)\n%s", diff)
	}
	c := Default()
	c.MaxEjectedPercent = 25
	d.Update(c)
	if got := ejected(all, start); got != 1 {
		t.Errorf("%d ejected, want the new cap of 1 to hold at once", got)
	}
	c.Consecutive = 0
	d.Update(c)
	if got := ejected(all, start); got != 0 {
		t.Errorf("%d ejected although switched off", got)
	}
}

// The oldest goes back first, and its record is not forgiven for time that it spent ejected.
func TestUpdateKeepsRecord(t *testing.T) {
	c := Default()
	c.Base = 200 * time.Second
	d := New(c, fixed(0))
	h := hosts(d, 2)[0]
	fail(h, start, 5) // for 100 s
	d.Update(Config{})
	d.Update(c)
	fail(h, start.Add(50*time.Second), 5)
	if got := h.State().Times; got != 2 {
		t.Errorf("%d ejections on record, want 2", got)
	}
}

func TestEvents(t *testing.T) {
	type event struct {
		Host    int
		Ejected bool
		After   time.Duration // until the end of the ejection
		Reason  Reason
	}
	var (
		d   *Detector
		all []*Host
		got []event
		now = start
	)
	d = New(Default(), fixed(0), WithObserver(func(e Event) {
		d.Update(Default()) // shows that no lock is held
		ev := event{Ejected: e.Ejected, Reason: e.Reason}
		for all[ev.Host] != e.Host {
			ev.Host++
		}
		if e.Ejected {
			ev.After = e.Until.Sub(now)
		}
		got = append(got, ev)
	}))
	all = hosts(d, 3)
	fail(all[1], now, 5)
	fail(all[0], now, 5) // no room
	for _, ok := range []bool{false, true} {
		now = now.Add(5 * time.Second)
		all[1].Admit(now)
		all[1].Record(now, ok)
	}
	fail(all[2], now, 5)
	d.Update(Config{Consecutive: 5})

	want := []event{
		{1, true, 2500 * time.Millisecond, ReasonConsecutive},
		{1, true, 5 * time.Second, ReasonProbeFailed},
		{1, false, 0, ReasonProbeSucceeded},
		{2, true, 2500 * time.Millisecond, ReasonConsecutive},
		{2, false, 0, ReasonCap},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestState(t *testing.T) {
	h := hosts(New(Default(), fixed(0)), 2)[0]
	fail(h, start, 2)
	until := start.Add(2500 * time.Millisecond)
	got := []State{h.State()}
	fail(h, start, 3)
	got = append(got, h.State())
	h.Admit(until)
	got = append(got, h.State())
	want := []State{
		{Consecutive: 2},
		{EjectedUntil: until, Times: 1, Consecutive: 5},
		{EjectedUntil: until, Times: 1, Consecutive: 5, Probing: true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// Simulations start at any time.
func TestAnyEpoch(t *testing.T) {
	for _, begin := range []time.Time{{}, time.Unix(0, 0), time.Unix(-1e9, 0)} {
		h := hosts(New(Default()), 2)[0]
		fail(h, begin, 5)
		if got := []answer{ask(h, begin), ask(h, begin.Add(5*time.Second))}; got[0] != (answer{true, false}) || got[1] != (answer{false, true}) {
			t.Errorf("from %v: %+v, want ejected, then probed", begin, got)
		}
	}
}

func TestAllocations(t *testing.T) {
	h := hosts(New(Default()), 2)[0]
	if n := testing.AllocsPerRun(1_000, func() { use(h, start, true); use(h, start, false) }); n != 0 {
		t.Errorf("%v allocations, want 0", n)
	}
}

func use(h *Host, now time.Time, ok bool) {
	if !h.Ejected(now) && h.Admit(now) {
		h.Record(now, ok)
	}
}

func BenchmarkHost(b *testing.B) {
	h := hosts(New(Default()), 2)[0]
	for b.Loop() {
		use(h, start, true)
	}
}

func BenchmarkHostParallel(b *testing.B) {
	h := hosts(New(Default()), 2)[0]
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			use(h, start, true)
		}
	})
}

// All fail and the cap is reached: the lock is asked for only now and then.
func BenchmarkFailingParallel(b *testing.B) {
	all := hosts(New(Default()), 2)
	fail(all[0], start, 5)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			use(all[1], start, false)
		}
	})
}
