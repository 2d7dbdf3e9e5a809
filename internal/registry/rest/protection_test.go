package rest

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Half of 20 leases fall silent at once: they are protected, until somebody says otherwise.
func TestProtection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		for i := range 20 {
			must(t, api, 201, "PUT", fmt.Sprintf("%s/p%02d", product, i), `{"address": "127.0.0.1:9000", "protocol": "http", "ttl": "10s"}`)
		}
		for range 30 {
			time.Sleep(5 * time.Second)
			for i := range 10 {
				must(t, api, 204, "POST", fmt.Sprintf("%s/p%02d/renew", product, i), "")
			}
		}
		items := must(t, api, 200, "GET", "/v1/protection?namespace=default", "").items(t)
		if len(items) != 1 || items[0]["service"] != "product" || items[0]["leases"] != 20. || items[0]["missing"] != 10. || items[0]["overriddenUntil"] != nil {
			t.Fatal(items)
		}
		if items := must(t, api, 200, "GET", "/v1/protection", "", "Authorization: Bearer shop-reader").items(t); len(items) != 0 {
			t.Error("a token of shop sees", items)
		}
		metrics := must(t, api, 200, "GET", "/metrics", "").body
		if !strings.Contains(metrics, "weft_registry_protected_missing ") || strings.Contains(metrics, "weft_registry_protected 0\n") {
			t.Error("the metrics do not say so")
		}
		for body, want := range map[string]int{
			`{"for": "25h"}`: 422, `{"for": "-1s"}`: 422, `{}`: 422, `{"service": "a b", "for": "1m"}`: 422, `{"for": 10}`: 400, `{"service": "none", "for": "1m"}`: 404,
		} {
			must(t, api, want, "PUT", "/v1/protection", body)
		}
		must(t, api, 403, "PUT", "/v1/protection?namespace=shop", `{"service": "product.default", "for": "1m"}`, "Authorization: Bearer shop-operator")
		must(t, api, 403, "PUT", "/v1/protection", `{"for": "1m"}`, "Authorization: Bearer shop-operator")
		must(t, api, 204, "PUT", "/v1/protection", `{"service": "product", "for": "10m"}`)
		if items := must(t, api, 200, "GET", "/v1/protection?namespace=default", "").items(t); items[0]["overriddenUntil"] == nil {
			t.Error(items)
		}
		must(t, api, 204, "PUT", "/v1/protection", `{"service": "product", "for": "0s"}`)
		if items := must(t, api, 200, "GET", "/v1/protection?namespace=default", "").items(t); items[0]["overriddenUntil"] != nil {
			t.Error(items)
		}
	})
}
