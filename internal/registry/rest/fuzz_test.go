package rest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/store"
)

// FuzzRequest sends anything to every route, as the administrator: nothing panics, nothing is the server's fault, and every
// refusal is a problem.
func FuzzRequest(f *testing.F) {
	st := store.NewMemory()
	cat, err := catalog.Open(st, nil)
	if err != nil {
		f.Fatal(err)
	}
	leases := lease.New(cat, nil)
	f.Cleanup(func() { leases.Close(); cat.Close(); st.Close() })
	api := New(Config{Catalog: cat, Leases: leases, Access: newTokens()})
	api.Close() // a watch ends at once
	api.costly = newMeters(1e9, 1e9)
	routes := api.Routes()
	for i := range routes {
		f.Add(uint8(i), "canary", "", "", "")
	}
	f.Add(uint8(3), "p1", "wait=0.5&waitTimeout=1ms", `{"address": "127.0.0.1:1", "protocol": "http", "check": {"type": "tcp"}, "ttl": "3s"}`, "*")
	f.Add(uint8(9), "a", "delete=route/a&dryRun=true", canary, `"1f-42"`)
	f.Add(uint8(20), "%2E%2E", "namespace=%73hop&after=x", `{"revision": "1-1"}`, `W/"x", *`)
	f.Fuzz(func(t *testing.T, route uint8, name, query, body, guard string) {
		method, path, _ := strings.Cut(routes[int(route)%len(routes)], " ")
		r := httptest.NewRequest(method, "/", strings.NewReader(body))
		fill := strings.NewReplacer("{service}", "product", "{kind}", "route", "{id}", name, "{name}", name)
		r.URL.Path, r.URL.RawQuery = fill.Replace(path), query
		r.Header = http.Header{"Authorization": {"Bearer admin"}, "Content-Type": {"application/json"}, "If-Match": {guard}, "If-None-Match": {guard}, "Last-Event-Id": {guard}}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code == http.StatusInternalServerError {
			t.Errorf("%s %s?%s %q: %s", method, r.URL.Path, query, body, w.Body)
		}
		if w.Code >= 400 && w.Header().Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s?%s: %d as %s", method, r.URL.Path, query, w.Code, w.Header().Get("Content-Type"))
		}
	})
}
