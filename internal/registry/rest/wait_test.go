package rest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
)

// lateClients acknowledge everything, all at once, some time after they are waited for.
func lateClients(live int, after time.Duration) *clients {
	return &clients{await: func(ctx context.Context, _ []discovery.Name, _ discovery.Revision, share float64) session.Progress {
		if share == 0 {
			return session.Progress{Live: live}
		}
		select {
		case <-time.After(after):
			return session.Progress{Live: live, Acked: live}
		case <-ctx.Done():
			return session.Progress{Live: live, Acked: live / 2}
		}
	}}
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPIWith(t, store.NewMemory(), Config{Sessions: lateClients(4, 3*time.Second)})
		for _, c := range []struct {
			query string
			took  time.Duration
			acked any // nil: not waited for
		}{
			{"", 0, nil},
			{"?wait=false", 0, nil},
			{"?wait=true", 3 * time.Second, map[string]any{"live": 4., "acked": 4., "complete": true}},
			{"?wait=1", 3 * time.Second, map[string]any{"live": 4., "acked": 4., "complete": true}},
			{"?wait=0", 0, map[string]any{"live": 4., "acked": 0., "complete": true}},
			{"?wait=true&waitTimeout=1s", time.Second, map[string]any{"live": 4., "acked": 2., "complete": false}},
			{"?wait=0.5&waitTimeout=1s", time.Second, map[string]any{"live": 4., "acked": 2., "complete": true}},
			{"?wait=true&dryRun=true", 0, nil},
		} {
			start := time.Now()
			a := do(t, api, "PUT", canaryPath+c.query, canary, asYAML)
			if a.status > 201 || time.Since(start) != c.took || fmt.Sprint(a.json(t)["acknowledged"]) != fmt.Sprint(c.acked) {
				t.Errorf("%s: after %s %s, want %v after %s", c.query, time.Since(start), a.body, c.acked, c.took)
			}
		}
		for query, location := range map[string]string{
			"?wait=2": "wait", "?wait=-1": "wait", "?wait=NaN": "wait", "?wait=yes": "wait",
			"?wait=1&waitTimeout=61s": "waitTimeout", "?wait=1&waitTimeout=0s": "waitTimeout", "?wait=1&waitTimeout=10": "waitTimeout",
		} {
			if a := must(t, api, 422, "DELETE", canaryPath+query, ""); !strings.Contains(a.body, `"location":"query.`+location+`"`) {
				t.Error(a.body)
			}
		}
		must(t, api, 400, "DELETE", canaryPath+"?wait=", "")
		must(t, api, 200, "GET", canaryPath, "") // none of them deleted
	})
}

// Every write that can be waited for is, for the services that it concerns, at the revision that it made.
func TestWhatIsWaitedFor(t *testing.T) {
	var names []string
	var revision discovery.Revision
	sessions := &clients{await: func(_ context.Context, services []discovery.Name, at discovery.Revision, _ float64) session.Progress {
		names, revision = nil, at
		for _, s := range services {
			names = append(names, s.String())
		}
		return session.Progress{}
	}}
	api := newAPIWith(t, store.NewMemory(), Config{Sessions: sessions})
	must(t, api, 201, "PUT", product+"/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	first := ""
	for _, c := range []struct {
		method, path, body string
		status             int
		want               string
	}{
		{"PUT", canaryPath + "?wait=1", canary, 201, "product.default"},
		{"PUT", canaryPath + "?wait=1", strings.Replace(canary, "service: product", "service: stock", 1), 200, "stock.default product.default"},
		{"POST", canaryPath + "/rollback?wait=1", `{"revision": "FIRST"}`, 200, "product.default stock.default"},
		{"POST", "/v1/rules?wait=1&namespace=shop", strings.Replace(canary, "service: product", `service: "*"`, 1), 200, "*.shop"},
		{"PUT", "/v1/aliases/goods?wait=1", `{"service": "product"}`, 201, "goods.default"},
		{"PATCH", product + "/p1?wait=1", `{"weight": 7}`, 200, "product.default"},
		{"DELETE", canaryPath + "?wait=1", "", 200, "product.default"},
		{"DELETE", "/v1/aliases/goods?wait=1", "", 200, "goods.default"},
		{"DELETE", product + "/p1?wait=1", "", 200, "product.default"},
	} {
		names = nil
		header := "Content-Type: application/json"
		if strings.Contains(c.body, "kind:") {
			header = asYAML
		}
		a := must(t, api, c.status, c.method, c.path, strings.Replace(c.body, "FIRST", first, 1), header)
		if first == "" {
			first = a.tag()
		}
		if strings.Join(names, " ") != c.want || revision != api.Catalog.Revision() || a.json(t)["acknowledged"] == nil {
			t.Errorf("%s %s waited for %v at %s, want %s at %s; %s", c.method, c.path, names, revision, c.want, api.Catalog.Revision(), a.body)
		}
	}
	// What is unchanged is waited for at its own revision: the service may have no later one.
	must(t, api, 201, "PUT", canaryPath, canary, asYAML)
	own := api.Catalog.Revision()
	must(t, api, 201, "PUT", "/v1/services/stock/instances/s1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	must(t, api, 200, "PUT", canaryPath+"?wait=1", canary, asYAML)
	if revision != own {
		t.Errorf("waited at %s, want %s", revision, own)
	}
}

// Those who wait hold no place that a write needs; of them there are so many.
func TestManyWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPIWith(t, store.NewMemory(), Config{Sessions: lateClients(1, time.Hour)})
		api.lanes[writes] = newLane(1, 0)
		var wg sync.WaitGroup
		statuses := make(chan int, 300)
		start := time.Now()
		for range 256 {
			wg.Go(func() { statuses <- do(t, api, "PUT", canaryPath+"?wait=1&waitTimeout=60s", canary, asYAML).status })
			synctest.Wait()
		}
		if a := do(t, api, "PUT", canaryPath+"?wait=1", canary, asYAML); a.status != 503 || a.header.Get("Retry-After") == "" {
			t.Error(a)
		}
		if a := do(t, api, "PUT", canaryPath, canary, asYAML); a.status != 200 || time.Since(start) != 0 {
			t.Errorf("after %s: %v", time.Since(start), a)
		}
		wg.Wait()
		close(statuses)
		var got []int
		for s := range statuses {
			got = append(got, s)
		}
		slices.Sort(got)
		if len(got) != 256 || got[0] != 200 || got[255] != 201 || time.Since(start) != time.Minute {
			t.Errorf("after %s: %v", time.Since(start), got)
		}
	})
}

// A server that stops does not wait for acknowledgements.
func TestCloseEndsWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPIWith(t, store.NewMemory(), Config{Sessions: lateClients(1, time.Hour)})
		start := time.Now()
		time.AfterFunc(time.Second, api.Close)
		must(t, api, 201, "PUT", canaryPath+"?wait=1&waitTimeout=60s", canary, asYAML)
		if time.Since(start) != time.Second {
			t.Errorf("it took %s", time.Since(start))
		}
	})
}
