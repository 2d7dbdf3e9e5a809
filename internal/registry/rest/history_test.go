package rest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// shares is the canary with other weights.
func shares(v1 int) string {
	return strings.NewReplacer("90", fmt.Sprint(v1), "10", fmt.Sprint(100-v1)).Replace(canary)
}

// items gives the list in an answer.
func (a answer) items(t *testing.T) (out []map[string]any) {
	t.Helper()
	list, ok := a.json(t)["items"].([]any)
	if !ok {
		t.Fatalf("no items in %s", a.body)
	}
	for _, item := range list {
		out = append(out, item.(map[string]any))
	}
	return out
}

func (a answer) tag() string { return strings.Trim(a.header.Get("ETag"), `"`) }

const canaryPath = "/v1/rules/route/canary"

func TestHistory(t *testing.T) {
	api := newAPI(t)
	must(t, api, 404, "GET", canaryPath+"/history", "")
	first := must(t, api, 201, "PUT", canaryPath, shares(90), asYAML).tag()
	second := must(t, api, 200, "PUT", canaryPath, shares(80), asYAML, "Authorization: Bearer operator").tag()
	must(t, api, 200, "PUT", canaryPath, shares(80), asYAML) // unchanged, hence no version
	must(t, api, 200, "DELETE", canaryPath, "")

	a := must(t, api, 200, "GET", canaryPath+"/history", "")
	var got []string
	for _, v := range a.items(t) {
		got = append(got, fmt.Sprint(v["outcome"], " by ", v["by"], " ", v["rule"] != nil))
	}
	if want := []string{"deleted by admin false", "configured by operator true", "created by admin true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if v := a.items(t); v[1]["revision"] != second || v[2]["revision"] != first || a.tag() != v[0]["revision"] {
		t.Errorf("%s, want revisions %s and %s", a.body, second, first)
	}
	page := must(t, api, 200, "GET", canaryPath+"/history?limit=1&after="+second, "")
	if v := page.items(t); len(v) != 1 || v[0]["revision"] != first || page.json(t)["next"] != nil {
		t.Error(page.body)
	}
	if page := must(t, api, 200, "GET", canaryPath+"/history?limit=2", ""); page.json(t)["next"] != second {
		t.Error(page.body)
	}
	must(t, api, 404, "GET", canaryPath+"/history?after=1-1", "")
	must(t, api, 403, "GET", canaryPath+"/history", "", "Authorization: Bearer shop-admin")
}

func TestDiff(t *testing.T) {
	api := newAPI(t)
	first := must(t, api, 201, "PUT", canaryPath, shares(90), asYAML).tag()
	if v := must(t, api, 200, "GET", canaryPath+"/diff", "").json(t); v["from"] != nil || v["to"] != first || !strings.Contains(v["diff"].(string), "+name: canary") {
		t.Error("the first version differs from nothing", v)
	}
	second := must(t, api, 200, "PUT", canaryPath, shares(80), asYAML).tag()
	third := must(t, api, 200, "PUT", canaryPath, shares(70), asYAML).tag()
	for query, want := range map[string][3]string{
		"":                                {second, third, "-80+70"},
		"?from=" + first:                  {first, third, "-90+70"},
		"?to=" + second:                   {first, second, "-90+80"},
		"?from=" + third + "&to=" + first: {third, first, "-70+90"},
		"?from=" + first + "&to=" + first: {first, first, "-+"},
	} {
		v := must(t, api, 200, "GET", canaryPath+"/diff"+query, "").json(t)
		var minus, plus string
		for line := range strings.Lines(v["diff"].(string)) {
			if strings.HasPrefix(line, "---") || strings.HasPrefix(line, "+++") {
				continue
			}
			for _, n := range []string{"90", "80", "70"} {
				if strings.HasPrefix(line, "-") && strings.Contains(line, n) {
					minus = n
				} else if strings.HasPrefix(line, "+") && strings.Contains(line, n) {
					plus = n
				}
			}
			if strings.Contains(line, "revision") || strings.Contains(line, "updated") {
				t.Errorf("%s shows what the server writes: %s", query, line)
			}
		}
		if v["from"] != want[0] || v["to"] != want[1] || "-"+minus+"+"+plus != want[2] {
			t.Errorf("%s: %v, want %v", query, v, want)
		}
	}
	a := must(t, api, 404, "GET", canaryPath+"/diff?from=1-1", "")
	if !strings.Contains(a.body, `"location":"query.from"`) || !strings.Contains(a.body, first) {
		t.Error("the bound is not named", a.body)
	}
}

