package engine_test

import (
	"math"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/weftmesh/weft/bench/engine"
	"github.com/weftmesh/weft/bench/measure"
)

func BenchmarkEngine(b *testing.B) { measure.Bench(b, cases(b), 1) }

func cases(tb testing.TB) []measure.Case {
	tb.Helper()
	list, err := engine.Cases()
	if err != nil {
		tb.Fatal(err)
	}
	return list
}

var kept [1]*[64]byte

// A call through the engine allocates the call and nothing else. The control allocates once more.
func TestEngineAllocatesTheCallAlone(t *testing.T) {
	const most = 1
	for _, c := range cases(t) {
		do := c.Work()
		if got := allocations(t, do); got > most {
			t.Errorf("%s: %v allocations a call, want at most %d", c.Name, got, most)
		}
		one := func() error { kept[0] = new([64]byte); return do() }
		if got := allocations(t, one); got <= most {
			t.Errorf("%s: %v allocations with one more: the measurement does not see it", c.Name, got)
		}
	}
}

func allocations(t *testing.T, do func() error) float64 {
	return testing.AllocsPerRun(2000, func() {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	})
}

// The engine has no point where goroutines are in each other's way: a call costs at most twice the processor time when
// several make calls at once. Noise of the machine only ever adds, so the best of several rounds counts. The control
// does its work three times when it is not alone, as a compare-and-swap does that lost twice.
func TestEngineParallel(t *testing.T) {
	const most = 2
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4)) // the machine of a test may have fewer
	for _, c := range cases(t) {
		if r := ratio(t, most, func(int) measure.Work { return c.Work }); r > most {
			t.Errorf("%s: a call costs %.2f times as much in parallel, want at most %d times", c.Name, r, most)
		}
		if r := ratio(t, most, func(goroutines int) measure.Work { return repeated(c.Work, min(goroutines, 6)) }); r <= most {
			t.Errorf("%s: repeated calls cost %.2f times as much: the measurement does not see it", c.Name, r)
		}
	}
}

// ratio is the processor time of a call made by 8 goroutines over that of one made by a single one: the best of several
// rounds, and no more of them than it takes to be good.
func ratio(t *testing.T, good float64, work func(goroutines int) measure.Work) float64 {
	t.Helper()
	const calls, rounds, goroutines = 20_000, 6, 8
	best := math.Inf(1)
	for range rounds {
		one, many := run(t, work(1), calls, 1), run(t, work(goroutines), calls, goroutines)
		if best = min(best, many.CPU/one.CPU); best <= good {
			break
		}
	}
	return best
}

func run(t *testing.T, work measure.Work, calls, goroutines int) measure.Cost {
	t.Helper()
	c, err := measure.Run(work, measure.Size{Calls: calls, Goroutines: goroutines})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// repeated is work that is done several times.
func repeated(work measure.Work, times int) measure.Work {
	return func() func() error {
		do := work()
		return func() error {
			for range times {
				if err := do(); err != nil {
					return err
				}
			}
			return nil
		}
	}
}

// No goroutine waits for a lock of Weft. The control is a lock that all calls share.
func TestEngineWaitsForNoLock(t *testing.T) {
	defer runtime.SetMutexProfileFraction(runtime.SetMutexProfileFraction(1))
	before := waits()
	for _, c := range cases(t) {
		run(t, c.Work, 50_000, 8)
	}
	if n := waits() - before; n != 0 {
		t.Errorf("goroutines waited for a lock %d times", n)
	}
	var mu sync.Mutex
	run(t, measure.Always(func() error { mu.Lock(); defer mu.Unlock(); runtime.Gosched(); return nil }), 1000, 8)
	if waits() == before {
		t.Error("nobody waited for a lock that all share: the measurement does not see it")
	}
}

// waits counts how often a goroutine has waited for a lock of package sync that Weft's code held.
func waits() (n int64) {
	records := make([]runtime.BlockProfileRecord, 1000)
	found, _ := runtime.MutexProfile(records)
	for _, r := range records[:min(found, len(records))] {
		if ofWeft(r.Stack()) {
			n += r.Count
		}
	}
	return n
}

// ofWeft reports whether a stack gave back a lock of package sync, rather than one of the runtime's own, in Weft.
func ofWeft(stack []uintptr) bool {
	frames := runtime.CallersFrames(stack)
	leaf, more := frames.Next()
	if !strings.Contains(leaf.Function, "sync.(*") {
		return false
	}
	for more {
		var f runtime.Frame
		f, more = frames.Next()
		if strings.HasPrefix(f.Function, "github.com/weftmesh/weft/") && !strings.Contains(f.Function, "/bench/measure.") {
			return true
		}
	}
	return false
}
