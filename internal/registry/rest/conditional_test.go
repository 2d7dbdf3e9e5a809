package rest

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestETags takes every GET of the router: what is described with a 304 has an ETag and answers one.
func TestETags(t *testing.T) {
	api := newAPI(t)
	api.costly = newMeters(1e9, 1e9)
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	must(t, api, 201, "PUT", canaryPath, canary, asYAML)
	must(t, api, 201, "PUT", "/v1/aliases/canary", `{"service": "product"}`)
	var doc struct {
		Paths map[string]map[string]struct{ Responses map[string]any }
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	without := map[string]bool{"/v1/watch": true, "/v1/backup": true}
	seen := 0
	for pattern, methods := range doc.Paths {
		get, is := methods["get"]
		if !is || without[pattern] {
			continue
		}
		seen++
		if get.Responses["304"] == nil {
			t.Errorf("%s does not say 304", pattern)
		}
		_, address := concrete("GET " + pattern)
		a := must(t, api, 200, "GET", address, "")
		tag := a.header.Get("ETag")
		if !strings.HasPrefix(tag, `"`) {
			t.Errorf("%s has the ETag %q", address, tag)
		}
		for _, sent := range []string{tag, `"other", W/` + tag, "*"} {
			if b := must(t, api, 304, "GET", address, "", "If-None-Match: "+sent); b.body != "" || b.header.Get("ETag") != tag {
				t.Errorf("%s: %v %q", address, b.header, b.body)
			}
		}
		if b := must(t, api, 200, "GET", address, "", `If-None-Match: "other"`); b.body == "" { // the control
			t.Errorf("%s: no body", address)
		}
	}
	if seen < 12 {
		t.Errorf("only %d", seen)
	}
	must(t, api, 404, "GET", "/v1/rules/route/none", "", "If-None-Match: *")
}

// The tag changes with the content, also of what has no revision.
func TestETagsChange(t *testing.T) {
	api := newAPI(t)
	for _, c := range []struct{ path, method, change, body string }{
		{"/v1/services", "PUT", product + "/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`},
		{product, "PUT", product + "/p1", `{"address": "127.0.0.1:9001", "protocol": "http"}`},
		{"/v1/rules", "PUT", "/v1/rules/retry/r", `{"kind": "Retry", "name": "r", "service": "product", "spec": {"attempts": 2}}`},
		{"/v1/tokens", "POST", "/v1/tokens", `{"name": "ci", "role": "reader"}`},
		{"/v1/status", "PUT", product + "/p2", `{"address": "127.0.0.1:9002", "protocol": "http"}`},
	} {
		before := must(t, api, 200, "GET", c.path, "").header.Get("ETag")
		if a := do(t, api, c.method, c.change, c.body); a.status >= 300 {
			t.Fatal(a)
		}
		if a := must(t, api, 200, "GET", c.path, "", "If-None-Match: "+before); a.header.Get("ETag") == before {
			t.Errorf("%s keeps its ETag %s", c.path, before)
		}
	}
}
