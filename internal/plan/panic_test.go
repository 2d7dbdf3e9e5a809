package plan

import (
	"slices"
	"strings"
	"testing"

	"github.com/weftmesh/weft/rule"
)

// A rule whose compilation panics is refused alone: its last good version stays, and the rest applies.
func TestARuleThatPanics(t *testing.T) {
	before := kinds
	t.Cleanup(func() { kinds = before })
	kinds = slices.Clone(kinds)
	for i, k := range kinds {
		if k.kind == rule.KindRetry {
			kinds[i].compile = func(w *build, r rule.Rule) error {
				if r.Spec.(*rule.Retry).Attempts == 4 {
					panic("four")
				}
				return k.compile(w, r)
			}
		}
	}
	b := NewBuilder(Config{}, product)
	doc := "kind: Retry\nname: r\nservice: product\nspec: {attempts: %}\n---\nkind: Route\nname: x\nservice: product\nspec: {rules: [{timeout: 7s}]}\n"
	for _, step := range []struct {
		attempts string
		want     int
		nacked   bool
	}{{"5", 5, false}, {"4", 5, true}, {"2", 2, false}} {
		p, nacks := b.Build(view(instances("v1", "a")...), parse(t, strings.Replace(doc, "%", step.attempts, 1)))
		if p == nil || p.Retry.Attempts != step.want || p.RouteRule == "" {
			t.Errorf("attempts %s: the plan is %+v", step.attempts, p)
		}
		if got := len(nacks) == 1 && strings.Contains(nacks[0].Reason, "panicked: four"); got != step.nacked {
			t.Errorf("attempts %s: nacks %v", step.attempts, nacks)
		}
	}
}
