package rest

import (
	"strings"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestChecks(t *testing.T) {
	api := newAPIWith(t, store.NewMemory(), Config{Checks: true})
	body := func(check string) string {
		return `{"address": "127.0.0.1:9000", "protocol": "http", "check": ` + check + `}`
	}
	must(t, api, 201, "PUT", product+"/p1", body(`{"type": "http", "path": "/health", "interval": "5s", "timeout": "1s", "failures": 2}`))
	must(t, api, 201, "PUT", product+"/p2", body(`{"type": "grpc", "service": "shop.Stock", "interval": "1s"}`))
	must(t, api, 201, "PUT", product+"/p3", body(`{"type": "tcp"}`))
	want := map[string]catalog.Check{
		"p1": {Type: "http", Path: "/health", Interval: 5 * time.Second, Timeout: time.Second, Failures: 2},
		"p2": {Type: "grpc", Service: "shop.Stock", Interval: time.Second, Timeout: time.Second, Failures: 3},
		"p3": {Type: "tcp", Interval: 10 * time.Second, Timeout: 2 * time.Second, Failures: 3},
	}
	checked := api.Catalog.Checked()
	if len(checked) != 3 {
		t.Fatal(checked)
	}
	for _, c := range checked {
		if c.Check != want[c.ID] {
			t.Errorf("%s: %+v, want %+v", c.ID, c.Check, want[c.ID])
		}
	}
	for check, location := range map[string]string{
		`{"type": "icmp"}`:                                              "type",
		`{}`:                                                            "type",
		`{"type": "http", "path": "health"}`:                            "path",
		`{"type": "tcp", "path": "/"}`:                                  "path",
		`{"type": "tcp", "service": "a"}`:                               "service",
		`{"type": "tcp", "interval": "500ms"}`:                          "interval",
		`{"type": "tcp", "interval": "61m"}`:                            "interval",
		`{"type": "tcp", "interval": "1s", "timeout": "2s"}`:            "timeout",
		`{"type": "tcp", "timeout": "99ms"}`:                            "timeout",
		`{"type": "tcp", "failures": 101}`:                              "failures",
		`{"type": "tcp", "failures": -1}`:                               "failures",
		`{"type": "http", "path": "/` + strings.Repeat("a", 256) + `"}`: "path",
	} {
		if a := must(t, api, 422, "PUT", product+"/p4", body(check)); !strings.Contains(a.body, `"location":"body.check.`+location+`"`) {
			t.Errorf("%s: %s", check, a.body)
		}
	}
	must(t, api, 400, "PUT", product+"/p4", body(`{"type": "tcp", "port": 80}`))
	must(t, api, 200, "PUT", product+"/p3", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	if n := len(api.Catalog.Checked()); n != 2 {
		t.Errorf("%d checks after one was taken away", n)
	}
}

// A server that does no checks says so, instead of taking what it would ignore.
func TestChecksAreOff(t *testing.T) {
	api := newAPI(t)
	const checked = `{"address": "127.0.0.1:9000", "protocol": "http", "check": {"type": "tcp"}}`
	if a := must(t, api, 422, "PUT", product+"/p1", checked); !strings.Contains(a.body, `"location":"body.check"`) || !strings.Contains(a.body, "--checks") {
		t.Error(a.body)
	}
	must(t, api, 404, "GET", product+"/p1", "")
	api.Checks = true
	must(t, api, 201, "PUT", product+"/p1", checked)
}
