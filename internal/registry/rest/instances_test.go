package rest

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const product = "/v1/services/product/instances"

func TestInstanceLife(t *testing.T) {
	api := newAPI(t)
	a := must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http", "labels": {"version": "v1"}, "locality": {"zone": "a"}}`)
	if v := a.json(t); v["weight"] != 100.0 || v["state"] != "up" || v["namespace"] != "default" || a.header.Get("ETag") == "" {
		t.Errorf("%s %v", a.body, a.header)
	}
	// What was answered can be put back as it is.
	if again := must(t, api, 200, "PUT", product+"/p1", a.body); again.header.Get("ETag") != a.header.Get("ETag") {
		t.Error("putting the same again has made a new revision")
	}
	a = must(t, api, 200, "PATCH", product+"/p1", `{"weight": 5, "state": "isolated"}`)
	if v := a.json(t); v["weight"] != 5.0 || v["state"] != "isolated" || v["labels"].(map[string]any)["version"] != "v1" {
		t.Error(a.body)
	}
	a = must(t, api, 200, "PATCH", product+"/p1", `{"state": "up", "labels": {"version": "v2"}}`)
	if v := a.json(t); v["weight"] != 5.0 || v["state"] != "up" || v["labels"].(map[string]any)["version"] != "v2" {
		t.Error(a.body)
	}
	if v := must(t, api, 200, "GET", "/v1/services/product", "").json(t); v["instances"] != 1.0 || v["states"].(map[string]any)["up"] != 1.0 {
		t.Error(v)
	}
	must(t, api, 204, "DELETE", product+"/p1", "")
	must(t, api, 404, "DELETE", product+"/p1", "")
	must(t, api, 404, "PATCH", product+"/p1", `{}`)
	must(t, api, 404, "GET", "/v1/services/product", "")
	must(t, api, 404, "GET", product, "")
}

func TestNamespacesAreApart(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", product+"/p1?namespace=shop", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	must(t, api, 404, "GET", product, "")
	if a := must(t, api, 200, "GET", product+"?namespace=shop", ""); !strings.Contains(a.body, `"namespace":"shop"`) {
		t.Error(a.body)
	}
	must(t, api, 422, "GET", product+"?namespace=Shop", "")
}

