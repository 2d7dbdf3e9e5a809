package rest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
)

func TestStatus(t *testing.T) {
	api := newAPIWith(t, store.NewMemory(), Config{StoreStatus: func() Store { return Store{Path: "/data", Bytes: 42, State: "full"} }})
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	v := must(t, api, 200, "GET", "/v1/status", "").json(t)
	revision := api.Catalog.Revision().String()
	epoch, _, _ := strings.Cut(revision, "-")
	if v["version"] != "v0" || v["revision"] != revision || v["epoch"] != epoch || v["services"] != 1. || v["instances"] != 1. || v["rules"] != 0. ||
		v["sessions"] != 0. || v["protected"] != 0. || fmt.Sprint(v["store"]) != "map[bytes:42 path:/data state:full]" || v["lastBackup"] != nil || v["startedAt"] == nil {
		t.Error(v)
	}
	metrics := must(t, api, 200, "GET", "/metrics", "", "Authorization: Bearer reader").body
	for _, want := range []string{"weft_registry_store_bytes 42\n", "weft_registry_store_writable 0\n", "weft_registry_last_backup_timestamp_seconds 0\n", `weft_registry_requests_running{lane="write"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q", want)
		}
	}
}

// A token of one namespace learns nothing of the others, not even how much there is.
func TestStatusOfOneNamespace(t *testing.T) {
	live := []session.Client{{Process: "w", Service: discovery.Name{Service: "web", Namespace: "default"}}}
	api := newAPIWith(t, store.NewMemory(), Config{Sessions: &clients{live: live}, StoreStatus: func() Store { return Store{Path: "/data", State: "ok"} }})
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	must(t, api, 201, "PUT", product+"/p1?namespace=shop", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	must(t, api, 201, "PUT", canaryPath, canary, asYAML)
	for token, want := range map[string]string{"reader": "2 2 1 1 /data", "shop-reader": "1 1 0 0 ", "shop-admin": "1 1 0 0 "} {
		v := must(t, api, 200, "GET", "/v1/status", "", "Authorization: Bearer "+token).json(t)
		if got := fmt.Sprint(v["services"], " ", v["instances"], " ", v["rules"], " ", v["sessions"], " ", v["store"].(map[string]any)["path"]); got != want {
			t.Errorf("%s: %q, want %q", token, got, want)
		}
	}
	must(t, api, 403, "GET", "/metrics", "", "Authorization: Bearer shop-reader")
	must(t, api, 200, "GET", "/metrics", "", "Authorization: Bearer reader")
}
