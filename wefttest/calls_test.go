package wefttest

import (
	"strconv"
	"testing"
)

// A fake remembers the newest calls, and counts all.
func TestCallsAreBounded(t *testing.T) {
	var s Service
	for _, n := range []int{maxCalls, maxCalls + 1, 2 * maxCalls, 2*maxCalls + 1, 5*maxCalls + 7} {
		s.Reset()
		for i := range n {
			s.record(Call{Path: strconv.Itoa(i)})
		}
		calls := s.Calls()
		first, last := strconv.Itoa(n-maxCalls), strconv.Itoa(n-1)
		if len(calls) != maxCalls || s.Count() != n || calls[0].Path != first || calls[maxCalls-1].Path != last {
			t.Errorf("of %d calls %d are kept and %d counted, from %s to %s", n, len(calls), s.Count(), calls[0].Path, calls[len(calls)-1].Path)
		}
		if cap(s.calls) > 4*maxCalls {
			t.Errorf("room for %d calls", cap(s.calls))
		}
	}
}