func TestRollback(t *testing.T) {
	api := newAPI(t)
	const back = canaryPath + "/rollback"
	must(t, api, 404, "POST", back, `{"revision": "1-1"}`)
	first := must(t, api, 201, "PUT", canaryPath, shares(90), asYAML).tag()
	second := must(t, api, 200, "PUT", canaryPath, shares(80), asYAML).tag()
	to := func(r string) string { return fmt.Sprintf(`{"revision": %q}`, r) }

	must(t, api, 412, "POST", back, to(first), "If-Match: "+first)
	if a := must(t, api, 200, "POST", back+"?dryRun=true", to(first)); !strings.Contains(a.body, `"outcome":"configured"`) || !strings.Contains(a.items(t)[0]["diff"].(string), "+") {
		t.Error(a.body)
	}
	if got := must(t, api, 200, "GET", canaryPath, "").tag(); got != second {
		t.Errorf("a dry run went back: %s", got)
	}
	third := must(t, api, 200, "POST", back, to(first), "If-Match: "+second)
	if v := third.items(t)[0]; v["outcome"] != "configured" || !strings.Contains(third.body, `"weight":90`) || third.tag() == first {
		t.Error(third.body)
	}
	if a := must(t, api, 200, "POST", back, to(first)); a.items(t)[0]["outcome"] != "unchanged" {
		t.Error(a.body)
	}
	gone := must(t, api, 200, "DELETE", canaryPath, "").json(t)["revision"].(string)
	if a := must(t, api, 422, "POST", back, to(gone)); !strings.Contains(a.body, `"location":"body.revision"`) {
		t.Error(a.body)
	}
	if a := must(t, api, 201, "POST", back, to(second), "If-None-Match: *"); a.items(t)[0]["outcome"] != "created" {
		t.Error(a.body)
	}
	if a := must(t, api, 200, "GET", canaryPath, ""); !strings.Contains(a.body, `"weight":80`) {
		t.Error(a.body)
	}
	for body, want := range map[string]int{`{}`: 422, to("soon"): 404, to("1-1"): 404, `{"revision": 3}`: 400, `{"to": "1-1"}`: 400} {
		must(t, api, want, "POST", back, body)
	}
	must(t, api, 403, "POST", back, to(first), "Authorization: Bearer reader")
	var actions []any
	for _, e := range must(t, api, 200, "GET", "/v1/audit", "").items(t) {
		actions = append(actions, e["action"])
	}
	if got := fmt.Sprint(actions); got != "[rollback delete rollback put put]" {
		t.Errorf("the audit log says %s", got)
	}
}

// A dry run shows what would differ, for each rule.
func TestDryRunDiff(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", canaryPath, canary, asYAML)
	other := strings.NewReplacer("canary", "stock-canary", "product", "stock").Replace(canary)
	items := must(t, api, 200, "POST", "/v1/rules?dryRun=true", shares(80)+"---"+other, asYAML).items(t)
	if d := items[0]["diff"].(string); strings.Count(d, "\n- ") != 2 || strings.Count(d, "\n+ ") != 2 {
		t.Error(d)
	}
	if d := items[1]["diff"].(string); !strings.Contains(d, "+name: stock-canary") || strings.Contains(d, "\n-name") {
		t.Error(d)
	}
	if items := must(t, api, 200, "PUT", canaryPath+"?dryRun=true", canary, asYAML).items(t); items[0]["outcome"] != "unchanged" || items[0]["diff"] != nil {
		t.Error(items)
	}
	if items := must(t, api, 200, "DELETE", canaryPath+"?dryRun=true", "").items(t); !strings.Contains(items[0]["diff"].(string), "-name: canary") {
		t.Error(items)
	}
	// The control: a write that is none of that has no diff.
	if items := must(t, api, 200, "PUT", canaryPath, shares(80), asYAML).items(t); items[0]["diff"] != nil {
		t.Error(items)
	}
}

// Deletes go into the transaction of the documents: all or nothing.
func TestDeleteWithApply(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", canaryPath, canary, asYAML)
	replacement := strings.Replace(canary, "name: canary", "name: other", 1)
	must(t, api, 409, "POST", "/v1/rules", replacement, asYAML) // the control: both enforce a route of product
	a := must(t, api, 200, "POST", "/v1/rules?delete=route/canary", replacement, asYAML)
	if items := a.items(t); len(items) != 2 || items[0]["outcome"] != "created" || items[1]["outcome"] != "deleted" {
		t.Error(a.body)
	}
	must(t, api, 404, "GET", canaryPath, "")
	must(t, api, 404, "POST", "/v1/rules?delete=route/canary&delete=route/other", "")
	must(t, api, 200, "GET", "/v1/rules/route/other", "")
	for _, bad := range []string{"canary", "none/canary", "route/", "route/A", "route/a.b.c"} {
		if a := must(t, api, 422, "POST", "/v1/rules?delete="+bad, ""); !strings.Contains(a.body, `"location":"query.delete"`) {
			t.Error(a.body)
		}
	}
	must(t, api, 422, "POST", "/v1/rules?delete=route/other", replacement, asYAML) // written and deleted
	must(t, api, 422, "POST", "/v1/rules", "", asYAML)
	must(t, api, 200, "POST", "/v1/rules?delete=route/other", "")
	must(t, api, 404, "GET", "/v1/rules/route/other", "")
}

// An answer with many deletes is bounded as the body is.
func TestManyDeletes(t *testing.T) {
	api := newAPI(t)
	query := "?delete=" + strings.Join(slices.Repeat([]string{"route/canary"}, 101), "&delete=")
	if a := must(t, api, 422, "POST", "/v1/rules"+query, ""); !strings.Contains(a.body, "100") {
		t.Error(a.body)
	}
}
