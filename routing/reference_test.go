package routing

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"testing"

	"github.com/weftmesh/weft/balancer"
)

// A slow matcher that follows the words of the documentation one by one, to compare the compiled one with.

func slowMatches(list []Match, req *Request) bool {
	return len(list) == 0 || slices.ContainsFunc(list, func(m Match) bool { return slowEntry(m, req) })
}

func slowEntry(m Match, req *Request) bool {
	headers, query := http.Header{}, url.Values{}
	if a, ok := req.Attributes.(*attributes); ok {
		for name, values := range a.headers {
			headers[http.CanonicalHeaderKey(name)] = values
		}
		query = a.query
	}
	fits := true
	for name, test := range m.Headers {
		fits = fits && slowString(test, headers.Values(name))
	}
	for name, test := range m.Query {
		fits = fits && slowString(test, query[name])
	}
	for name, test := range m.Cookies {
		var values []string
		for _, c := range (&http.Request{Header: headers}).CookiesNamed(name) {
			values = append(values, c.Value)
		}
		fits = fits && slowString(test, values)
	}
	if m.Path != nil {
		fits = fits && slowString(*m.Path, []string{req.Path})
	}
	if m.Method != nil {
		fits = fits && slowString(*m.Method, []string{req.Method})
	}
	return fits && (m.Caller == nil || slowCaller(*m.Caller, req.Caller))
}

func slowString(m StringMatch, values []string) bool {
	if m.Not != nil {
		return !slowString(*m.Not, values)
	}
	if m.Present != nil {
		return *m.Present == (len(values) > 0)
	}
	for _, v := range values {
		if m.Exact != nil && v == *m.Exact ||
			m.Prefix != nil && len(v) >= len(*m.Prefix) && v[:len(*m.Prefix)] == *m.Prefix ||
			m.Regex != nil && len(v) <= 256 && regexp.MustCompile(`\A(?:`+*m.Regex+`)\z`).MatchString(v) ||
			slices.Contains(m.In, v) {
			return true
		}
	}
	return false
}

func slowCaller(m CallerMatch, c *Caller) bool {
	if c == nil {
		c = new(Caller)
	}
	for name, value := range m.Labels {
		if got, ok := c.Labels[name]; !ok || got != value {
			return false
		}
	}
	return (m.Service == "" || m.Service == c.Service) && (m.Namespace == "" || m.Namespace == c.Namespace)
}

// gen draws rules and calls from few words, so that they often meet.
type gen struct{ *balancer.Rand }

func (g gen) word() string { return g.of("", "a", "b", "ab", "ba", "aab") }

func (g gen) of(words ...string) string { return words[g.IntN(len(words))] }

func (g gen) chance(percent int) bool { return g.IntN(100) < percent }

func (g gen) text(depth int) StringMatch {
	kinds := 6
	if depth == 0 {
		kinds = 5
	}
	switch g.IntN(kinds) {
	case 0:
		return is(g.word())
	case 1:
		return startsWith(g.word())
	case 2:
		return like(g.of("a*", "[ab]+", "a|b", "(ab)?", ".b.*"))
	case 3:
		return there(g.chance(50))
	case 4:
		return oneOf(g.word(), g.word())
	default:
		return not(g.text(depth - 1))
	}
}

func (g gen) optional() *StringMatch {
	if g.chance(75) {
		return nil
	}
	return ptr(g.text(2))
}

func (g gen) named(names ...string) map[string]StringMatch {
	named := make(map[string]StringMatch)
	for _, name := range names {
		if g.chance(20) {
			named[name] = g.text(2)
		}
	}
	return named
}

func (g gen) match() Match {
	m := Match{
		Headers: g.named("x-a", "X-B"), Cookies: g.named("a", "b"), Query: g.named("a", "b"),
		Path: g.optional(), Method: g.optional(),
	}
	if g.chance(20) {
		m.Caller = &CallerMatch{Service: g.word(), Namespace: g.of("", "a"), Labels: g.labels()}
	}
	return m
}

func (g gen) labels() map[string]string {
	labels := make(map[string]string)
	for _, name := range []string{"a", "b"} {
		if g.chance(30) {
			labels[name] = g.word()
		}
	}
	return labels
}

func (g gen) values() (values []string) {
	for range g.IntN(3) {
		values = append(values, g.word())
	}
	return values
}

func (g gen) request() *Request {
	req := &Request{Path: g.word(), Method: g.word()}
	if g.chance(70) {
		req.Caller = &Caller{Service: g.word(), Namespace: g.word(), Labels: g.labels()}
	}
	if g.chance(90) {
		cookies := g.of("a=a; b=b", "a", `b="ab"; a=b; a=ab`, "a =a;; b= b", "b=\x01; a=\"", "=a; a=b=a")
		req.Attributes = &attributes{
			headers: map[string][]string{"x-a": g.values(), "x-b": g.values(), "cookie": {cookies, g.of("", "b=a")}},
			query:   url.Values{"a": g.values(), "b": g.values()},
		}
	}
	return req
}

// The first rule that the slow matcher says fits is the one that the router takes, in 10,000 random cases.
func TestRouterAgreesWithReference(t *testing.T) {
	g, taken := gen{balancer.NewRand(1)}, make(map[int]int)
	for i := range 10_000 {
		rules := make([]Rule, 1+g.IntN(4))
		for r := range rules {
			for range 1 + g.IntN(2) {
				rules[r].Match = append(rules[r].Match, g.match())
			}
		}
		req := g.request()
		want := slices.IndexFunc(rules, func(r Rule) bool { return slowMatches(r.Match, req) })
		got := newRouter(t, "v1", "", rules...).Route(req, g.Rand).Rule
		if taken[got]++; got != want {
			t.Fatalf("case %d: rule %d, want %d\nrules %+v\ncall %+v", i, got, want, rules, req)
		}
	}
	for rule := -1; rule < 4; rule++ {
		if taken[rule] < 100 {
			t.Errorf("rule %d was taken in %d cases only; the cases say too little", rule, taken[rule])
		}
	}
}

func TestReferenceSeesMistakes(t *testing.T) {
	if slowString(not(is("a")), []string{"b", "a"}) || !slowString(not(is("a")), nil) {
		t.Error("the reference misreads not")
	}
	if slowMatches([]Match{{Path: ptr(like("a|b"))}}, &Request{Path: "ab"}) {
		t.Error("the reference misreads regex")
	}
}
