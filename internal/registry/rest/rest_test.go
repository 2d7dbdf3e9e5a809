package rest

import (
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/store"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokens is an [Access] with fixed tokens.
type tokens struct{}

func (tokens) Admin(t string) bool    { return t == "admin" }
func (tokens) Workload(t string) bool { return t == "admin" || t == "workload" }

// newAPI serves an empty catalog.
func newAPI(t *testing.T) *API {
	t.Helper()
	st := store.NewMemory()
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	leases := lease.New(cat, nil)
	t.Cleanup(func() {
		leases.Close()
		cat.Close()
		st.Close()
	})
	return New(Config{Catalog: cat, Leases: leases, Access: tokens{}, Version: "v0", Sessions: func() int { return 3 }})
}

// answer is what a call returned.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) json(t *testing.T) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		t.Fatalf("%v in %s", err, a.body)
	}
	return v
}

// do calls as the administrator. Headers are given as "Name: value".
func do(t *testing.T, api http.Handler, method, path, body string, headers ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer admin")
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	data, err := io.ReadAll(w.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{w.Code, w.Header(), string(data)}
}

// must calls and wants a status.
func must(t *testing.T, api http.Handler, status int, method, path, body string, headers ...string) answer {
	t.Helper()
	a := do(t, api, method, path, body, headers...)
	if a.status != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, a.status, status, a.body)
	}
	return a
}

// TestEveryRouteNeedsAToken takes the routes from the router itself, so that a new one is covered by itself.
func TestEveryRouteNeedsAToken(t *testing.T) {
	api := newAPI(t)
	routes := append(api.Routes(), "GET /nowhere", "DELETE /v1/services")
	if len(routes) < 15 {
		t.Fatalf("only %d routes: %v", len(routes), routes)
	}
	for _, route := range routes {
		method, path, _ := strings.Cut(route, " ")
		path = strings.NewReplacer("{service}", "product", "{id}", "p1", "{kind}", "route", "{name}", "canary").Replace(path)
		if path == "/healthz" || path == "/readyz" {
			must(t, api, http.StatusOK, method, path, "", "Authorization: ")
			continue
		}
		for token, want := range map[string]int{"": 401, "Bearer ": 401, "Bearer wrong": 401, "Basic admin": 401, "Bearer workload": 403} {
			a := must(t, api, want, method, path, "", "Authorization: "+token)
			if a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, "admin.token") {
				t.Errorf("%s: %s %s; want a problem that says where the token is", route, a.header, a.body)
			}
			if want == 401 && !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s: WWW-Authenticate is %q", route, a.header.Get("WWW-Authenticate"))
			}
		}
		// The control: with the token it is another answer.
		if a := do(t, api, method, path, ""); a.status == 401 || a.status == 403 {
			t.Errorf("%s with the token: status %d", route, a.status)
		}
	}
}

// TestOpenAPIListsEveryRoute holds the router and the description together.
func TestOpenAPIListsEveryRoute(t *testing.T) {
	api := newAPI(t)
	var doc struct {
		OpenAPI string
		Paths   map[string]map[string]any
	}
	if err := json.Unmarshal(api.OpenAPI(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.OpenAPI != "3.1.0" {
		t.Errorf("OpenAPI %s, want 3.1.0", doc.OpenAPI)
	}
	described := 0
	for _, operations := range doc.Paths {
		described += len(operations)
	}
	inV1 := 0
	for _, route := range api.Routes() {
		method, path, _ := strings.Cut(route, " ")
		if !strings.HasPrefix(path, "/v1/") {
			continue
		}
		inV1++
		if doc.Paths[path][strings.ToLower(method)] == nil {
			t.Errorf("%s is not described", route)
		}
	}
	if described != inV1 {
		t.Errorf("%d operations are described, and there are %d", described, inV1)
	}
	if a := must(t, api, 200, "GET", "/openapi.json", ""); a.body != string(api.OpenAPI()) {
		t.Error("/openapi.json answers something else")
	}
}

// TestOpenAPIIsCommitted fails when docs/openapi.json is not what the handlers say; -update writes it anew.
func TestOpenAPIIsCommitted(t *testing.T) {
	path := filepath.Join("..", "..", "..", "docs", "openapi.json")
	got := newAPI(t).OpenAPI()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Error("docs/openapi.json is out of date; run go test ./internal/registry/rest -run OpenAPI -update")
	}
}

func TestOutsideTheRoutes(t *testing.T) {
	api := newAPI(t)
	a := must(t, api, 404, "GET", "/nowhere", "")
	if a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, "/openapi.json") {
		t.Errorf("%v %s", a.header, a.body)
	}
	a = must(t, api, 405, "PATCH", "/v1/rules", "")
	if a.header.Get("Allow") == "" || a.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(a.body, "GET, HEAD, POST") {
		t.Errorf("%v %s", a.header, a.body)
	}
}

func TestReadyz(t *testing.T) {
	api := newAPI(t)
	api.Ready = func() error { return io.ErrClosedPipe }
	must(t, api, 503, "GET", "/readyz", "", "Authorization: ")
	must(t, api, 200, "GET", "/healthz", "", "Authorization: ")
}

func TestMetrics(t *testing.T) {
	api := newAPI(t)
	must(t, api, 201, "PUT", "/v1/services/product/instances/p1", `{"address": "127.0.0.1:9000", "protocol": "http"}`)
	must(t, api, 201, "PUT", "/v1/rules/retry/patient", `{"kind": "Retry", "name": "patient", "service": "product", "spec": {"attempts": 2}}`)
	must(t, api, 404, "GET", "/v1/services/none", "")
	a := must(t, api, 200, "GET", "/metrics", "")
	for _, want := range []string{
		`weft_registry_requests_total{code="201",route="PUT /v1/services/{service}/instances/{id}"} 1`,
		`weft_registry_requests_total{code="404",route="GET /v1/services/{service}"} 1`,
		`weft_registry_instances{state="up"} 1`,
		`weft_registry_rules{kind="Retry"} 1`,
		"weft_registry_services 1",
		"weft_registry_sessions 3",
		"go_goroutines ",
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestAPanicIsAProblem(t *testing.T) {
	api := newAPI(t)
	api.routes.HandleFunc("GET /v1/broken", func(http.ResponseWriter, *http.Request) { panic("broken") })
	a := must(t, api, 500, "GET", "/v1/broken", "")
	if a.header.Get("Content-Type") != "application/problem+json" || strings.Contains(a.body, "broken") {
		t.Errorf("%v %s", a.header, a.body)
	}
}
