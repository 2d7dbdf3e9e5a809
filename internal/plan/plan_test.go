package plan

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/rule"
)

var product = discovery.Name{Service: "product", Namespace: "default"}

func parse(t *testing.T, doc string) []rule.Rule {
	t.Helper()
	rules, err := rule.Parse([]byte(doc))
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func instances(version string, ids ...string) (list []discovery.Instance) {
	for _, id := range ids {
		list = append(list, discovery.Instance{ID: id, Service: "product", Namespace: "default", Address: id + ":1", Protocol: discovery.HTTP,
			Labels: map[string]string{"version": version}})
	}
	return list
}

func view(list ...discovery.Instance) discovery.View {
	return discovery.View{Snapshot: discovery.Snapshot{Service: "product.default", Instances: list}}
}

// Every kind of the schema has a compiler here; the other places of a kind are walked by the tests of package rule.
func TestEveryKindIsCompiled(t *testing.T) {
	have := map[rule.Kind]bool{}
	for _, k := range kinds {
		have[k.kind] = true
	}
	for _, kind := range rule.Kinds() {
		if !have[kind] {
			t.Errorf("kind %s has no compiler in the table of internal/plan", kind)
		}
	}
	if len(kinds) != len(rule.Kinds()) {
		t.Errorf("%d compilers for %d kinds", len(kinds), len(rule.Kinds()))
	}
}

// The examples of the documentation compile.
func TestDocumentedExamplesCompile(t *testing.T) {
	pages, err := filepath.Glob("../../docs/rules/*.md")
	if err != nil || len(pages) == 0 {
		t.Fatalf("no pages: %v", err)
	}
	found := 0
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(text), "```") {
			doc, isYAML := strings.CutPrefix(part, "yaml\n")
			if i%2 == 0 || !isYAML || !strings.HasPrefix(doc, "kind:") {
				continue
			}
			found++
			for _, r := range parse(t, doc) {
				b := NewBuilder(Config{}, discovery.Name{Service: r.Service, Namespace: r.WithDefaults().Namespace})
				if _, nacks := b.Build(view(), []rule.Rule{r}); len(nacks) > 0 {
					t.Errorf("%s: %+v", page, nacks)
				}
			}
		}
	}
	if found < len(rule.Kinds()) {
		t.Errorf("%d examples for %d kinds", found, len(rule.Kinds()))
	}
}

const canary = `
kind: Route
name: canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules: [{split: [{subset: %s}]}]
`

func destination(t *testing.T, p *engine.Plan) string {
	t.Helper()
	d := p.Protocols[engine.HTTP].Router.Route(&routing.Request{}, balancer.NewRand(1)).Destination
	if d == nil {
		return "none"
	}
	var ids []string
	for _, ep := range d.Endpoints() {
		ids = append(ids, ep.ID)
	}
	return strings.Join(ids, ",")
}

func TestRoute(t *testing.T) {
	b := NewBuilder(Config{}, product)
	v := view(append(instances("v1", "a", "b"), instances("v2", "c")...)...)
	for subset, want := range map[string]string{"v1": "a,b", "v2": "c"} {
		p, nacks := b.Build(v, parse(t, fmt.Sprintf(canary, subset)))
		if got := destination(t, p); got != want || len(nacks) > 0 {
			t.Errorf("subset %s: endpoints %q, nacks %v; want %q", subset, got, nacks, want)
		}
	}
}

func TestStatesDecideWhoIsCalled(t *testing.T) {
	in := func(id string, s discovery.State) discovery.Instance {
		i := instances("v1", id)[0]
		i.State = s
		return i
	}
	v := view(in("up", discovery.Up), in("none", ""), in("starting", discovery.Starting), in("draining", discovery.Draining),
		in("isolated", discovery.Isolated), in("suspect", discovery.Suspect), in("unhealthy", discovery.Unhealthy))
	v.Kept = instances("v1", "vanished")
	p, _ := NewBuilder(Config{}, product).Build(v, nil)
	d := p.Protocols[engine.HTTP].Router.All()
	var reserve []string
	for _, ep := range d.Reserve() {
		reserve = append(reserve, ep.ID)
	}
	if got, want := destination(t, p)+" | "+strings.Join(reserve, ","), "none,suspect,up | suspect,unhealthy,vanished"; got != want {
		t.Errorf("called %s, want %s", got, want)
	}
	if n := len(p.Protocols[engine.HTTP].Endpoints); n != 5 {
		t.Errorf("%d endpoints in all, want 5", n)
	}
	if n := len(p.Protocols[engine.GRPC].Endpoints); n != 0 {
		t.Errorf("%d gRPC endpoints, want none: calls see only instances of their protocol", n)
	}
}

