package rule

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func ptr[T any](v T) *T { return &v }

func exact(s string) StringMatch { return StringMatch{Exact: &s} }

// body is a document of a kind with the given spec.
func body(kind, spec string) string {
	return "kind: " + kind + "\nname: n\nservice: product\nspec: " + spec + "\n"
}

func TestParse(t *testing.T) {
	full := Rule{
		Kind: KindRoute, Namespace: "shop", Name: "canary", Service: "product", Mode: Enforce,
		Spec: &Route{
			Subsets: map[string]map[string]string{"v1": {"version": "v1"}, "v2": {"version": "1.10"}},
			Rules: []RouteRule{
				{
					Match: []Match{{
						Headers: map[string]StringMatch{"X-Tier": exact("gold"), "x-debug": {Not: &StringMatch{Present: ptr(true)}}},
						Cookies: map[string]StringMatch{"beta": {In: []string{"1", "true"}}},
						Query:   map[string]StringMatch{"p": {Regex: ptr("v[0-9]")}},
						Path:    &StringMatch{Prefix: ptr("/v1/")},
						Method:  &StringMatch{Exact: ptr("GET")},
						Caller:  &CallerMatch{Service: "web", Namespace: "shop", Labels: map[string]string{"on": "off"}},
					}},
					Split:     []Destination{{Subset: "v2"}},
					WhenEmpty: Fail,
					Timeout:   800 * time.Millisecond,
				},
				{
					Split:    []Destination{{Subset: "v1", Weight: 100}, {Subset: "v2"}},
					StickyBy: &StickyBy{Header: "x-user-id"},
				},
			},
		},
		Revision: "3-15", UpdatedAt: time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC), UpdatedBy: "admin",
	}
	retry := Rule{
		Kind: KindRetry, Name: "n", Service: "*",
		Spec: &Retry{
			Attempts: 2, On: []string{}, PerTryTimeout: 90 * time.Second, Budget: Budget{Percent: ptr(0)},
			Methods: []RetryMethod{{Match: []Match{{Path: &StringMatch{Exact: ptr("/a.B/C")}}}, Idempotent: ptr(false)}},
		},
	}
	const fullYAML = `
kind: Route
namespace: shop
name: canary
service: product
mode: enforce
spec:
  subsets: {v1: {version: v1}, v2: {version: "1.10"}}
  rules:
    - match:
        - headers: {X-Tier: gold, x-debug: {not: {present: true}}}
          cookies: {beta: {in: ["1", "true"]}}
          query: {p: {regex: "v[0-9]"}}
          path: {prefix: /v1/}
          method: GET
          caller: {service: web, namespace: shop, labels: {on: off}}
      split: [{subset: v2}]
      whenEmpty: fail
      timeout: 800ms
    - split: [{subset: v1, weight: 100}, {subset: v2, weight: 0}]
      stickyBy: {header: x-user-id}
revision: 3-15
updatedAt: 2026-11-21T08:00:00Z
updatedBy: admin
`
	const retryYAML = `{kind: Retry, name: n, service: "*", spec: {attempts: 2, on: [], perTryTimeout: 1m30s, budget: {percent: 0},
  methods: [{match: [{path: /a.B/C}], idempotent: false}]}}`
	const fullJSON = `{"kind":"Route","namespace":"shop","name":"canary","service":"product","mode":"enforce","spec":{"subsets":
	{"v1":{"version":"v1"},"v2":{"version":"1.10"}},"rules":[{"match":[{"headers":{"X-Tier":"gold","x-debug":{"not":{"present":true}}},
	"cookies":{"beta":{"in":["1","true"]}},"query":{"p":{"regex":"v[0-9]"}},"path":{"prefix":"/v1/"},"method":{"exact":"GET"},
	"caller":{"service":"web","namespace":"shop","labels":{"on":"off"}}}],"split":[{"subset":"v2"}],"whenEmpty":"fail","timeout":"800ms"},
	{"split":[{"subset":"v1","weight":100},{"subset":"v2","weight":0}],"stickyBy":{"header":"x-user-id"}}]},
	"revision":"3-15","updatedAt":"2026-11-21T08:00:00Z","updatedBy":"admin"}`
	const retryJSON = `{"kind":"Retry","name":"n","service":"*","spec":{"attempts":2,"on":[],"perTryTimeout":"1m30s","budget":{"percent":0},
	"methods":[{"match":[{"path":"/a.B/C"}],"idempotent":false}]}}`
	emoji := Rule{Kind: KindRetry, Name: "n", Service: "s", Spec: &Retry{}, UpdatedBy: "😀/é"}

	for _, tt := range []struct {
		name, in string
		want     []Rule
	}{
		{"nothing", "", nil},
		{"only comments", "# nothing\n---\n# here\n", nil},
		{"yaml", fullYAML, []Rule{full}},
		{"yaml with a byte order mark", "\ufeff" + retryYAML, []Rule{retry}},
		{"flow yaml", retryYAML, []Rule{retry}},
		{"stream with empty documents", "---\n---\n" + fullYAML + "---\n# comment\n---\n" + retryYAML + "\n---\n", []Rule{full, retry}},
		{"yaml list", "- " + retryYAML + "\n- " + strings.ReplaceAll(retryYAML, "\n", ""), []Rule{retry, retry}},
		{"json", fullJSON, []Rule{full}},
		{"json stream", fullJSON + "\n" + retryJSON, []Rule{full, retry}},
		{"json array", "[" + fullJSON + "," + retryJSON + "]", []Rule{full, retry}},
		{"json surrogate pair and escaped slash", `{"kind":"Retry","name":"n","service":"s","spec":{},"updatedBy":"\ud83d\ude00\/\u00e9"}`, []Rule{emoji}},
		{"date as text", body("Route", "{subsets: {v1: {built: 2026-11-21}}}"), []Rule{{Kind: KindRoute, Name: "n", Service: "product",
			Spec: &Route{Subsets: map[string]map[string]string{"v1": {"built": "2026-11-21"}}}}}},
		{"no spec", "kind: Route\nname: n\nservice: s\n", []Rule{{Kind: KindRoute, Name: "n", Service: "s"}}},
		{"empty spec", body("Route", "{}"), []Rule{{Kind: KindRoute, Name: "n", Service: "product", Spec: &Route{}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse([]byte(tt.in))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.Transformer("nil", func(r []Rule) []Rule { return append([]Rule{}, r...) })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	const syntax, invalid = true, false
	for _, tt := range []struct {
		name, in string
		syntax   bool
		want     string
	}{
		{"unknown field", body("Retry", "{attemps: 3}"), syntax,
			"spec.attemps: is not a field; the fields are attempts, on, perTryTimeout, timeout, backoff, budget, methods (line 4)"},
		{"unknown field of the envelope", "kind: Retry\nname: n\nservice: s\nspec: {}\nlabels: {}\n", syntax,
			"labels: is not a field; the fields are kind, namespace, name, service, mode, spec, revision, updatedAt, updatedBy (line 5)"},
		{"a field that is not built", body("Route", "{rules: [{mirror: {subset: v2}}]}"), syntax,
			"spec.rules[0].mirror: is not a field; the fields are match, split, whenEmpty, stickyBy, timeout (line 4)"},
		{"other case", `{"kind":"Retry","name":"n","Name":"m","service":"s","spec":{}}`, syntax, "Name: is not a field; write name (line 1)"},
		{"twice in json", `{"kind":"Retry","name":"n",` + "\n" + `"name":"m","service":"s","spec":{}}`, syntax, `name: "name": is given twice (line 2)`},
		{"twice in yaml", body("Retry", "{attempts: 3, attempts: 4}"), syntax, `spec.attempts: "attempts": is given twice (line 4)`},
		{"twice in a map", body("Route", "{subsets: {v1: {a: b}, v1: {a: c}}}"), syntax, `spec.subsets.v1: "v1": is given twice (line 4)`},
		{"kind twice", "kind: Route\nkind: Retry\nname: n\nservice: s\nspec: {}\n", syntax, `kind: "kind": is given twice (line 2)`},
		{"number for a text", body("Route", "{subsets: {v1: {version: 1.10}}}"), syntax,
			"spec.subsets.v1.version: 1.10: must be a text; put it in quotes if it looks like something else (line 4)"},
		{"number for a code", body("Retry", "{on: [503]}"), syntax,
			"spec.on[0]: 503: must be a text; put it in quotes if it looks like something else (line 4)"},
		{"number as a key", body("Route", "{subsets: {1: {a: b}}}"), syntax,
			"spec.subsets: 1: must be a text; put it in quotes if it looks like something else (line 4)"},
		{"list as a key", body("Route", "{? [a] : b}"), syntax,
			"spec: […]: must be a text; put it in quotes if it looks like something else (line 4)"},
		{"number for a match", body("Route", "{rules: [{match: [{headers: {x: 1}}]}]}"), syntax,
			"spec.rules[0].match[0].headers.x: 1: must be a text; put it in quotes if it looks like something else (line 4)"},
		{"list for a match", body("Route", "{rules: [{match: [{path: [a]}]}]}"), syntax,
			"spec.rules[0].match[0].path: […]: must be a mapping with named entries (line 4)"},
		{"text for a number", body("Retry", `{attempts: "3"}`), syntax, `spec.attempts: "3": must be a whole number without quotes (line 4)`},
		{"fraction", body("Retry", "{attempts: 3.0}"), syntax, "spec.attempts: 3.0: must be a whole number without quotes (line 4)"},
		{"octal", body("Retry", "{attempts: 010}"), syntax, "spec.attempts: 010: must be a whole number in decimal digits (line 4)"},
		{"huge number", body("Retry", "{attempts: 9223372036854775808}"), syntax, "spec.attempts: 9223372036854775808: must be a whole number in decimal digits (line 4)"},
		{"bare number for a duration", body("Retry", "{timeout: 800}"), syntax,
			"spec.timeout: 800: must be a duration with a unit, such as 800ms, 2s or 1m30s (line 4)"},
		{"unit of a duration", body("Retry", "{timeout: 3 days}"), syntax,
			`spec.timeout: "3 days": must be a duration with a unit, such as 800ms, 2s or 1m30s (line 4)`},
		{"text for a boolean", body("Retry", "{methods: [{idempotent: yes}]}"), syntax,
			`spec.methods[0].idempotent: "yes": must be true or false (line 4)`},
		{"mapping for a list", body("Route", "{rules: {split: []}}"), syntax, "spec.rules: {…}: must be a list (line 4)"},
		{"list for a mapping", body("Route", "[]"), syntax, "spec: []: must be a mapping with named entries (line 4)"},
		{"time", body("Retry", "{}") + "updatedAt: yesterday\n", syntax, `updatedAt: "yesterday": must be a time such as 2026-11-21T08:00:00Z (line 5)`},
		{"year 10000", body("Retry", "{}") + "updatedAt: 9999-12-31T23:59:59-12:00\n", syntax,
			"updatedAt: 9999-12-31T23:59:59-12:00: must be a time such as 2026-11-21T08:00:00Z (line 5)"},
		{"null", body("Route", "{rules: }"), syntax, "spec.rules: null: has no value; leave it out or give it one (line 4)"},
		{"null spec in json", `{"kind":"Retry","name":"n","service":"s","spec":null}`, syntax, "spec: null: has no value; leave it out or give it one (line 1)"},
		{"null element", body("Route", "{rules: [~]}"), syntax, "spec.rules[0]: null: has no value; leave it out or give it one (line 4)"},
		{"empty map", body("Route", "{rules: [{match: [{headers: {}}]}]}"), invalid,
			"spec.rules[0].match[0].headers: {}: is empty; leave it out or give it a value (line 4)"},
		{"empty list", body("Route", "{rules: []}"), invalid, "spec.rules: []: is empty; leave it out or give it a value (line 4)"},
		{"empty text", body("Route", `{rules: [{stickyBy: {header: ""}}]}`), invalid,
			`spec.rules[0].stickyBy.header: "": is empty; leave it out or give it a value (line 4)`},
		{"zero that would read as the default", body("Retry", "{attempts: 0}"), invalid, "spec.attempts: 0: is empty; leave it out or give it a value (line 4)"},
		{"zero duration", body("Retry", "{backoff: {base: 0s}}"), invalid, `spec.backoff.base: "0s": is empty; leave it out or give it a value (line 4)`},
		{"zero weight of the only destination", body("Route", "{rules: [{split: [{weight: 0}]}]}"), invalid,
			"spec.rules[0].split[0].weight: 0: is empty; leave it out or give it a value (line 4)"},
		{"missing kind", "name: n\n", invalid, "kind: is missing; the kinds are Route, Retry (line 1)"},
		{"kind that is a number", "kind: 1\n", syntax, "kind: 1: must be a text; put it in quotes if it looks like something else (line 1)"},
		{"not a mapping", "hello\n", syntax, `"hello": must be a mapping with named entries (line 1)`},
		{"anchor", body("Route", "{subsets: {v1: &a {x: y}, v2: *a}}"), syntax,
			"anchors and aliases are not supported; write the value out (line 4); anchors and aliases are not supported; write the value out (line 4)"},
		{"merge key", body("Route", "{<<: {rules: [{}]}}"), syntax,
			"spec: <<: must be a text; put it in quotes if it looks like something else (line 4)"},
		{"tag", body("Route", "!!binary aGVsbG8="), syntax, "tags are not supported (line 4)"},
		{"broken yaml", "kind: Route\n\tname: n\n", syntax, "cannot be read: found a tab character that violates indentation (line 2)"},
		{"broken json", "{\"kind\":\"Route\",\n\"name\":\"n\"", syntax, "cannot be read: did not find expected ',' or '}' (line 2)"},
		{"not UTF-8", "kind: \xff", syntax, "must be UTF-8"},
		{"many at once", body("Retry", "{attempts: 0, timeout: 3, x: 1}") + "---\n" + body("Route", "{y: 1}"), syntax,
			"document 1: spec.attempts: 0: is empty; leave it out or give it a value (line 4); " +
				"document 1: spec.timeout: 3: must be a duration with a unit, such as 800ms, 2s or 1m30s (line 4); " +
				"document 1: spec.x: is not a field; the fields are attempts, on, perTryTimeout, timeout, backoff, budget, methods (line 4); " +
				"document 2: spec.y: is not a field; the fields are subsets, rules (line 9)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules, err := Parse([]byte(tt.in))
			var typed *Error
			if !errors.As(err, &typed) {
				t.Fatalf("got %v, %v; want an *Error", rules, err)
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Error(diff)
			}
			if typed.Syntax() != tt.syntax {
				t.Errorf("Syntax() = %v, want %v", typed.Syntax(), tt.syntax)
			}
			if rules != nil {
				t.Errorf("got rules %v", rules)
			}
		})
	}
}

func TestParseUnknownKind(t *testing.T) {
	const doc = `{"kind":"Teleport","namespace":"shop","name":"n","service":"s","revision":"1-2","spec":{"anything":[1,null]}}`
	want := `kind: "Teleport": is not a kind; the kinds are Route, Retry (line 1)`
	_, err := Parse([]byte(doc))
	if !errors.Is(err, ErrUnknownKind) || err.Error() != want {
		t.Errorf("Parse: %v", err)
	}
	r, err := ParseOne([]byte(doc))
	if !errors.Is(err, ErrUnknownKind) || err.Error() != want {
		t.Errorf("ParseOne: %v", err)
	}
	if diff := cmp.Diff(Rule{Kind: "Teleport", Namespace: "shop", Name: "n", Service: "s", Revision: "1-2"}, r); diff != "" {
		t.Errorf("the rule cannot be named:\n%s", diff)
	}
	if _, err = Parse([]byte(body("route", "{}"))); err == nil || !strings.Contains(err.Error(), `kind: "route": is not a kind; write Route (line 1)`) {
		t.Errorf("kind in another case: %v", err)
	}
	if _, err = Parse([]byte(body("Retry", "{x: 1}"))); errors.Is(err, ErrUnknownKind) {
		t.Errorf("an unknown field is reported as an unknown kind: %v", err)
	}
}

func TestParseOne(t *testing.T) {
	r, err := ParseOne([]byte(`{"kind":"Retry","name":"n","service":"s","spec":{"attempts":2}}`))
	if diff := cmp.Diff(Rule{Kind: KindRetry, Name: "n", Service: "s", Spec: &Retry{Attempts: 2}}, r); err != nil || diff != "" {
		t.Error(err, diff)
	}
	for in, want := range map[string]string{
		"":                            "has 0 documents; must have one",
		"{} {}":                       "has 2 documents; must have one",
		"kind: Retry":                 "cannot be read: invalid character 'k' looking for beginning of value (line 1)",
		`{"kind":"Retry"`:             "cannot be read: unexpected EOF (line 1)",
		`{"kind":"Retry",}`:           "cannot be read: invalid character '}' looking for beginning of object key string (line 1)",
		"[]":                          "[]: must be a mapping with named entries (line 1)",
		"\n7":                         "7: must be a mapping with named entries (line 2)",
		"\xff":                        "must be UTF-8",
		strings.Repeat("[", 100):      "cannot be read: is nested more than 32 deep (line 1)",
		`{"kind":"Retry","spec":{}}x`: "cannot be read: invalid character 'x' looking for beginning of value (line 1)",
	} {
		if _, err := ParseOne([]byte(in)); err == nil || err.Error() != want {
			t.Errorf("ParseOne(%q): %v, want %s", in, err, want)
		}
	}
}

// TestParseBounds shows that what is at a bound is read and what is beyond is refused.
func TestParseBounds(t *testing.T) {
	doc := body("Retry", "{}")
	full := doc + strings.Repeat("#", MaxInput-len(doc))
	if _, err := Parse([]byte(full)); err != nil {
		t.Errorf("%d bytes: %v", len(full), err)
	}
	if _, err := Parse([]byte(full + "#")); !errors.Is(err, ErrTooLarge) || err.Error() != "rules are too large: 1048577 bytes; at most 1048576 are read" {
		t.Errorf("%d bytes: %v", len(full)+1, err)
	}
	if _, err := ParseOne([]byte(full + "#")); !errors.Is(err, ErrTooLarge) {
		t.Errorf("ParseOne of %d bytes: %v", len(full)+1, err)
	}
}

func TestParseHostile(t *testing.T) {
	var bomb strings.Builder
	bomb.WriteString("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c < 'j'; c++ {
		bomb.WriteString(string(c) + ": &" + string(c) + " [" + strings.Repeat("*"+string(c-1)+",", 9) + "]\n")
	}
	nots := strings.Repeat("{not: ", 5000) + "a" + strings.Repeat("}", 5000)
	long := strings.Repeat("k", 500_000)
	for name, tt := range map[string]struct{ in, want string }{
		"alias bomb":       {bomb.String(), "anchors and aliases are not supported"},
		"deep lists":       {body("Route", strings.Repeat("[", 9000)+strings.Repeat("]", 9000)), "is nested more than 32 deep"},
		"deeper lists":     {strings.Repeat("[", 20_000), "exceeded max depth"},
		"deep matches":     {body("Route", "{rules: [{match: [{path: "+nots+"}]}]}"), "is nested more than 32 deep"},
		"many problems":    {body("Retry", "{"+strings.Repeat("x: 1, ", 90_000)+"}"), "and 89900 more"},
		"many documents":   {strings.Repeat("x\n---\n", 1000), "and 900 more"},
		"long keys":        {`{"kind":"Route","spec":{"` + long + `":{` + strings.Repeat(`"a":1,`, 50_000) + `"b":1}}}`, `"…]: is not a field`},
		"late syntax flaw": {body("Retry", "{on: ["+strings.Repeat("~, ", 200)+"]}"), "and 100 more"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %.300v, want %q", err, tt.want)
			}
			if err != nil && len(err.Error()) > 100_000 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// TestSyntaxIsNeverCutOff: a document whose first hundred problems are of the milder sort is still unreadable.
func TestSyntaxIsNeverCutOff(t *testing.T) {
	in := body("Route", "{rules: ["+strings.Repeat("{timeout: 0s}, ", 150)+"], x: 1}")
	_, err := Parse([]byte(in))
	var typed *Error
	if !errors.As(err, &typed) || !typed.Syntax() || len(typed.Problems) != maxProblems || typed.More != 51 {
		t.Errorf("got %.200v", err)
	}
}

// What a short text can make the reader build is bounded, and no document within the bounds is refused.
func TestParseMany(t *testing.T) {
	list := func(doc string, n int, before, between, after string) string {
		return before + strings.Repeat(doc+between, n-1) + doc + after
	}
	const one = `{"kind":"Retry","name":"r","service":"s","spec":{}}`
	for name, make := range map[string]func(n int) string{
		"a row of JSON":  func(n int) string { return list(one, n, "", " ", "") },
		"a list of JSON": func(n int) string { return list(one, n, "[", ",", "]") },
		"a list of YAML": func(n int) string { return list("- "+one, n, "", "\n", "") },
		"a flow of YAML": func(n int) string { return list(strings.ReplaceAll(one, `"`, ""), n, "[", ",", "]") },
		"documents":      func(n int) string { return list("---\n"+one, n, "", "\n", "") },
	} {
		for _, n := range []int{MaxDocuments, MaxDocuments + 1} {
			text := strings.ReplaceAll(make(n), "kind:Retry,name:r,service:s,spec:{}", "kind: Retry, name: r, service: s, spec: {}")
			rules, err := Parse([]byte(text))
			if n == MaxDocuments && (err != nil || len(rules) != n) {
				t.Errorf("%s: %d: %d rules, %v", name, n, len(rules), err)
			}
			if n > MaxDocuments && !errors.Is(err, ErrTooLarge) {
				t.Errorf("%s: %d: %d rules, %v", name, n, len(rules), err)
			}
		}
	}
	for name, text := range map[string]string{
		"elements": "[" + strings.Repeat("{},", 50_000) + "{}]",
		"lines":    strings.Repeat("\n", maxElements+1),
	} {
		if _, err := Parse([]byte(text)); !errors.Is(err, ErrTooLarge) || !strings.Contains(err.Error(), "at most 100000 are read") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
