package measure_test

import (
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftmesh/weft/bench/measure"
)

var kept atomic.Pointer[[64]byte]

func allocate(objects int) measure.Work {
	return measure.Always(func() error {
		for range objects {
			kept.Store(new([64]byte))
		}
		return nil
	})
}

func TestRunCountsAllocations(t *testing.T) {
	for _, size := range []measure.Size{{Calls: 10_000}, {Calls: 10_000, Goroutines: 8}} {
		c, err := measure.Run(allocate(3), size)
		if err != nil {
			t.Fatal(err)
		}
		if c.Allocs < 3 || c.Allocs > 3.1 || c.Bytes < 192 || c.Bytes > 200 {
			t.Errorf("%d goroutines: %.2f allocations and %.1f bytes a call, want 3 of 64 bytes", size.Goroutines, c.Allocs, c.Bytes)
		}
	}
}

// Processor time is spent by computing, not by sleeping; the time of a call by both.
func TestRunTellsProcessorTimeFromTime(t *testing.T) {
	c, err := measure.Run(measure.Always(func() error { time.Sleep(10 * time.Millisecond); return nil }), measure.Size{Calls: 10})
	if err != nil {
		t.Fatal(err)
	}
	if c.Time < 1e7 || c.CPU > c.Time/2 {
		t.Errorf("sleeping 10 ms took %.0f ns and %.0f ns of processor time", c.Time, c.CPU)
	}
	c, err = measure.Run(measure.Always(spin), measure.Size{Calls: 10})
	if err != nil {
		t.Fatal(err)
	}
	if c.CPU < 5e6 {
		t.Errorf("computing for 10 ms of processor time came to %.0f ns of it", c.CPU)
	}
}

// spin computes until the process has used 10 ms more.
func spin() error {
	for end := measure.CPU() + 10*time.Millisecond; measure.CPU() < end; {
		runtime.Gosched()
	}
	return nil
}

func TestRunReportsErrors(t *testing.T) {
	broken := errors.New("broken")
	fail := measure.Always(func() error { return broken })
	for _, goroutines := range []int{1, 4} {
		if _, err := measure.Run(fail, measure.Size{Calls: 8, Goroutines: goroutines}); !errors.Is(err, broken) {
			t.Errorf("with %d goroutines: %v, want the error of the work", goroutines, err)
		}
	}
	if _, err := measure.Compare([]measure.Case{{"bad", fail}}, measure.Size{Calls: 1}, 1); !errors.Is(err, broken) {
		t.Errorf("Compare: %v, want the error of the work", err)
	}
}

func TestCompareAddsUp(t *testing.T) {
	list, err := measure.Compare([]measure.Case{{"one", allocate(1)}, {"four", allocate(4)}}, measure.Size{Calls: 20_000}, 4)
	if err != nil {
		t.Fatal(err)
	}
	first, second := list[0], list[1]
	if first.Name != "one" || first.AddedAllocs != 0 || first.CPURatio.Median != 1 {
		t.Errorf("the first case compared with itself: %+v", first)
	}
	if second.AddedAllocs < 2.9 || second.AddedAllocs > 3.1 {
		t.Errorf("4 allocations are %.2f more than 1", second.AddedAllocs)
	}
	if r := second.CPURatio; r.Least > r.Median || r.Median > r.Most {
		t.Errorf("the spread is not in order: %+v", r)
	}
}
