package rest

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/store"
)

// concrete fills in what a route's pattern leaves open.
func concrete(route string) (method, path string) {
	method, path, _ = strings.Cut(route, " ")
	return method, strings.NewReplacer("{service}", "product", "{id}", "p1", "{kind}", "route", "{name}", "canary").Replace(path)
}

// TestMatrix takes the routes from the router itself, and tries each with every kind of token.
func TestMatrix(t *testing.T) {
	api := newAPI(t)
	api.Close()                         // so that a watch ends at once
	api.strangers = newMeters(1e9, 1e9) // the test is one
	api.costly = newMeters(1e9, 1e9)
	routes := append(api.Routes(), "GET /nowhere", "DELETE /v1/services")
	if len(routes) < 35 {
		t.Fatalf("only %d routes: %v", len(routes), routes)
	}
	// What each role reaches; a route whose demand is not here fails.
	allowed := map[access.Role][]string{
		access.Reader:   {"reader", "operator", "admin"},
		access.Operator: {"operator", "admin"},
		access.Admin:    {"admin"},
	}
	for _, route := range routes {
		method, path := concrete(route)
		if path == "/healthz" || path == "/readyz" {
			must(t, api, http.StatusOK, method, path, "", "Authorization: ")
			continue
		}
		role, where, declared := api.Demands(route)
		if !declared {
			role, where = access.Reader, "any" // what does not exist is told to readers
		}
		if allowed[role] == nil {
			t.Errorf("%s demands the role %q", route, role)
		}
		for _, token := range []string{"", "Bearer ", "Basic admin", "Bearer wrong", "Bearer expired", "Bearer admin\x00"} {
			a := must(t, api, 401, method, path, "", "Authorization: "+token)
			if a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, "admin.token") || !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: %s %s; want a problem that says where the token is", route, a.header, a.body)
			}
		}
		for _, token := range []string{"workload", "reader", "operator", "admin"} {
			reached := slices.Contains(allowed[role], token)
			here := "?namespace=shop"
			tries := map[string]bool{"": reached}
			if where != "everywhere" && strings.Contains(string(api.OpenAPI()), `"namespace"`) {
				tries["shop-"] = reached
			}
			for prefix, want := range tries {
				got := do(t, api, method, path+here, "", "Authorization: Bearer "+prefix+token)
				if refused := got.status == 403 || got.status == 401; refused == want {
					t.Errorf("%s with %s%s: status %d, want it reached: %v", route, prefix, token, got.status, want)
				}
			}
			// In another namespace the token of one does nothing, but where the handler looks for itself.
			got := do(t, api, method, path+"?namespace=default", "", "Authorization: Bearer shop-"+token)
			if where == "namespace" && got.status != 403 {
				t.Errorf("%s with shop-%s in namespace default: status %d, want 403", route, token, got.status)
			}
			if got := do(t, api, method, path, "", "Authorization: Bearer shop-"+token); where == "everywhere" && got.status != 403 {
				t.Errorf("%s with shop-%s: status %d, want 403", route, token, got.status)
			}
		}
	}
}

// A route that says nothing of who may is closed to all; the description tells of every other one who may.
func TestARouteWithoutDemand(t *testing.T) {
	api := newAPI(t)
	for _, route := range api.Routes() {
		if _, _, declared := api.Demands(route); !declared {
			t.Errorf("%s does not say who may", route)
		}
	}
	api.routes.HandleFunc("GET /v1/forgotten", func(w http.ResponseWriter, _ *http.Request) { writeText(w, "secret") })
	if a := must(t, api, 403, "GET", "/v1/forgotten", ""); strings.Contains(a.body, "secret") {
		t.Error(a.body)
	}
	api.handle("GET /v1/remembered", needs(access.Reader, somewhere), func(w http.ResponseWriter, _ *http.Request) { writeText(w, "secret") })
	must(t, api, 200, "GET", "/v1/remembered", "") // the control
}

// The namespace that is checked is the one that the handler sees, however it is written.
func TestNamespaceIsCheckedAsItIsRead(t *testing.T) {
	api := newAPI(t)
	must(t, api, 200, "POST", "/v1/rules", canary, asYAML)
	for query, want := range map[string]int{
		"":                                  403,
		"?namespace=shop":                   200,
		"?name%73pace=shop":                 200, // the same to both
		"?namespace=default":                403,
		"?namespace=shop&namespace=default": 400,
		"?namespace=default&namespace=shop": 403,
		"?x&namespace=shop":                 400,
		"?x=1;namespace=shop":               403,
		"?namespace":                        403,
		"?namespace=":                       403,
		"?namespace=shop&namespace":         400,
	} {
		a := do(t, api, "GET", "/v1/rules"+query, "", "Authorization: Bearer shop-reader")
		if a.status != want || strings.Contains(a.body, "canary") {
			t.Errorf("%s: %d %s, want %d", query, a.status, a.body, want)
		}
	}
	if a := must(t, api, 200, "GET", "/v1/rules", ""); !strings.Contains(a.body, "canary") { // the control
		t.Error(a.body)
	}
}

