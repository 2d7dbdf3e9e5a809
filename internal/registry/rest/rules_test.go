package rest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

const canary = `
kind: Route
name: canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules:
    - split: [{subset: v1, weight: 90}, {subset: v2, weight: 10}]
`

const asYAML = "Content-Type: application/yaml"

func TestRuleLife(t *testing.T) {
	api := newAPI(t)
	a := must(t, api, 201, "PUT", "/v1/rules/ROUTE/canary", canary, asYAML)
	if v := a.json(t); v["items"].([]any)[0].(map[string]any)["outcome"] != "created" {
		t.Error(a.body)
	}
	first := a.header.Get("ETag")
	a = must(t, api, 200, "PUT", "/v1/rules/route/canary", canary, asYAML)
	if a.header.Get("ETag") != first || !strings.Contains(a.body, `"outcome":"unchanged"`) {
		t.Errorf("%v %s", a.header, a.body)
	}
	a = must(t, api, 200, "GET", "/v1/rules/route/canary", "")
	if v := a.json(t); a.header.Get("ETag") != first || `"`+v["revision"].(string)+`"` != first || v["updatedBy"] != "admin" {
		t.Errorf("%v %s", a.header, a.body)
	}
	// What was read can be written back, as JSON and as YAML.
	must(t, api, 200, "PUT", "/v1/rules/route/canary", a.body, "If-Match: "+first)
	yaml := must(t, api, 200, "GET", "/v1/rules/route/canary", "", "Accept: application/yaml")
	if yaml.header.Get("Content-Type") != "application/yaml" || !strings.HasPrefix(yaml.body, "kind: Route\nnamespace: default\nname: canary\n") {
		t.Errorf("%v %s", yaml.header, yaml.body)
	}
	if b := must(t, api, 200, "PUT", "/v1/rules/route/canary", yaml.body, asYAML); !strings.Contains(b.body, "unchanged") {
		t.Error(b.body)
	}
	a = must(t, api, 200, "PUT", "/v1/rules/route/canary", strings.NewReplacer("90", "80", "10", "20").Replace(canary), asYAML)
	if a.header.Get("ETag") == first || !strings.Contains(a.body, `"outcome":"configured"`) {
		t.Errorf("%v %s", a.header, a.body)
	}
	if a = must(t, api, 200, "DELETE", "/v1/rules/route/canary", ""); !strings.Contains(a.body, `"outcome":"deleted"`) {
		t.Error(a.body)
	}
	must(t, api, 404, "DELETE", "/v1/rules/route/canary", "")
	must(t, api, 404, "GET", "/v1/rules/route/canary", "")
	must(t, api, 404, "GET", "/v1/rules/nokind/canary", "")
}

func TestGuardedWrites(t *testing.T) {
	api := newAPI(t)
	const path = "/v1/rules/route/canary"
	must(t, api, 412, "PUT", path, canary, asYAML, "If-Match: *")
	must(t, api, 412, "PUT", path, canary, asYAML, `If-Match: "1-1"`)
	first := must(t, api, 201, "PUT", path, canary, asYAML, "If-None-Match: *").header.Get("ETag")
	a := must(t, api, 412, "PUT", path, canary, asYAML, "If-None-Match: *")
	if !strings.Contains(a.body, strings.Trim(first, `"`)) {
		t.Errorf("the current revision is not named: %s", a.body)
	}
	changed := strings.NewReplacer("90", "80", "10", "20").Replace(canary)
	second := must(t, api, 200, "PUT", path, changed, asYAML, "If-Match: "+first).header.Get("ETag")
	a = must(t, api, 412, "PUT", path, canary, asYAML, "If-Match: "+first)
	if !strings.Contains(a.body, strings.Trim(second, `"`)) {
		t.Errorf("the current revision is not named: %s", a.body)
	}
	must(t, api, 412, "DELETE", path, "", "If-Match: "+first)
	must(t, api, 200, "PUT", path, canary, asYAML, "If-Match: *")
	for header, text := range map[string]string{"If-Match": "soon", "If-None-Match": second} {
		a := must(t, api, 400, "PUT", path, canary, asYAML, header+": "+text)
		if !strings.Contains(a.body, `"location":"header.`+header+`"`) {
			t.Error(a.body)
		}
	}
	// Without quotes too, as the rule itself says it.
	current := strings.Trim(must(t, api, 200, "GET", path, "").header.Get("ETag"), `"`)
	must(t, api, 200, "DELETE", path, "", "If-Match: "+current)
}

