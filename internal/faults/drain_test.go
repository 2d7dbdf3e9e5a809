//go:build linux

package faults

import (
	"fmt"
	"testing"
	"time"
)

// Five instances are restarted one after the other under some 2,000 calls a second, and nothing fails, also of what is
// never repeated: an instance that leaves first hears that every caller knows. News reaches the caller late, and an
// instance that has closed its mesh breaks off what is under way, so that nothing but its waiting can save a call.
func TestRollingRestart(t *testing.T) {
	if tally := roll(t, abrupt+"=1"); tally.failed > 0 {
		t.Errorf("%s", tally)
	}
}

// Control: the same without the waiting fails some calls.
func TestRollingRestartInAHurry(t *testing.T) {
	if tally := roll(t, abrupt+"=1", hurried+"=1"); tally.failed == 0 {
		t.Errorf("%s, and instances did not wait for their callers", tally)
	}
}

// lateness of the caller's news.
const lateness = 150 * time.Millisecond

// roll restarts five instances and gives the calls that failed, those that must not be repeated first.
func roll(t *testing.T, environment ...string) tally {
	t.Helper()
	const n = 5
	r := newRegistry(t)
	var running [n]*process
	for i := range n {
		running[i] = startProduct(t, r, fmt.Sprintf("p%d", i+1), environment...)
	}
	c := newProxy(t, r, lateness).caller(t, "")
	c.watch(t, "p1-grpc", "p1-http", "p5-grpc", "p5-http")
	began := time.Now()
	l := c.loadOf(t, 2*workers, time.Millisecond)
	for i, p := range running {
		p.stop(t)
		startProduct(t, r, fmt.Sprintf("p%d", i+1), environment...)
		before := l.made()
		eventually(t, "calls go on", 20*time.Second, func() error { return errorUnless(l.made() > before+500, "no") })
	}
	reads, orders := l.stop()
	rate := float64(reads.made+orders.made) / time.Since(began).Seconds()
	t.Logf("%.0f calls/s; reads: %s; orders: %s", rate, reads, orders)
	if reads.failed > 0 && orders.failed == 0 {
		return reads
	}
	return orders
}