func TestOwnRuleWinsOverTheOneForAll(t *testing.T) {
	b := NewBuilder(Config{}, product)
	docs := "kind: Retry\nname: all\nservice: \"*\"\nspec: {attempts: 5}\n---\nkind: Retry\nname: own\nservice: product\nspec: {attempts: 2}\n"
	p, nacks := b.Build(view(), parse(t, docs))
	if p.Retry.Attempts != 2 || p.RetryRule != "own" || len(nacks) > 0 {
		t.Errorf("attempts %d by rule %q, nacks %v; want 2 by own", p.Retry.Attempts, p.RetryRule, nacks)
	}
	p, _ = b.Build(view(), parse(t, docs)[:1])
	if p.Retry.Attempts != 5 {
		t.Errorf("attempts %d, want those for all", p.Retry.Attempts)
	}
}

func TestABadRuleKeepsItsLastGoodVersionAndTheRestApplies(t *testing.T) {
	b := NewBuilder(Config{}, product)
	v := view(append(instances("v1", "a"), instances("v2", "c")...)...)
	good := parse(t, fmt.Sprintf(canary, "v2"))
	b.Build(v, good)

	bad := good[0]
	bad.Spec = &rule.Route{Rules: []rule.RouteRule{{Split: []rule.Destination{{Subset: "nowhere", Weight: 100}}}}}
	unknown := rule.Rule{Kind: "Weather", Name: "rain", Service: "product"}
	retries := parse(t, "kind: Retry\nname: r\nservice: product\nspec: {attempts: 7}\n")
	p, nacks := b.Build(v, append([]rule.Rule{bad, unknown}, retries...))
	if got := destination(t, p); got != "c" {
		t.Errorf("endpoints %q, want those of the last good version", got)
	}
	if p.Retry.Attempts != 7 {
		t.Error("the good rule beside the bad one did not apply")
	}
	if len(nacks) != 2 {
		t.Errorf("nacks %+v, want one for the bad rule and one for the unknown kind", nacks)
	}
}

func TestARulePanicIsItsOwn(t *testing.T) {
	w := &build{plan: &engine.Plan{RouteRule: "before"}}
	err := apply(w, func(b *build, _ rule.Rule) error { b.plan.RouteRule = "half"; panic("boom") }, parse(t, fmt.Sprintf(canary, "v1"))[0])
	if err == nil || !strings.Contains(err.Error(), "boom") || w.plan.RouteRule != "before" {
		t.Errorf("error %v, plan %q; want the panic as an error and the plan untouched", err, w.plan.RouteRule)
	}
}

func TestLearnedNumbersSurviveAPush(t *testing.T) {
	b := NewBuilder(Config{}, product)
	v := view(instances("v1", "a", "b")...)
	before, _ := b.Build(v, nil)
	ep := before.Protocols[engine.HTTP].Endpoints[0]
	ep.Begin()
	after, _ := b.Build(view(append(instances("v9", "a"), instances("v1", "c")...)...), parse(t, fmt.Sprintf(canary, "v1")))
	same := after.Protocols[engine.HTTP].Endpoints[0]
	if same == ep || same.Stats != ep.Stats || same.Attachment != ep.Attachment || after.Budget != before.Budget {
		t.Error("an endpoint with new labels must be a new value with the numbers learned before")
	}
	if len(b.hosts) != 2 {
		t.Errorf("%d outlier hosts, want those of a and c", len(b.hosts))
	}
}

func TestRetryMethods(t *testing.T) {
	p, nacks := NewBuilder(Config{}, product).Build(view(), parse(t, `
kind: Retry
name: r
service: product
spec:
  attempts: 4
  on: [unavailable, 5xx]
  methods: [{match: [{path: {prefix: /pay.}}], idempotent: false, on: [reset]}]
`))
	if len(nacks) > 0 || len(p.RetryMethods) != 1 {
		t.Fatalf("nacks %v, %d methods", nacks, len(p.RetryMethods))
	}
	m := p.RetryMethods[0]
	if m.Attempts != 4 || m.Idempotent == nil || *m.Idempotent || !m.On.Reset || m.On.Codes != 0 {
		t.Errorf("got %+v, want the rule's attempts, not idempotent, and its own conditions", m.RetryPlan)
	}
	if !p.Retry.On.Match(&engine.Outcome{Protocol: engine.HTTP, Code: 599, Sent: true}, false) || !p.Retry.On.Match(&engine.Outcome{Protocol: engine.GRPC, Code: 14}, false) {
		t.Error("5xx or unavailable does not match")
	}
}