func TestDryRunWritesNothing(t *testing.T) {
	api := newAPI(t)
	const path = "/v1/rules/route/canary"
	before := api.Catalog.Revision()
	a := must(t, api, 200, "PUT", path+"?dryRun=true", canary, asYAML)
	if v := a.json(t); v["dryRun"] != true || v["items"].([]any)[0].(map[string]any)["outcome"] != "created" {
		t.Error(a.body)
	}
	must(t, api, 200, "POST", "/v1/rules?dryRun=true", canary, asYAML)
	must(t, api, 422, "PUT", path+"?dryRun=true", strings.Replace(canary, "90", "80", 1), asYAML)
	must(t, api, 404, "DELETE", path+"?dryRun=true", "")
	if rules, after := api.Catalog.Rules(catalog.Filter{}); len(rules) != 0 || after != before {
		t.Errorf("rules %v at %s, was %s", rules, after, before)
	}
	must(t, api, 201, "PUT", path, canary, asYAML) // the control
	must(t, api, 200, "DELETE", path+"?dryRun=true", "")
	must(t, api, 409, "POST", "/v1/rules?dryRun=true", strings.Replace(canary, "name: canary", "name: other", 1), asYAML)
	must(t, api, 200, "GET", path, "")
}

func TestOneTransaction(t *testing.T) {
	api := newAPI(t)
	other := strings.NewReplacer("canary", "stock-canary", "product", "stock").Replace(canary)
	bad := strings.NewReplacer("canary", "bad", "product", "cart", "90", "80").Replace(canary)
	a := must(t, api, 422, "POST", "/v1/rules", canary+"---"+other+"---"+bad, asYAML)
	if !strings.Contains(a.body, `"location":"body[2].spec.rules[0].split"`) {
		t.Error(a.body)
	}
	if a := must(t, api, 200, "GET", "/v1/rules", ""); !strings.Contains(a.body, `"items":[]`) {
		t.Errorf("a part was written: %s", a.body)
	}
	a = must(t, api, 200, "POST", "/v1/rules", canary+"---"+other, asYAML)
	if v := a.json(t); len(v["items"].([]any)) != 2 {
		t.Error(a.body)
	}
	// The list comes back as it was given: JSON values in a row are as good.
	one := must(t, api, 200, "GET", "/v1/rules/route/canary", "").body
	two := must(t, api, 200, "GET", "/v1/rules/route/stock-canary", "").body
	if a := must(t, api, 200, "POST", "/v1/rules", one+two); strings.Count(a.body, "unchanged") != 2 {
		t.Error(a.body)
	}
	must(t, api, 422, "POST", "/v1/rules", "---\n", asYAML)
	must(t, api, 422, "POST", "/v1/rules", canary+"---"+canary, asYAML)
}

func TestListRules(t *testing.T) {
	api := newAPI(t)
	retry := func(name, service string) string {
		return fmt.Sprintf(`{"kind": "Retry", "name": %q, "service": %q, "spec": {"attempts": 2}}`, name, service)
	}
	must(t, api, 200, "POST", "/v1/rules", canary+"---\n"+retry("a", "product")+"\n---\n"+retry("b", "*"), asYAML)
	must(t, api, 200, "POST", "/v1/rules?namespace=shop", retry("c", "product"))
	for query, want := range map[string]string{
		"":                             "Retry/a Retry/b Route/canary",
		"?kind=retry":                  "Retry/a Retry/b",
		"?service=product":             "Retry/a Route/canary",
		"?service=*":                   "Retry/b",
		"?kind=route&service=stock":    "",
		"?namespace=shop":              "Retry/c",
		"?limit=1&after=Retry/a":       "Retry/b",
		"?after=Retry/b":               "Route/canary",
		"?namespace=empty&kind=Retry":  "",
		"?kind=RETRY&service=product":  "Retry/a",
		"?service=product&limit=10000": "Retry/a Route/canary",
	} {
		var got []string
		for _, item := range must(t, api, 200, "GET", "/v1/rules"+query, "").json(t)["items"].([]any) {
			r := item.(map[string]any)
			got = append(got, r["kind"].(string)+"/"+r["name"].(string))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", query, got, want)
		}
	}
	must(t, api, 422, "GET", "/v1/rules?kind=none", "")
	must(t, api, 400, "GET", "/v1/rules?kinds=route", "")
}

