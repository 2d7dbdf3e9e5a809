//go:build unix

package faults

import (
	"syscall"
	"testing"
	"time"
)

const retries = "kind: Retry\nname: retries\nservice: product\nspec: {attempts: 3}\n"

// everyID is the instances of p1, p2 and p3.
var everyID = []string{"p1-grpc", "p1-http", "p2-grpc", "p2-http", "p3-grpc", "p3-http"}

func allUp(t *testing.T, r *registry) func() error {
	return func() error {
		states, err := r.states(t.Context(), "product")
		if err != nil {
			return err
		}
		for _, id := range everyID {
			if states[id] != "up" {
				return errorUnless(false, "states are %v", states)
			}
		}
		return errorUnless(len(states) == len(everyID), "states are %v, want %v", states, everyID)
	}
}

// Calls do not notice that the registry is killed, started again, stopped for a while and goes on: nothing fails, also
// of what is never repeated, and no instance ever leaves what the caller knows.
func TestTheRegistryIsAwayUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	var last *process
	for _, id := range []string{"p1", "p2", "p3"} {
		last = startProduct(t, r, id)
	}
	c := newCaller(t, r, "")
	w := c.watch(t, everyID...)
	l := c.load(t)
	time.Sleep(300 * time.Millisecond)
	r.kill()
	time.Sleep(time.Second)
	r.start(t)
	took := eventually(t, "all instances are back under their ids after the kill", 20*time.Second, allUp(t, r))
	t.Logf("killed: all instances were up again %s after the registry was ready", took)

	r.signal(syscall.SIGSTOP)
	time.Sleep(3 * time.Second)
	r.signal(syscall.SIGCONT)
	eventually(t, "all instances are up after the stop", 20*time.Second, allUp(t, r))
	during(t, "nothing expires once the registry goes on", time.Second, allUp(t, r))

	reads, orders := l.stop()
	t.Logf("reads: %s; orders: %s", reads, orders)
	if reads.failed+orders.failed > 0 {
		t.Errorf("reads: %s; orders: %s", reads, orders)
	}
	if lacked := w.everLacked(); lacked != nil {
		t.Errorf("the caller was told that there are only %v", lacked)
	}
	// Control: an instance that leaves is missed by the same watch.
	last.stop(t)
	eventually(t, "the caller hears that p3 has left", 10*time.Second, func() error {
		return errorUnless(w.everLacked() != nil, "it knows all")
	})
}

// An instance that is killed fails what is under way there: what may be repeated is, and what must not be is the only
// loss. Without a Retry rule the same kill fails reads too.
func TestAnInstanceIsKilledUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	startProduct(t, r, "p1")
	startProduct(t, r, "p2")
	kill := func(rules string) (reads, orders tally) {
		p3 := startProduct(t, r, "p3")
		c := newCaller(t, r, rules)
		c.watch(t, everyID...)
		l := c.load(t)
		time.Sleep(300 * time.Millisecond)
		p3.kill()
		time.Sleep(700 * time.Millisecond)
		return l.stop()
	}
	var failed int
	for range 3 {
		reads, orders := kill(retries)
		t.Logf("with a Retry rule: reads: %s; orders: %s", reads, orders)
		if reads.failed > 0 {
			t.Errorf("reads: %s", reads)
		}
		if most := 2 * workers; orders.failed > most {
			t.Errorf("orders: %s, and at most %d were under way", orders, most)
		}
		failed += orders.failed
	}
	if failed == 0 {
		t.Error("no order failed in three kills: the kills hit nothing")
	}
	for range 5 {
		reads, _ := kill("")
		t.Logf("control, without: reads: %s", reads)
		if reads.failed > 0 {
			return
		}
	}
	t.Error("control: five kills without a Retry rule failed no read")
}

// An instance that hangs holds a call no longer than the per-try timeout; without one, until the caller's deadline.
func TestAnInstanceHangsUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	startProduct(t, r, "p1")
	startProduct(t, r, "p2")
	p3 := startProduct(t, r, "p3")
	hang := func(rules string) (reads, orders tally) {
		eventually(t, "all are up", 20*time.Second, allUp(t, r))
		c := newCaller(t, r, rules)
		c.watch(t, everyID...)
		l := c.load(t)
		time.Sleep(300 * time.Millisecond)
		p3.signal(syscall.SIGSTOP)
		time.Sleep(time.Second)
		reads, orders = l.stop()
		p3.signal(syscall.SIGCONT)
		return reads, orders
	}
	reads, orders := hang("kind: Retry\nname: retries\nservice: product\nspec: {attempts: 3, on: [unavailable, reset, timeout], perTryTimeout: 200ms}\n")
	t.Logf("with a per-try timeout: reads: %s; orders: %s", reads, orders)
	if reads.failed > 0 {
		t.Errorf("reads: %s", reads)
	}
	reads, orders = hang("")
	t.Logf("control, without: reads: %s; orders: %s", reads, orders)
	if reads.failed == 0 {
		t.Error("control: without a per-try timeout no read waited until its deadline")
	}
}
