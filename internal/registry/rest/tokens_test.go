package rest

import (
	"strings"
	"testing"
)

func TestTokens(t *testing.T) {
	api := newAPI(t)
	a := must(t, api, 201, "POST", "/v1/tokens", `{"name": "ci", "role": "operator", "namespaces": ["shop"], "ttl": "1h"}`)
	v := a.json(t)
	if v["token"] != "text-ci" || v["id"] != "id-ci" || v["role"] != "operator" || v["createdBy"] != "admin" || v["expiresAt"] == nil || a.header.Get("Cache-Control") != "no-store" {
		t.Error(a)
	}
	if list := must(t, api, 200, "GET", "/v1/tokens", ""); strings.Contains(list.body, "text-ci") || len(list.items(t)) != 1 || list.items(t)[0]["name"] != "ci" {
		t.Error(list.body)
	}
	must(t, api, 200, "GET", "/v1/services?namespace=shop", "", "Authorization: Bearer text-ci")
	must(t, api, 204, "DELETE", "/v1/tokens/id-ci", "")
	must(t, api, 401, "GET", "/v1/services?namespace=shop", "", "Authorization: Bearer text-ci")
	must(t, api, 404, "DELETE", "/v1/tokens/id-ci", "")
	for body, location := range map[string]string{
		`{"name": "", "role": "reader"}`:                 "body.name",
		`{"name": "a", "role": "reader", "ttl": "10ms"}`: "body.ttl",
		`{"name": "a", "role": "reader", "ttl": "soon"}`: "body.ttl",
	} {
		if a := must(t, api, 422, "POST", "/v1/tokens", body); !strings.Contains(a.body, `"location":"`+location+`"`) {
			t.Error(a.body)
		}
	}
	must(t, api, 400, "POST", "/v1/tokens", `{"name": "a", "roles": ["reader"]}`)
}