func TestBadRules(t *testing.T) {
	api := newAPI(t)
	must(t, api, 200, "POST", "/v1/rules", canary, asYAML)
	for _, c := range []struct {
		name, path, body string
		status           int
		location         string
	}{
		{"other name", "/v1/rules/route/other", canary, 422, "body.name"},
		{"other kind", "/v1/rules/retry/canary", canary, 422, "body.kind"},
		{"other namespace", "/v1/rules/route/canary", "namespace: shop" + canary, 422, "body.namespace"},
		{"other namespace in the query", "/v1/rules/route/canary?namespace=shop", "namespace: default" + canary, 422, "body.namespace"},
		{"two documents", "/v1/rules/route/canary", canary + "---" + canary, 422, "body"},
		{"no document", "/v1/rules/route/canary", "# nothing\n", 422, "body"},
		{"unknown field", "/v1/rules/route/canary", strings.Replace(canary, "split", "spilt", 1), 400, "body.spec.rules[0].spilt"},
		{"twice", "/v1/rules/route/canary", canary + "service: product\n", 400, "body.service"},
		{"no YAML", "/v1/rules/route/canary", "kind: [", 400, "body"},
		{"unknown subset", "/v1/rules/route/canary", strings.Replace(canary, "subset: v2", "subset: v3", 1), 422, "body.spec.rules[0].split[1].subset"},
		{"not 100", "/v1/rules/route/canary", strings.Replace(canary, "90", "80", 1), 422, "body.spec.rules[0].split"},
	} {
		a := must(t, api, c.status, "PUT", c.path, c.body, asYAML)
		if !strings.Contains(a.body, `"location":"`+c.location+`"`) {
			t.Errorf("%s: %s", c.name, a.body)
		}
	}
	if a := must(t, api, 415, "POST", "/v1/rules", canary, "Content-Type: text/plain"); !strings.Contains(a.body, "application/yaml") {
		t.Error(a.body)
	}
	// Problems stay JSON for who asks for YAML.
	if a := must(t, api, 404, "GET", "/v1/rules/route/none", "", "Accept: application/yaml"); a.header.Get("Content-Type") != "application/problem+json" || a.json(t)["status"] != 404.0 {
		t.Errorf("%v %s", a.header, a.body)
	}
}

// TestEveryKindIsDescribed fails for a kind whose spec is not in the description.
func TestEveryKindIsDescribed(t *testing.T) {
	text := string(newAPI(t).OpenAPI())
	for _, kind := range rule.Kinds() {
		if !strings.Contains(text, `"Rule`+string(kind)+`": {`) {
			t.Errorf("no schema for %s", kind)
		}
	}
}

func TestBodyAtTheBound(t *testing.T) {
	api := newAPI(t)
	padded := func(size int) string { return canary + "#" + strings.Repeat("x", size-len(canary)-1) }
	must(t, api, 201, "PUT", "/v1/rules/route/canary", padded(maxBody), asYAML)
	must(t, api, 413, "PUT", "/v1/rules/route/canary", padded(maxBody+1), asYAML)
	must(t, api, 413, "PUT", product+"/p1", padded(maxBody+1))
	must(t, api, 413, "POST", "/v1/rules", padded(maxBody+maxDrain+1000), asYAML)
}

// What guards a write and is not understood is refused: it must not write.
func TestGuardsAreNotIgnored(t *testing.T) {
	api := newAPI(t)
	for _, c := range []struct {
		method, path, body string
		headers            []string
	}{
		{"POST", "/v1/rules?DryRun=true;", canary, []string{"Content-Type: application/yaml"}},
		{"POST", "/v1/rules?dryRun=", canary, []string{"Content-Type: application/yaml"}},
		{"POST", "/v1/rules", canary, []string{"Content-Type: application/yaml", `If-Match: "1-1"`}},
		{"DELETE", "/v1/services/product/instances/p1", "", []string{`If-Match: "1-1"`}},
	} {
		must(t, api, 400, c.method, c.path, c.body, c.headers...)
	}
	if a := must(t, api, 200, "GET", "/v1/rules", ""); strings.Contains(a.body, "canary") {
		t.Errorf("a refused write wrote: %s", a.body)
	}
}
