package rest

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
)

var update = flag.Bool("update", false, "write docs/openapi.json anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tokens is an [Access] with the tokens admin, operator, reader, workload, shop-operator, shop-reader and expired.
type tokens struct {
	mu     sync.Mutex
	grants map[string]access.Grant
	made   []access.Token
	locked map[string]time.Duration // by address
}

func newTokens() *tokens {
	t := &tokens{grants: map[string]access.Grant{}, locked: map[string]time.Duration{}}
	for _, role := range []access.Role{access.Admin, access.Operator, access.Reader, access.Workload} {
		t.grants[string(role)] = access.Grant{ID: string(role), Name: string(role), Role: role}
		t.grants["shop-"+string(role)] = access.Grant{ID: "shop-" + string(role), Name: "shop-" + string(role), Role: role, Namespaces: []string{"shop"}}
	}
	return t
}

func (t *tokens) Check(token, from string) (access.Grant, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait, locked := t.locked[from]; locked {
		return access.Grant{}, &access.Locked{RetryAfter: wait}
	}
	g, there := t.grants[token]
	switch {
	case token == "expired":
		return g, access.ErrExpired
	case !there:
		return g, access.ErrUnknown
	}
	return g, nil
}

func (t *tokens) lock(from string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.locked[from] = d
}

func (t *tokens) Create(ctx context.Context, s access.Spec) (access.Token, string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.Name == "" {
		return access.Token{}, "", &access.InvalidError{Field: "name", Want: "1 to 63 characters"}
	}
	actor, _ := audit.Of(ctx)
	g := access.Grant{ID: "id-" + s.Name, Name: s.Name, Role: s.Role, Namespaces: s.Namespaces, Services: s.Services}
	made := access.Token{Grant: g, CreatedAt: time.Now(), CreatedBy: actor.Who}
	if s.TTL > 0 {
		made.ExpiresAt = time.Now().Add(s.TTL)
	}
	t.made = append(t.made, made)
	t.grants["text-"+s.Name] = g
	return made, "text-" + s.Name, nil
}

func (t *tokens) List() []access.Token {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.made)
}

func (t *tokens) Revoke(_ context.Context, id string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for text, g := range t.grants {
		if g.ID == id {
			delete(t.grants, text)
			return nil
		}
	}
	return access.ErrUnknown
}

// clients are [Sessions] that acknowledge as a test says.
type clients struct {
	live  []session.Client
	await func(ctx context.Context, services []discovery.Name, at discovery.Revision, share float64) session.Progress
}

func (c *clients) Clients() []session.Client { return slices.Clone(c.live) }

func (c *clients) Await(ctx context.Context, services []discovery.Name, at discovery.Revision, share float64) session.Progress {
	return c.await(ctx, services, at, share)
}

// newAPI serves an empty catalog.
func newAPI(t *testing.T) *API { return newAPIWith(t, store.NewMemory(), Config{}) }

// newAPIWith fills in what a configuration lacks.
func newAPIWith(t *testing.T, st store.Store, c Config) *API {
	t.Helper()
	cat, err := catalog.Open(st, nil)
	if err != nil {
		t.Fatal(err)
	}
	leases := lease.New(cat, nil)
	c.Catalog, c.Leases, c.Version = cat, leases, "v0"
	if c.Access == nil {
		c.Access = newTokens()
	}
	api := New(c)
	t.Cleanup(func() {
		api.Close()
		leases.Close()
		cat.Close()
		st.Close()
	})
	return api
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
		"weft_registry_sessions 0",
		"go_goroutines ",
	} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s", want)
		}
	}
}

func TestAPanicIsAProblem(t *testing.T) {
	api := newAPI(t)
	api.handle("GET /v1/broken", needs(access.Reader, somewhere), func(http.ResponseWriter, *http.Request) { panic("broken") })
	a := must(t, api, 500, "GET", "/v1/broken", "")
	if a.header.Get("Content-Type") != "application/problem+json" || strings.Contains(a.body, "broken") {
		t.Errorf("%v %s", a.header, a.body)
	}
}
