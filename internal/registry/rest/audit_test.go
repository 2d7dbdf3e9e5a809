package rest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestAudit(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`, "Authorization: Bearer operator")
	must(t, api, 201, "PUT", canaryPath, canary, asYAML)
	must(t, api, 201, "PUT", canaryPath+"?namespace=shop", canary, asYAML, "Authorization: Bearer shop-operator")
	must(t, api, 200, "PUT", canaryPath+"?dryRun=true", shares(80), asYAML)
	must(t, api, 204, "PUT", "/v1/protection", `{"for": "10m"}`)
	items := must(t, api, 200, "GET", "/v1/audit", "").items(t)
	var got []string
	for _, e := range items {
		got = append(got, fmt.Sprint(e["who"], " ", e["from"], " ", e["action"], " ", e["kind"], " ", e["namespace"], " ", e["target"]))
	}
	want := []string{
		"admin 192.0.2.1 override protection <nil> *",
		"shop-operator 192.0.2.1 put Route shop canary",
		"admin 192.0.2.1 put Route default canary",
		"operator 192.0.2.1 put instance default product/p1",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%q, want %q", got, want)
	}
	for query, want := range map[string]int{
		"?who=operator": 1, "?kind=Route": 2, "?kind=route": 2, "?kind=Instance": 1, "?target=canary": 2, "?namespace=shop": 1, "?limit=2": 2, fmt.Sprintf("?before=%v", items[2]["number"]): 1,
	} {
		if items := must(t, api, 200, "GET", "/v1/audit"+query, "").items(t); len(items) != want {
			t.Errorf("%s: %v, want %d", query, items, want)
		}
	}
	page := must(t, api, 200, "GET", "/v1/audit?limit=3", "")
	if rest := must(t, api, 200, "GET", "/v1/audit?limit=3&before="+page.json(t)["next"].(string), ""); len(rest.items(t)) != 1 || rest.json(t)["next"] != nil {
		t.Error(rest.body)
	}
	if items := must(t, api, 200, "GET", "/v1/audit", "", "Authorization: Bearer shop-operator").items(t); len(items) != 1 || items[0]["namespace"] != "shop" {
		t.Error("a token of shop sees", items)
	}
	if a := must(t, api, 403, "GET", "/v1/audit", "", "Authorization: Bearer shop-reader"); strings.Contains(a.body, "in all namespaces") {
		t.Error("an operator of one namespace may, but it says:", a.body)
	}
}

// Whatever the limit, next leads to the oldest entry: no page ends early for want of room.
func TestAuditPages(t *testing.T) {
	api := newAPI(t)
	const all = 1005
	_, err := api.Catalog.Do(t.Context(), func(b *store.Batch) error {
		for range all {
			api.Catalog.Audit().Append(b, audit.Entry{Action: "put", Kind: "instance", Namespace: "default"})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	must(t, api, 422, "GET", "/v1/audit?limit=1001", "")
	for _, limit := range []int{1000, 100, 7} {
		n, query := 0, fmt.Sprintf("/v1/audit?limit=%d", limit)
		for page := query; page != ""; {
			api.costly = newMeters(costlyRate, costlyBurst)
			a := must(t, api, 200, "GET", page, "")
			n += len(a.items(t))
			page = ""
			if next, more := a.json(t)["next"].(string); more {
				page = query + "&before=" + next
			}
		}
		if n != all {
			t.Errorf("limit %d: %d entries, want %d", limit, n, all)
		}
	}
}
