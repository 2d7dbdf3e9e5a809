package routing

import (
	"net/url"
	"strings"
	"testing"
)

func is(s string) StringMatch         { return StringMatch{Exact: &s} }
func startsWith(s string) StringMatch { return StringMatch{Prefix: &s} }
func like(s string) StringMatch       { return StringMatch{Regex: &s} }
func there(b bool) StringMatch        { return StringMatch{Present: &b} }
func oneOf(s ...string) StringMatch   { return StringMatch{In: s} }
func not(m StringMatch) StringMatch   { return StringMatch{Not: &m} }

func ptr(m StringMatch) *StringMatch { return &m }

func compile(t testing.TB, list ...Match) *Matcher {
	t.Helper()
	m, err := CompileMatch(list)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// What each kind of comparison says of no value, one value and several.
func TestStringMatch(t *testing.T) {
	long := strings.Repeat("a", 257)
	tests := []struct {
		name   string
		match  StringMatch
		values []string
		want   bool
	}{
		{"exact", is("gold"), []string{"gold"}, true},
		{"exact, case of value", is("gold"), []string{"Gold"}, false},
		{"exact, longer", is("gold"), []string{"golden"}, false},
		{"exact, absent", is("gold"), nil, false},
		{"exact empty, absent", is(""), nil, false},
		{"exact empty, empty value", is(""), []string{""}, true},
		{"exact, second of two", is("gold"), []string{"red", "gold"}, true},
		{"prefix", startsWith("go"), []string{"gold"}, true},
		{"prefix, inside", startsWith("ol"), []string{"gold"}, false},
		{"empty prefix, absent", startsWith(""), nil, false},
		{"regex", like("g.*d"), []string{"gold"}, true},
		{"regex is anchored", like("ol"), []string{"gold"}, false},
		{"regex alternatives are anchored", like("x|gold"), []string{"golden"}, false},
		{"regex at 256 bytes", like("a*"), []string{long[:256]}, true},
		{"regex beyond 256 bytes", like("a*"), []string{long}, false},
		{"not regex beyond 256 bytes", not(like("a*")), []string{long}, true},
		{"present", there(true), []string{""}, true},
		{"present, absent", there(true), nil, false},
		{"not present", there(false), []string{""}, false},
		{"not present, absent", there(false), nil, true},
		{"in", oneOf("c", "a", "b"), []string{"a"}, true},
		{"in, none", oneOf("a", "b"), []string{"c", "d"}, false},
		{"in, any", oneOf("a", "b"), []string{"c", "b"}, true},
		{"not", not(is("gold")), []string{"red"}, true},
		{"not, absent", not(is("gold")), nil, true},
		{"not, equal", not(is("gold")), []string{"gold"}, false},
		{"not, one of several", not(is("gold")), []string{"red", "gold"}, false},
		{"not not", not(not(is("gold"))), []string{"gold"}, true},
		{"not not, absent", not(not(is("gold"))), nil, false},
		{"not present is not there", not(there(true)), nil, true},
		{"not in", not(oneOf("a", "b")), []string{"c"}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			header := compile(t, Match{Headers: map[string]StringMatch{"X-Tier": test.match}})
			query := compile(t, Match{Query: map[string]StringMatch{"X-Tier": test.match}})
			req := &Request{Attributes: &attributes{
				headers: map[string][]string{"x-tier": test.values},
				query:   url.Values{"X-Tier": test.values},
			}}
			if got := header.Matches(req); got != test.want {
				t.Errorf("header: %v", got)
			}
			if got := query.Matches(req); got != test.want {
				t.Errorf("query: %v", got)
			}
			if len(test.values) == 1 {
				if got := compile(t, Match{Path: &test.match}).Matches(&Request{Path: test.values[0]}); got != test.want {
					t.Errorf("path: %v", got)
				}
			}
		})
	}
}

