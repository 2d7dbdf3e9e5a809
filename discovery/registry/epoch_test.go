package registry

import (
	"fmt"
	"testing"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/rule"
)

// A registry that comes back from an older backup has another epoch: the source takes what it has, though it is older, and
// drops what is newer of the other epoch.
func TestOlderBackup(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		w.server.Push(snapshot(900, retry("r", 5), "a", "b"))
		s := w.source()
		seen := w.watch(s)
		settle(time.Second)
		w.wantSeen(seen, "rules r=5", "7-900 a b")
		w.server.Stop()
		w.server.Reset(9)
		w.server.Push(snapshot(3, retry("r", 2), "a"))
		w.server.Start()
		settle(5 * time.Second)
		w.wantSeen(seen, "rules r=2", "9-3 a")
		w.server.Push(&weftv1.Update{Service: product, Epoch: 7, Revision: 901, Instances: wire("late")}) // of the other epoch: no update of this one
		settle(5 * time.Second)
		w.wantSeen(seen, "rules r=2", "9-3 a")
		w.close(s)
		w.server.Stop()
	})
}

// A rule for all services that comes with each of them counts in the version of the present epoch.
func TestRulesOfTwoEpochs(t *testing.T) {
	doc := func(epoch, number, attempts int) ruleSet {
		return readRules(ruleSet{}, [][]byte{fmt.Appendf(nil, `{"kind":"Retry","namespace":"shop","name":"all","service":"*","spec":{"attempts":%d},"revision":"%d-%d"}`, attempts, epoch, number)})
	}
	var got int
	w := &ruleWatcher{wants: 2, parts: map[string][]rule.Rule{}, apply: func(rules []rule.Rule) []rule.Nack {
		got = rules[0].Spec.(*rule.Retry).Attempts
		return nil
	}}
	for i, step := range []struct {
		service string
		epoch   int
		set     ruleSet
		want    int
	}{
		{"a", 7, doc(7, 900, 5), 0},
		{"b", 7, doc(7, 900, 5), 5},
		{"a", 9, doc(9, 3, 2), 2}, // b still has the other epoch's
		{"b", 9, doc(9, 3, 2), 2},
		{"b", 9, doc(9, 4, 3), 3}, // within an epoch the newer wins
		{"a", 9, doc(9, 3, 2), 3},
	} {
		if w.set(step.service, uint64(step.epoch), step.set); got != step.want {
			t.Errorf("step %d: %d attempts, want %d", i+1, got, step.want)
		}
	}
}
