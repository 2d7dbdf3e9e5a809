package rest

import (
	"fmt"
	"strings"
	"testing"

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
	metrics := must(t, api, 200, "GET", "/metrics", "", "Authorization: Bearer shop-reader").body
	for _, want := range []string{"weft_registry_store_bytes 42\n", "weft_registry_store_writable 0\n", "weft_registry_last_backup_timestamp_seconds 0\n", `weft_registry_requests_running{lane="write"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %q", want)
		}
	}
}