func TestMatch(t *testing.T) {
	headers := func(name string, m StringMatch) Match { return Match{Headers: map[string]StringMatch{name: m}} }
	cookies := func(name string, m StringMatch) Match { return Match{Cookies: map[string]StringMatch{name: m}} }
	web := &Caller{Service: "web", Namespace: "shop", Labels: map[string]string{"zone": "a", "x": "y"}}
	get := &Request{Path: "/v1/items", Method: "GET", Caller: web, Attributes: &attributes{
		headers: map[string][]string{"x-tier": {"gold"}, "cookie": {"beta=1; theme=dark", "beta=2"}},
		query:   url.Values{"q": {"a", "b"}},
	}}
	bare := &Request{Path: "/v1/items", Method: "GET"}
	tests := []struct {
		name string
		list []Match
		req  *Request
		want bool
	}{
		{"empty list", nil, bare, true},
		{"empty entry", []Match{{}}, bare, true},
		{"header name ignores case", []Match{headers("X-TIER", is("gold"))}, get, true},
		{"header, no attributes", []Match{headers("x-tier", is("gold"))}, bare, false},
		{"not header, no attributes", []Match{headers("x-tier", not(is("gold")))}, bare, true},
		{"query, no attributes", []Match{{Query: map[string]StringMatch{"q": there(true)}}}, bare, false},
		{"query any value", []Match{{Query: map[string]StringMatch{"q": is("b")}}}, get, true},
		{"query name keeps case", []Match{{Query: map[string]StringMatch{"Q": is("b")}}}, get, false},
		{"cookie", []Match{cookies("theme", is("dark"))}, get, true},
		{"cookie in second line", []Match{cookies("beta", is("2"))}, get, true},
		{"cookie name keeps case", []Match{cookies("Theme", is("dark"))}, get, false},
		{"cookie absent", []Match{cookies("x", there(false))}, get, true},
		{"not cookie, one of several", []Match{cookies("beta", not(is("2")))}, get, false},
		{"cookie, no attributes", []Match{cookies("beta", is("1"))}, bare, false},
		{"path", []Match{{Path: ptr(startsWith("/v1/"))}}, bare, true},
		{"method", []Match{{Method: ptr(is("get"))}}, bare, false},
		{"fields are and", []Match{{Path: ptr(is("/v1/items")), Method: ptr(is("POST"))}}, bare, false},
		{"entries are or", []Match{{Method: ptr(is("POST"))}, {Path: ptr(is("/v1/items"))}}, bare, true},
		{"all headers", []Match{{Headers: map[string]StringMatch{"x-tier": is("gold"), "y": there(true)}}}, get, false},
		{"caller", []Match{{Caller: &CallerMatch{Service: "web", Labels: map[string]string{"zone": "a"}}}}, get, true},
		{"caller's namespace", []Match{{Caller: &CallerMatch{Service: "web", Namespace: "default"}}}, get, false},
		{"caller's label", []Match{{Caller: &CallerMatch{Labels: map[string]string{"zone": "b"}}}}, get, false},
		{"caller's missing label", []Match{{Caller: &CallerMatch{Labels: map[string]string{"rack": ""}}}}, get, false},
		{"any caller, unknown", []Match{{Caller: &CallerMatch{}}}, bare, true},
		{"caller, unknown", []Match{{Caller: &CallerMatch{Service: "web"}}}, bare, false},
	}
	for _, test := range tests {
		if got := compile(t, test.list...).Matches(test.req); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
	if !(*Matcher)(nil).Matches(bare) {
		t.Error("a nil Matcher does not match")
	}
}

func TestCompileMatchErrors(t *testing.T) {
	deep := is("x")
	for range maxNot {
		deep = not(deep)
	}
	tests := []struct {
		match Match
		want  string
	}{
		{Match{Path: &StringMatch{}}, "match[0].path: want exactly one of exact, prefix, regex, present, in, not; got 0"},
		{Match{Headers: map[string]StringMatch{"a": {Exact: new("1"), Prefix: new("2")}}}, `match[0].headers["a"]: want exactly one of exact, prefix, regex, present, in, not; got 2`},
		{Match{Query: map[string]StringMatch{"q": not(StringMatch{})}}, `match[0].query["q"]: want exactly one of exact, prefix, regex, present, in, not; got 0`},
		{Match{Cookies: map[string]StringMatch{"": is("x")}}, `match[0].cookies[""]: a name is missing`},
		{Match{Method: &StringMatch{In: []string{}}}, "match[0].method: in: the list is empty"},
		{Match{Path: ptr(like("a("))}, "match[0].path: regex: error parsing regexp: missing closing ): `a(`"},
		{Match{Path: ptr(like("a)|(b"))}, "match[0].path: regex: error parsing regexp: unexpected ): `a)|(b`"},
		{Match{Path: ptr(like(strings.Repeat("a", 129)))}, "match[0].path: regex: has 129 bytes, more than 128"},
		{Match{Path: ptr(like("a{50}"))}, `match[0].path: regex "a{50}": compiles to 52 instructions, more than 50`},
		{Match{Path: &deep}, "match[0].path: not: nested deeper than 7"},
	}
	for _, test := range tests {
		if m, err := CompileMatch([]Match{test.match}); err == nil || err.Error() != test.want || m != nil {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
	for _, atBound := range []StringMatch{*deep.Not, like("a{48}"), like("a?" + strings.Repeat("|", 40))} {
		compile(t, Match{Path: &atBound})
	}
}

func TestMatcherKeepsNothingOfItsInput(t *testing.T) {
	list := []Match{{Method: ptr(oneOf("GET", "PUT")), Caller: &CallerMatch{Labels: map[string]string{"zone": "a"}}}}
	m := compile(t, list...)
	list[0].Method.In[0], list[0].Caller.Labels["zone"] = "POST", "b"
	if !m.Matches(&Request{Method: "GET", Caller: &Caller{Labels: map[string]string{"zone": "a"}}}) {
		t.Error("a change after compilation changed the matcher")
	}
}
