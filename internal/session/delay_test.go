package session

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// most gives the largest share of 5,000 delays that fall into the same 100 ms.
func most(delay func() time.Duration) float64 {
	const n, within = 5000, 100 * time.Millisecond
	count := map[time.Duration]int{}
	largest := 0
	for range n {
		d := delay() / within
		count[d]++
		largest = max(largest, count[d])
	}
	return float64(largest) / n
}

// The clients of a server that dies come back spread over a second, whether it is there again at once or not.
func TestDelaysAreSpread(t *testing.T) {
	broken := errors.New("connection reset")
	if got := most(func() time.Duration { return delay(0, time.Minute, broken) }); got > 0.15 {
		t.Errorf("%.0f %% of the clients come back in the same 100 ms", 100*got)
	}
	if got := most(func() time.Duration { return delay(0, 0, broken) }); got < 0.9 { // the control: nothing was connected
		t.Errorf("a first attempt that fails is repeated with a spread: %.0f %% in the same 100 ms", 100*got)
	}
}

func TestDelay(t *testing.T) {
	moved := fmt.Errorf("registry a:1: %w", errMoveOn)
	for name, c := range map[string]struct {
		failures    int
		lived       time.Duration
		err         error
		least, most time.Duration
	}{
		"asked to move":         {0, time.Minute, moved, 0, 0},
		"asked again and again": {0, time.Millisecond, moved, 0, time.Second},
		"many failures":         {20, 0, errors.New("refused"), 0, 2 * time.Second},
		"told to wait":          {0, 0, fmt.Errorf("x: %w", &pushback{errors.New("full"), 10 * time.Second}), 10 * time.Second, 13 * time.Second},
	} {
		for range 200 {
			if got := delay(c.failures, c.lived, c.err); got < c.least || got > c.most {
				t.Fatalf("%s: %v, want %v to %v", name, got, c.least, c.most)
			}
		}
	}
}
