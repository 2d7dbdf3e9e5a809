package check

import (
	"math/rand/v2"
	"time"

	"github.com/weftmesh/weft/internal/registry/catalog"
)

// The terms of a check that states none.
const (
	defaultInterval = 10 * time.Second
	defaultTimeout  = 2 * time.Second
	defaultFailures = 3
)

// target is an instance that is checked.
type target struct {
	catalog.Checked // with every default filled in
	due             time.Time
	failures        int // in a row
	unhealthy       bool
	denied          bool // it was logged that the check may not be made
	index           int  // in the queue; -1 while it is asked
}

// newTarget has its first check within an interval from now, at random, so that after a start not all come at once.
func newTarget(checked catalog.Checked, now time.Time) *target {
	checked.Check = withDefaults(checked.Check)
	return &target{Checked: checked, due: now.Add(rand.N(checked.Check.Interval))}
}

func withDefaults(c catalog.Check) catalog.Check {
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if c.Failures <= 0 {
		c.Failures = defaultFailures
	}
	c.Interval = max(c.Interval, time.Second)
	c.Timeout = min(c.Timeout, c.Interval)
	return c
}

// same reports whether what was found so far holds for the instance, too: it is of the same process, in the same place
// and checked in the same way.
func (t *target) same(checked catalog.Checked) bool {
	a, b := t.Instance, checked.Instance
	return a.Process == b.Process && a.Address == b.Address && a.Protocol == b.Protocol && a.HTTP2 == b.HTTP2 &&
		a.TLS == b.TLS && t.Check == withDefaults(checked.Check)
}

// tells reports whether a result is to be told. That it is unhealthy is said again each time: the catalog forgets it when
// the instance is removed and put back.
func (t *target) tells(err error) bool {
	return t.unhealthy || err != nil && t.failures+1 >= t.Check.Failures
}

// judge counts a result, and reports whether the instance changed between healthy and unhealthy.
func (t *target) judge(err error) (changed bool) {
	if t.tells(err) {
		changed = t.unhealthy != (err != nil)
		t.unhealthy = err != nil
	}
	t.failures++
	if t.denied = false; err == nil {
		t.failures = 0
	}
	return changed
}

// again sets the next check an interval after this one, give or take 10 %.
func (t *target) again(now time.Time) {
	interval := t.Check.Interval
	t.due = now.Add(interval - interval/10 + rand.N(interval/5))
}

// queue is a heap of targets, the one that is due first on top.
type queue []*target

// Len implements heap.Interface.
func (q queue) Len() int { return len(q) }

// Less implements heap.Interface.
func (q queue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }

// Swap implements heap.Interface.
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

// Push implements heap.Interface.
func (q *queue) Push(t any) {
	t.(*target).index = len(*q)
	*q = append(*q, t.(*target))
}

// Pop implements heap.Interface.
func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.index = -1
	return t
}