// A document says its own namespace, which the token has to reach.
func TestDocumentsOfOtherNamespaces(t *testing.T) {
	api := newAPI(t)
	const as = "Authorization: Bearer shop-operator"
	inShop := "namespace: shop" + canary
	must(t, api, 200, "POST", "/v1/rules", inShop, asYAML, as)
	must(t, api, 403, "POST", "/v1/rules", canary, asYAML, as)
	must(t, api, 403, "POST", "/v1/rules", strings.Replace(inShop, "canary", "second", 1)+"---"+canary, asYAML, as)
	must(t, api, 403, "POST", "/v1/rules?delete=route/canary", "", as)
	must(t, api, 403, "POST", "/v1/rules?namespace=shop&delete=route/canary.default", "", as)
	if a := must(t, api, 200, "GET", "/v1/rules", ""); !strings.Contains(a.body, `"items":[]`) {
		t.Error("a refused write wrote", a.body)
	}
	must(t, api, 200, "POST", "/v1/rules?delete=route/canary.shop", "", as)
}

func TestLockedAddress(t *testing.T) {
	known := newTokens()
	api := newAPIWith(t, store.NewMemory(), Config{Access: known})
	must(t, api, 200, "GET", "/v1/services", "")
	known.lock("192.0.2.1", 90*time.Second) // that of httptest
	a := must(t, api, 429, "GET", "/v1/services", "")
	if a.header.Get("Retry-After") != "90" || a.header.Get("Content-Type") != "application/problem+json" {
		t.Error(a)
	}
}

// Requests without a valid token are slowed down, by address; those with one are not.
func TestStrangersAreSlowedDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := newAPI(t)
		statuses := map[int]int{}
		for range 2 * strangerBurst {
			statuses[do(t, api, "GET", "/v1/services", "", "Authorization: Bearer wrong").status]++
		}
		if statuses[401] != strangerBurst || statuses[429] != strangerBurst {
			t.Errorf("%v, want %d of each", statuses, strangerBurst)
		}
		a := do(t, api, "GET", "/v1/services", "", "Authorization: ")
		if a.status != 429 || a.header.Get("Retry-After") != "1" {
			t.Error(a)
		}
		must(t, api, 200, "GET", "/v1/services", "")
		time.Sleep(time.Second)
		must(t, api, 401, "GET", "/v1/services", "", "Authorization: ")
		// The control: without the meter they go on.
		api.strangers = newMeters(1e9, 1e9)
		for range 2 * strangerBurst {
			must(t, api, 401, "GET", "/v1/services", "", "Authorization: Bearer wrong")
		}
	})
}

func TestMetersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMeters(1, 2)
		for i := range 3 * maxMeters {
			m.take(fmt.Sprint(i))
		}
		if len(m.of) != maxMeters {
			t.Errorf("%d buckets, want %d", len(m.of), maxMeters)
		}
		if m.take("late") == 0 {
			t.Error("those without a bucket of their own do not share one")
		}
		if m.take("0") > 0 {
			t.Error("a bucket was lost to newcomers")
		}
		time.Sleep(time.Minute) // all are full again
		m.take("fresh")
		if len(m.of) != 1 {
			t.Errorf("%d buckets, want 1: full ones are forgotten", len(m.of))
		}
	})
}

// What is written by whom is kept: a rule says it itself.
func TestUpdatedBy(t *testing.T) {
	api := newAPI(t)
	must(t, api, 200, "POST", "/v1/rules", canary, asYAML, "Authorization: Bearer operator")
	if v := must(t, api, 200, "GET", "/v1/rules/route/canary", "").json(t); v["updatedBy"] != "operator" {
		t.Error(v)
	}
}

// Who asks for a namespace that the token does not reach is told so, instead of that nothing is there.
func TestListsOfAnotherNamespace(t *testing.T) {
	api := newAPI(t)
	for _, path := range []string{"/v1/clients", "/v1/protection", "/v1/audit", "/v1/watch"} {
		if a := must(t, api, 403, "GET", path+"?namespace=default", "", "Authorization: Bearer shop-operator"); !strings.Contains(a.body, `in namespace \"default\"`) {
			t.Error(a.body)
		}
		must(t, api, 200, "HEAD", path+"?namespace=shop", "", "Authorization: Bearer shop-operator")
	}
}

// A probe by another method is no question of tokens.
func TestProbesHaveOneMethod(t *testing.T) {
	api := newAPI(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		r := httptest.NewRequest("POST", path, http.NoBody)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
}
