package rule

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// parsed reads one document that must be readable.
func parsed(t *testing.T, doc string) Rule {
	t.Helper()
	rules, err := Parse([]byte(doc))
	if err != nil || len(rules) != 1 {
		t.Fatalf("Parse: %d rules, %v", len(rules), err)
	}
	return rules[0]
}

func times(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// TestValidateAtBounds: what is exactly at a bound is valid. The cases beyond are in TestValidateRefuses.
func TestValidateAtBounds(t *testing.T) {
	label := "a" + strings.Repeat("-", 61) + "9"
	for name, doc := range map[string]string{
		"empty route":         body("Route", "{}"),
		"empty retry":         body("Retry", "{}"),
		"labels":              "kind: Retry\nnamespace: " + label + "\nname: " + label + "\nservice: " + label + "\nspec: {}\n",
		"every service":       "kind: Retry\nname: n\nservice: \"*\"\nspec: {}\n",
		"subsets":             body("Route", "{subsets: {"+times(100, "s%d: {a: b}, ")+"}}"),
		"subset labels":       body("Route", "{subsets: {v1: {"+times(64, "l%d: x, ")+"}}}"),
		"rules":               body("Route", "{rules: ["+times(100, "{timeout: 1%ds}, ")+"]}"),
		"matches":             body("Route", "{rules: [{match: ["+times(100, "{path: /%d}, ")+"]}]}"),
		"headers":             body("Route", "{rules: [{match: [{headers: {"+times(32, "h%d: x, ")+"}}]}]}"),
		"in":                  body("Route", "{rules: [{match: [{path: {in: ["+times(100, "/%d, ")+"]}}]}]}"),
		"destinations":        body("Route", "{subsets: {"+times(31, "s%d: {a: b}, ")+"}, rules: [{split: [{weight: 100}, "+times(31, "{subset: s%d}, ")+"]}]}"),
		"text":                body("Route", "{rules: [{match: [{cookies: {c: "+strings.Repeat("x", 1024)+"}}]}]}"),
		"one without weight":  body("Route", "{rules: [{split: [{}]}]}"),
		"weight zero":         body("Route", "{subsets: {v2: {a: b}}, rules: [{split: [{weight: 100}, {subset: v2, weight: 0}]}]}"),
		"empty header":        body("Route", `{rules: [{match: [{headers: {x: ""}}]}]}`),
		"regex length":        body("Route", `{rules: [{match: [{cookies: {c: {regex: "[`+strings.Repeat("a", 126)+`]"}}}]}]}`),
		"regex size":          body("Route", `{rules: [{match: [{cookies: {c: {regex: "`+strings.Repeat("a", 48)+`"}}}]}]}`),
		"metadata":            body("Route", "{rules: [{match: [{headers: {grpc-x_y.z: {prefix: a}}}]}]}"),
		"timeout":             body("Retry", "{timeout: 1h, perTryTimeout: 1ns}"),
		"attempts":            body("Retry", "{attempts: 10}"),
		"one attempt":         body("Retry", "{attempts: 1}"),
		"budget":              body("Retry", "{budget: {percent: 100, perSecond: 10000}}"),
		"no budget":           body("Retry", "{budget: {percent: 0, perSecond: 0}}"),
		"conditions":          body("Retry", `{on: [cancelled, data_loss, "400", "599", 4xx, 5xx, reset, timeout]}`),
		"backoff":             body("Retry", "{backoff: {base: 250ms}}"),
		"methods":             body("Retry", "{methods: ["+times(100, "{match: [{path: /%d}], attempts: 1}, ")+"]}"),
		"method retries none": body("Retry", "{methods: [{match: [{method: M-SEARCH}], on: []}]}"),
	} {
		t.Run(name, func(t *testing.T) {
			r := parsed(t, doc)
			if err := r.Validate(); err != nil {
				t.Error(err)
			}
			if err := r.WithDefaults().Validate(); err != nil {
				t.Errorf("completed: %v", err)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	const badLabel = "must be 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit"
	const badToken = "must be a name of letters, digits and !#$%&'*+-.^_`|~ (pseudo-headers have no names here: use path and method)"
	match := func(entry string) string { return body("Route", "{rules: [{match: ["+entry+"]}]}") }
	for _, tt := range []struct{ name, doc, want string }{
		{"nothing", "kind: Retry\n", "name: is missing; service: is missing; spec: is missing"},
		{"names", "kind: Retry\nnamespace: Shop\nname: -n\nservice: a.b\nspec: {}\n",
			`namespace: "Shop": ` + badLabel + `; name: "-n": ` + badLabel + `; service: "a.b": must be "*", or 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit`},
		{"long name", "kind: Retry\nname: " + strings.Repeat("n", 64) + "\nservice: s\nspec: {}\n", `name: "` + strings.Repeat("n", 64) + `": ` + badLabel},
		{"name of everything", "kind: Retry\nname: \"*\"\nservice: s\nspec: {}\n", `name: "*": ` + badLabel},
		{"observe", body("Retry", "{}") + "mode: observe\n", `mode: "observe": is not supported yet; must be enforce`},
		{"mode", body("Retry", "{}") + "mode: on\n", `mode: "on": must be enforce or observe`},

		{"total", body("Route", "{subsets: {v1: {a: b}}, rules: [{split: [{weight: 90}, {subset: v1, weight: 5}]}]}"), "spec.rules[0].split: 95: weights must total 100"},
		{"single total", body("Route", "{rules: [{split: [{weight: 90}]}]}"), "spec.rules[0].split: 90: weights must total 100"},
		{"no weights", body("Route", "{subsets: {v1: {a: b}}, rules: [{split: [{}, {subset: v1}]}]}"), "spec.rules[0].split: 0: weights must total 100"},
		{"weight", body("Route", "{subsets: {v1: {a: b}}, rules: [{split: [{weight: 130}, {subset: v1, weight: -30}]}]}"),
			"spec.rules[0].split[0].weight: 130: must be 0 to 100; spec.rules[0].split[1].weight: -30: must be 0 to 100"},
		{"unknown subset", body("Route", "{subsets: {v1: {a: b}, v2: {a: c}}, rules: [{split: [{subset: v3}]}]}"),
			`spec.rules[0].split[0].subset: "v3": must be one of spec.subsets: v1, v2`},
		{"no subsets", body("Route", "{rules: [{split: [{subset: v3}]}]}"), `spec.rules[0].split[0].subset: "v3": must be one of spec.subsets: it has none`},
		{"subset twice", body("Route", "{subsets: {v1: {a: b}}, rules: [{split: [{subset: v1, weight: 50}, {subset: v1, weight: 50}]}]}"),
			`spec.rules[0].split[1].subset: "v1": must not be in a split twice`},
		{"all instances twice", body("Route", "{rules: [{split: [{weight: 50}, {weight: 50}]}]}"), `spec.rules[0].split[1].subset: "": must not be in a split twice`},
		{"subset without labels", body("Route", "{subsets: {v1: {}}}"), "spec.subsets.v1: has 0 labels; must have 1 to 64"},
		{"many labels", body("Route", "{subsets: {v1: {"+times(65, "l%d: x, ")+"}}}"), "spec.subsets.v1: has 65 labels; must have 1 to 64"},
		{"empty label", body("Route", `{subsets: {v1: {"": x, b: ""}}}`), `spec.subsets.v1[""]: must have a name; spec.subsets.v1.b: "": must not be empty`},
		{"subset name", body("Route", "{subsets: {V1: {a: b}}}"), `spec.subsets.V1: "V1": ` + badLabel},
		{"many subsets", body("Route", "{subsets: {"+times(101, "s%d: {a: b}, ")+"}}"), "spec.subsets: has 101 entries; must have at most 100"},
		{"many rules", body("Route", "{rules: ["+times(101, "{timeout: 1%dms}, ")+"]}"), "spec.rules: has 101 entries; must have at most 100"},
		{"many destinations", body("Route", "{subsets: {"+times(32, "s%d: {a: b}, ")+"}, rules: [{split: [{weight: 100}, "+times(32, "{subset: s%d}, ")+"]}]}"),
			"spec.rules[0].split: has 33 entries; must have at most 32"},
		{"a rule that says nothing", body("Route", "{rules: [{}]}"), "spec.rules[0]: says nothing; give it a match, a split or a timeout"},
		{"whenEmpty", body("Route", "{rules: [{timeout: 1s, whenEmpty: drop}]}"), `spec.rules[0].whenEmpty: "drop": must be rest or fail`},
		{"stickyBy both", body("Route", "{rules: [{stickyBy: {header: x, cookie: y}}]}"), "spec.rules[0].stickyBy: must have exactly one of header, cookie"},
		{"stickyBy none", body("Route", "{rules: [{stickyBy: {}}]}"), "spec.rules[0].stickyBy: must have exactly one of header, cookie"},
		{"stickyBy name", body("Route", "{rules: [{stickyBy: {header: x y}}]}"), `spec.rules[0].stickyBy.header: "x y": ` + badToken},
		{"long timeout", body("Route", "{rules: [{timeout: 1h0m1s}]}"), "spec.rules[0].timeout: 1h0m1s: must be more than 0 and at most 1h"},
		{"negative timeout", body("Route", "{rules: [{timeout: -5m}]}"), "spec.rules[0].timeout: -5m: must be more than 0 and at most 1h"},

		{"match of nothing", match("{}"), "spec.rules[0].match[0]: says nothing; must have one of headers, cookies, query, path, method, caller"},
		{"many matches", match(times(101, "{path: /%d}, ")), "spec.rules[0].match: has 101 entries; must have at most 100"},
		{"many headers", match("{headers: {" + times(33, "h%d: x, ") + "}}"), "spec.rules[0].match[0].headers: has 33 entries; must have at most 32"},
		{"pseudo-header", match(`{headers: {":path": /x}}`), `spec.rules[0].match[0].headers[":path"]: ":path": ` + badToken},
		{"header twice", match("{headers: {X-A: a, x-a: b}}"), `spec.rules[0].match[0].headers.x-a: is "X-A" again: header names ignore case`},
		{"nameless query", match(`{query: {"": a}}`), `spec.rules[0].match[0].query[""]: must have a name`},
		{"path", match("{path: {in: [/a, b]}}"), `spec.rules[0].match[0].path.in[1]: "b": must start with /`},
		{"path in not", match("{path: {not: pkg.Service/Method}}"), `spec.rules[0].match[0].path.not: "pkg.Service/Method": must start with /`},
		{"method", match("{method: {prefix: get}}"), `spec.rules[0].match[0].method.prefix: "get": must be a method in capital letters, such as GET`},
		{"caller of nothing", match("{caller: {}}"), "spec.rules[0].match[0].caller: says nothing; must have one of service, namespace, labels"},
		{"caller", match(`{caller: {service: "*"}}`), `spec.rules[0].match[0].caller.service: "*": ` + badLabel},
		{"many caller labels", match("{caller: {labels: {" + times(65, "l%d: x, ") + "}}}"), "spec.rules[0].match[0].caller.labels: has 65 entries; must have at most 64"},
		{"no comparison", match("{path: {}}"), "spec.rules[0].match[0].path: has 0 of exact, prefix, regex, present, in, not; must have exactly one"},
		{"two comparisons", match("{path: {exact: /a, prefix: /b}}"), "spec.rules[0].match[0].path: has 2 of exact, prefix, regex, present, in, not; must have exactly one"},
		{"empty prefix", match(`{cookies: {c: {prefix: ""}}}`), `spec.rules[0].match[0].cookies.c.prefix: "": has 0 bytes; must have 1 to 1024`},
		{"not not", match("{cookies: {c: {not: {not: a}}}}"), "spec.rules[0].match[0].cookies.c.not.not: must not be nested"},
		{"many in", match("{cookies: {c: {in: [" + times(101, "x%d, ") + "]}}}"), "spec.rules[0].match[0].cookies.c.in: has 101 entries; must have at most 100"},
		{"long text", match("{cookies: {c: " + strings.Repeat("x", 1025) + "}}"),
			`spec.rules[0].match[0].cookies.c.exact: "` + strings.Repeat("x", 64) + `"…: has 1025 bytes; must have 0 to 1024`},
		{"regex", match(`{cookies: {c: {regex: "a)|(b"}}}`),
			"spec.rules[0].match[0].cookies.c.regex: \"a)|(b\": must be a regular expression: error parsing regexp: unexpected ): `a)|(b`"},
		{"long regex", match(`{cookies: {c: {regex: "` + strings.Repeat("a", 129) + `"}}}`),
			`spec.rules[0].match[0].cookies.c.regex: "` + strings.Repeat("a", 64) + `"…: has 129 bytes; must have 1 to 128`},
		{"large regex", match(`{cookies: {c: {regex: "` + strings.Repeat("a", 49) + `"}}}`),
			`spec.rules[0].match[0].cookies.c.regex: "` + strings.Repeat("a", 49) + `": has 51 compiled instructions; must have at most 50`},
		{"exploding regex", match(`{cookies: {c: {regex: "(a{30}){30}"}}}`),
			`spec.rules[0].match[0].cookies.c.regex: "(a{30}){30}": has 962 compiled instructions; must have at most 50`},

		{"attempts", body("Retry", "{attempts: 11}"), "spec.attempts: 11: must be 1 to 10"},
		{"negative attempts", body("Retry", "{attempts: -1}"), "spec.attempts: -1: must be 1 to 10"},
		{"percent", body("Retry", "{budget: {percent: 101, perSecond: -1}}"), "spec.budget.percent: 101: must be 0 to 100; spec.budget.perSecond: -1: must be 0 to 10000"},
		{"perSecond", body("Retry", "{budget: {perSecond: 10001}}"), "spec.budget.perSecond: 10001: must be 0 to 10000"},
		{"backoff", body("Retry", "{backoff: {base: 2s, max: 1s}}"), "spec.backoff.base: 2s: must be at most max, 1s"},
		{"backoff above the default", body("Retry", "{backoff: {base: 1s}}"), "spec.backoff.base: 1s: must be at most max, 250ms"},
		{"backoff below the default", body("Retry", "{backoff: {max: 1ms}}"), "spec.backoff.base: 25ms: must be at most max, 1ms"},
		{"condition twice", body("Retry", "{on: [reset, reset]}"), `spec.on[1]: "reset": must not be there twice`},
		{"many conditions", body("Retry", "{on: ["+times(33, `"4%02d", `)+"]}"), "spec.on: has 33 entries; must have at most 32"},
		{"method without match", body("Retry", "{methods: [{attempts: 1}]}"), "spec.methods[0].match: is missing"},
		{"method without effect", body("Retry", "{methods: [{match: [{path: /a}]}]}"),
			"spec.methods[0]: overrides nothing; must have one of idempotent, attempts, on, perTryTimeout, timeout"},
		{"method's own", body("Retry", "{methods: [{match: [{path: /a}], attempts: 11, on: [reset, reset], timeout: 2h}]}"),
			`spec.methods[0].attempts: 11: must be 1 to 10; spec.methods[0].timeout: 2h: must be more than 0 and at most 1h; spec.methods[0].on[1]: "reset": must not be there twice`},
		{"many methods", body("Retry", "{methods: ["+times(101, "{match: [{path: /%d}], attempts: 1}, ")+"]}"), "spec.methods: has 101 entries; must have at most 100"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := parsed(t, tt.doc).Validate()
			if err == nil {
				t.Fatal("valid")
			}
			if diff := cmp.Diff(tt.want, err.Error()); diff != "" {
				t.Error(diff)
			}
			var typed *Error
			if !errors.As(err, &typed) || typed.Syntax() {
				t.Errorf("%T, want an *Error that is not about syntax", err)
			}
		})
	}
}

func TestValidateConditions(t *testing.T) {
	for _, word := range []string{"UNAVAILABLE", "ok", "503 ", "+503", "399", "600", "6xx", "", "0503", "unavailable,reset"} {
		r := Rule{Kind: KindRetry, Name: "n", Service: "s", Spec: &Retry{On: []string{word}}}
		want := "spec.on[0]: " + quote(word) + ": must be a gRPC code in lower case"
		if err := r.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v, want %s…", word, err, want)
		}
	}
}

// foreign satisfies Spec from outside, as another package can by embedding.
type foreign struct{ Spec }

// TestValidateMadeInGo: a rule can be made in ways that no document can say. None of them panics, anywhere.
func TestValidateMadeInGo(t *testing.T) {
	loop := &StringMatch{}
	loop.Not = loop
	route := func(rr ...RouteRule) Spec { return &Route{Rules: rr} }
	for _, tt := range []struct {
		name string
		rule Rule
		want string
	}{
		{"zero", Rule{}, "kind: is missing; name: is missing; service: is missing; spec: is missing"},
		{"unknown kind", Rule{Kind: "X", Name: "n", Service: "s", Spec: &Retry{}}, `kind: "X": is not a kind; the kinds are Route, Retry`},
		{"nil spec", Rule{Kind: KindRoute, Name: "n", Service: "s"}, "spec: is missing"},
		{"typed nil spec", Rule{Kind: KindRoute, Name: "n", Service: "s", Spec: (*Route)(nil)}, "spec: *rule.Route: must be a *rule.Route that is not nil"},
		{"spec of another kind", Rule{Kind: KindRoute, Name: "n", Service: "s", Spec: &Retry{}}, "spec: *rule.Retry: must be a *rule.Route that is not nil"},
		{"foreign spec", Rule{Kind: KindRoute, Name: "n", Service: "s", Spec: foreign{}}, "spec: rule.foreign: must be a *rule.Route that is not nil"},
		{"a match within itself", Rule{Kind: KindRoute, Name: "n", Service: "s", Spec: route(RouteRule{Match: []Match{{Path: loop}}})},
			"spec.rules[0].match[0].path.not.not: must not be nested"},
		{"not UTF-8", Rule{Kind: KindRoute, Name: "n", Service: "s", Spec: route(RouteRule{Match: []Match{{Cookies: map[string]StringMatch{"c": exact("\xff")}}}})},
			`spec.rules[0].match[0].cookies.c.exact: "\xff": must be UTF-8`},
		{"empty lists", Rule{Kind: KindRoute, Name: "n", Service: "s", Spec: route(RouteRule{Match: []Match{}, Split: []Destination{}, Timeout: time.Second})}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.rule.Validate()
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("Validate: %v, want %s", err, tt.want)
			}
			completed := tt.rule.WithDefaults()
			if got := completed.Validate(); (got == nil) != (err == nil) {
				t.Errorf("completed: %v", got)
			}
			if _, marshal := tt.rule.MarshalJSON(); marshal != nil && err == nil {
				t.Errorf("MarshalJSON: %v", marshal)
			}
		})
	}
}

func TestCompileRegex(t *testing.T) {
	re, err := CompileRegex("a|b(?i)c")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"a": true, "bC": true, "ax": false, "xa": false, "a\n": false, "": false} {
		if re.MatchString(text) != want {
			t.Errorf("%q: %v, want %v", text, !want, want)
		}
	}
	if _, err := CompileRegex(strings.Repeat("a", 129)); err == nil || err.Error() != "has 129 bytes; must have at most 128" {
		t.Error(err)
	}
}
