package rest

import (
	"strings"
	"testing"
)

func TestAliases(t *testing.T) {
	api := newAPI(t)
	const one = "/v1/aliases/64030:65536"
	must(t, api, 404, "GET", one, "")
	a := must(t, api, 201, "PUT", one, `{"service": "product.shop"}`)
	if v := a.json(t); v["name"] != "64030:65536" || v["namespace"] != "default" || v["service"] != "product.shop" || v["revision"] != a.tag() {
		t.Error(a.body)
	}
	if b := must(t, api, 200, "PUT", one, `{"service": "product.shop"}`); b.tag() != a.tag() {
		t.Error("the same again has a new revision", b)
	}
	if b := must(t, api, 200, "PUT", one, `{"service": "product"}`); b.json(t)["service"] != "product.default" || b.tag() == a.tag() {
		t.Error(b)
	}
	must(t, api, 201, "PUT", "/v1/aliases/goods", `{"service": "product"}`)
	if items := must(t, api, 200, "GET", "/v1/aliases", "").items(t); len(items) != 2 || items[0]["name"] != "64030:65536" || items[1]["name"] != "goods" {
		t.Error(items)
	}
	if items := must(t, api, 200, "GET", "/v1/aliases?limit=1&after=64030:65536", "").items(t); len(items) != 1 || items[0]["name"] != "goods" {
		t.Error(items)
	}
	if items := must(t, api, 200, "GET", "/v1/aliases?namespace=shop", "").items(t); len(items) != 0 {
		t.Error(items)
	}
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	for name, body := range map[string]string{"product": `{"service": "stock"}`, "other": `{"service": "goods"}`} {
		must(t, api, 409, "PUT", "/v1/aliases/"+name, body) // a service; the alias of an alias
	}
	must(t, api, 422, "PUT", "/v1/aliases/a%2Fb", `{"service": "product"}`)
	if b := must(t, api, 422, "PUT", "/v1/aliases/a", `{"service": "a b"}`); !strings.Contains(b.body, `"location":"body.service"`) {
		t.Error(b.body)
	}
	must(t, api, 400, "PUT", "/v1/aliases/a", `{"target": "product"}`)
	must(t, api, 204, "DELETE", one, "")
	must(t, api, 404, "DELETE", one, "")
}