func TestBadInstances(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		location, value          string
	}{
		{"no port", "PUT", product + "/p2", `{"address": "127.0.0.1", "protocol": "http"}`, 422, "body.address", "127.0.0.1"},
		{"protocol", "PUT", product + "/p2", `{"address": "127.0.0.1:9000", "protocol": "ftp"}`, 422, "body.protocol", "ftp"},
		{"weight", "PUT", product + "/p2", `{"address": "127.0.0.1:9000", "protocol": "http", "weight": 10001}`, 422, "body.weight", "10001"},
		{"state", "PUT", product + "/p2", `{"address": "127.0.0.1:9000", "protocol": "http", "state": "unhealthy"}`, 422, "body.state", "unhealthy"},
		{"ttl", "PUT", product + "/p2", `{"address": "127.0.0.1:9000", "protocol": "http", "ttl": "10ms"}`, 422, "body.ttl", "10ms"},
		{"ttl unit", "PUT", product + "/p2", `{"address": "127.0.0.1:9000", "protocol": "http", "ttl": "10"}`, 422, "body.ttl", "10"},
		{"other id", "PUT", product + "/p2", `{"id": "p3", "address": "127.0.0.1:9000", "protocol": "http"}`, 422, "body.id", "p3"},
		{"other service", "PUT", product + "/p2", `{"service": "stock", "address": "127.0.0.1:9000", "protocol": "http"}`, 422, "body.service", "stock"},
		{"other namespace", "PUT", product + "/p2?namespace=shop", `{"namespace": "default", "address": "127.0.0.1:9000", "protocol": "http"}`, 422, "body.namespace", "default"},
		{"id with a space", "PUT", product + "/p%202", `{"address": "127.0.0.1:9000", "protocol": "http"}`, 422, "body.id", "p 2"},
		{"service", "PUT", "/v1/services/Product/instances/p2", `{"address": "127.0.0.1:9000", "protocol": "http"}`, 422, "path.service", "Product"},
		{"namespace", "GET", "/v1/services?namespace=Shop", ``, 422, "query.namespace", "Shop"},
		{"namespace of rules", "GET", "/v1/rules?namespace=a.b", ``, 422, "query.namespace", "a.b"},
		{"namespace of a rule", "GET", "/v1/rules/route/a?namespace=-", ``, 422, "query.namespace", "-"},
		{"namespace of an instance", "DELETE", product + "/p1?namespace=Shop", ``, 422, "query.namespace", "Shop"},
		{"unknown query", "PUT", product + "/p2?dryRun=true", `{"address": "127.0.0.1:9000", "protocol": "http"}`, 400, "query.dryRun", "true"},
		{"weight 0 by patch", "PATCH", product + "/p1", `{"weight": 0}`, 422, "body.weight", "0"},
		{"state by patch", "PATCH", product + "/p1", `{"state": "starting"}`, 422, "body.state", "starting"},
		{"address by patch", "PATCH", product + "/p1", `{"address": "127.0.0.1:1"}`, 400, "body.address", "address"},
		{"limit", "GET", product + "?limit=0", ``, 422, "query.limit", "0"},
		{"limit no number", "GET", product + "?limit=many", ``, 422, "query.limit", "many"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := must(t, api, c.status, c.method, c.path, c.body)
			errs, _ := a.json(t)["errors"].([]any)
			if len(errs) == 0 {
				t.Fatalf("no errors in %s", a.body)
			}
			e := errs[0].(map[string]any)
			if e["location"] != c.location || fmt.Sprint(e["value"]) != c.value || e["message"] == "" {
				t.Errorf("%v, want location %s and value %s", e, c.location, c.value)
			}
		})
	}
	must(t, api, 415, "PUT", product+"/p2", `{}`, "Content-Type: application/yaml")
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		state := func() any {
			a := do(t, api, "GET", product, "")
			if a.status != 200 {
				return a.status
			}
			return a.json(t)["items"].([]any)[0].(map[string]any)["state"]
		}
		must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http", "ttl": "10s"}`)
		for range 10 {
			time.Sleep(8 * time.Second)
			must(t, api, 204, "POST", product+"/p1/renew", "")
		}
		if got := state(); got != "up" {
			t.Errorf("renewed in time, and %v", got)
		}
		// The control: without renewals it goes.
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := state(); got != 404 {
			t.Errorf("not renewed for a minute, and %v", got)
		}
		must(t, api, 404, "POST", product+"/p1/renew", "")

		must(t, api, 201, "PUT", product+"/p2", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
		if a := must(t, api, 404, "POST", product+"/p2/renew", ""); !strings.Contains(a.body, "no ttl") {
			t.Error(a.body)
		}
		time.Sleep(time.Hour)
		if got := state(); got != "up" {
			t.Errorf("registered without ttl, and %v", got)
		}
	})
}

// TestPatchesDoNotUndoEachOther has the weight and the state changed at once, again and again.
func TestPatchesDoNotUndoEachOther(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	for i := range 50 {
		states := []string{"draining", "up"}
		var wg sync.WaitGroup
		wg.Go(func() { do(t, api, "PATCH", product+"/p1", fmt.Sprintf(`{"weight": %d}`, i+1)) })
		wg.Go(func() { do(t, api, "PATCH", product+"/p1", fmt.Sprintf(`{"state": %q}`, states[i%2])) })
		wg.Wait()
		in := must(t, api, 200, "GET", product, "").json(t)["items"].([]any)[0].(map[string]any)
		if in["weight"] != float64(i+1) || in["state"] != states[i%2] {
			t.Fatalf("round %d: %v", i, in)
		}
	}
}

func TestPaging(t *testing.T) {
	api := newAPI(t)
	for i := range 25 {
		must(t, api, 201, "PUT", fmt.Sprintf("%s/p%02d", product, i), `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	}
	var ids []string
	after, calls := "", 0
	for {
		calls++
		v := must(t, api, 200, "GET", product+"?limit=10&after="+after, "").json(t)
		for _, item := range v["items"].([]any) {
			ids = append(ids, item.(map[string]any)["id"].(string))
		}
		if v["next"] == nil {
			break
		}
		after = v["next"].(string)
	}
	if calls != 3 || len(ids) != 25 || ids[0] != "p00" || ids[24] != "p24" {
		t.Errorf("%d calls, ids %v", calls, ids)
	}
	// A page goes on also after an item that is gone.
	must(t, api, 204, "DELETE", product+"/p09", "")
	if v := must(t, api, 200, "GET", product+"?limit=1&after=p09", "").json(t); v["items"].([]any)[0].(map[string]any)["id"] != "p10" {
		t.Error(v)
	}
	if a := must(t, api, 200, "GET", product+"?after=zzz", ""); !strings.Contains(a.body, `"items":[]`) {
		t.Error(a.body)
	}
}
