package weft_test

import (
	"context"
	"fmt"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// Rules change a thousand times while calls run: no call fails, none sees half of a change, and the split stays what all
// versions of the rule say.
func TestRuleChangesUnderLoad(t *testing.T) {
	t.Parallel()
	mixed, counts := changeRulesUnderLoad(t, ruleChanges, func(apply func([]rule.Rule) []rule.Nack, old, new []rule.Rule) {
		apply(new)
	})
	if mixed > 0 {
		t.Errorf("%d calls saw the Route of one version and the Retry of another", mixed)
	}
	total := counts[0] + counts[1]
	if chi := chiSquare(counts, []float64{0.7, 0.3}); chi > 10.83 { // p = 0.001 with one degree of freedom
		t.Errorf("%d calls split %v, want 70 to 30: χ² = %.1f", total, counts, chi)
	}
	t.Logf("%d calls, %d and %d by subset", total, counts[0], counts[1])
}

// Control: a change that is published in two steps is seen by halves.
func TestRuleChangesUnderLoadControl(t *testing.T) {
	t.Parallel()
	mixed, _ := changeRulesUnderLoad(t, ruleChanges/4, func(apply func([]rule.Rule) []rule.Nack, old, new []rule.Rule) {
		apply([]rule.Rule{new[0], old[1]})
		apply(new)
	})
	if mixed == 0 {
		t.Error("no call saw half of a change, although each was published in two steps: the test above proves nothing")
	}
}

func chiSquare(counts [2]int64, shares []float64) (chi float64) {
	total := float64(counts[0] + counts[1])
	for i, share := range shares {
		expected := total * share
		chi += math.Pow(float64(counts[i])-expected, 2) / expected
	}
	return chi
}

// ruleChanges is how often the rules change.
const ruleChanges = 1000

func changeRulesUnderLoad(t *testing.T, changes int, publish func(apply func([]rule.Rule) []rule.Nack, old, new []rule.Rule)) (mixed int64, bySubset [2]int64) {
	fleet := newFleet(t, 2)
	for i := range fleet.instances {
		fleet.instances[i].Labels = map[string]string{"version": fleet.instances[i].ID[:2]} // s1, s2
	}
	changer := &changingRules{changes: changes, start: make(chan struct{}), done: make(chan struct{}), publish: publish}
	m, err := weft.New(weft.WithSource(discovery.Static(map[string][]discovery.Instance{"product.default": fleet.instances})),
		weft.WithSource(changer))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })

	var halves, first, second atomic.Int64
	var workers sync.WaitGroup
	for protocol, c := range callers(t, m) {
		for range 2 {
			workers.Go(func() {
				for {
					select {
					case <-changer.done:
						return
					default:
					}
					var d weft.Decision
					ctx := weft.With(context.Background(), weft.Record(&d), weft.Idempotent())
					if _, err := c.call(ctx, request{behave: "ok"}); err != nil {
						t.Errorf("%s: %v", protocol, err)
						return
					}
					if suffix(d.Route.Rule) != suffix(d.Retry.Rule) {
						halves.Add(1)
					}
					if d.Route.Subset == "s1" {
						first.Add(1)
					} else {
						second.Add(1)
					}
				}
			})
		}
	}
	close(changer.start)
	workers.Wait()
	if n := changer.nacks.Load(); n > 0 {
		t.Errorf("%d rules were refused", n)
	}
	return halves.Load(), [2]int64{first.Load(), second.Load()}
}

// suffix is the revision of name@revision.
func suffix(ref string) string {
	for i := range len(ref) {
		if ref[i] == '@' {
			return ref[i:]
		}
	}
	return ref
}

// changingRules is a source without instances whose rules change all the time.
type changingRules struct {
	changes     int
	start, done chan struct{}
	publish     func(apply func([]rule.Rule) []rule.Nack, old, new []rule.Rule)
	nacks       atomic.Int64
}

func (c *changingRules) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
	apply(discovery.Snapshot{Service: service, Missing: true})
	<-ctx.Done()
	return ctx.Err()
}

func (c *changingRules) WatchRules(ctx context.Context, _ []string, apply func([]rule.Rule) []rule.Nack) error {
	counted := func(rules []rule.Rule) []rule.Nack {
		nacks := apply(rules)
		c.nacks.Add(int64(len(nacks)))
		return nacks
	}
	old := version(0)
	counted(old)
	<-c.start
	defer close(c.done)
	for i := range c.changes {
		next := version(i + 1)
		c.publish(counted, old, next)
		old = next
		time.Sleep(time.Millisecond) // pace, so that calls run between any two changes
	}
	return nil
}

// version makes the two rules of a version. Which subset is named first changes, what it says does not.
func version(i int) []rule.Rule {
	split := "[{subset: s1, weight: 70}, {subset: s2, weight: 30}]"
	if i%2 == 1 {
		split = "[{subset: s2, weight: 30}, {subset: s1, weight: 70}]"
	}
	rules, err := rule.Parse(fmt.Appendf(nil, `
kind: Route
name: split
service: product
revision: 1-%[1]d
spec:
  subsets: {s1: {version: s1}, s2: {version: s2}}
  rules: [{split: %[2]s}]
---
kind: Retry
name: retry
service: product
revision: 1-%[1]d
spec: {attempts: %[3]d}
`, i, split, 2+i%3))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return rules
}
