// Package rest is the registry server's HTTP interface: services, instances and rules under /v1, and /healthz,
// /readyz, /metrics and /openapi.json.
//
//	api := rest.New(rest.Config{Catalog: catalog, Leases: leases, Access: tokens})
//	server := &http.Server{Handler: api}
//
// Every call but /healthz and /readyz needs the administrator's bearer token. Errors are problem+json (RFC 9457)
// and name the field, the value and the bound. Bodies are JSON, read strictly; rules may be YAML too, and answers
// are YAML for whoever asks with "Accept: application/yaml". The calls are described by /openapi.json, which is
// made from the types of the handlers and kept in docs/openapi.json.
package rest

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
)

// Access decides who may call.
type Access interface {
	Admin(token string) bool    // everything
	Workload(token string) bool // sessions, hence not this interface
}

// Config is what the interface serves. Catalog, Leases and Access are required.
type Config struct {
	Catalog  *catalog.Catalog
	Leases   *lease.Leases
	Access   Access
	Sessions func() int   // how many sessions are open, for /metrics; nil: not told
	Ready    func() error // for /readyz; nil: always ready
	Version  string       // of the server, for /openapi.json
	Log      *slog.Logger // nil: silent
}

// API is an http.Handler.
type API struct {
	Config
	routes  *routes
	huma    huma.API
	metrics *metrics
	handler http.Handler
	openAPI []byte
	// patching keeps a PATCH, which reads before it writes, apart from the other writes of instances.
	patching sync.RWMutex
}

// New returns the interface.
func New(c Config) *API {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{Config: c, routes: &routes{mux: http.NewServeMux()}}
	a.metrics = newMetrics(c)
	a.huma = humago.New(a.routes, humaConfig(c.Version))
	a.huma.UseMiddleware(knownQuery)
	a.addServices()
	a.addInstances()
	a.addRules()
	a.openAPI = a.describe()
	a.addOperations()
	a.handler = a.metrics.observe(a.recovering(a.authenticated(bounded(a.routes))))
	return a
}

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Routes lists every route as "METHOD /path".
func (a *API) Routes() []string { return a.routes.patterns }

// OpenAPI returns the description of the calls, OpenAPI 3.1 in JSON.
func (a *API) OpenAPI() []byte { return a.openAPI }

// addOperations adds what operators and their tools ask for.
func (a *API) addOperations() {
	a.routes.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") })
	a.routes.HandleFunc("GET /readyz", a.ready)
	a.routes.HandleFunc("GET /metrics", a.metrics.handler.ServeHTTP)
	a.routes.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		w.Write(a.openAPI)
	})
}

func (a *API) ready(w http.ResponseWriter, _ *http.Request) {
	if a.Ready != nil {
		if err := a.Ready(); err != nil {
			writeProblem(w, problem(http.StatusServiceUnavailable, "not ready: "+err.Error()))
			return
		}
	}
	writeText(w, "ready\n")
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte(text))
}

// recovering turns a panic into a 500. It is a bug wherever it comes from, so it is logged as an error.
func (a *API) recovering(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if p := recover(); p != nil && p != http.ErrAbortHandler {
				a.Log.Error("rest: a handler panicked", "method", r.Method, "path", r.URL.Path, "panic", p)
				writeProblem(w, problem(http.StatusInternalServerError, "the server failed at this request; its log says more"))
			} else if p != nil {
				panic(p)
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// routes is a mux that knows its patterns and answers in problem+json when none fits.
type routes struct {
	mux      *http.ServeMux
	patterns []string
}

// HandleFunc implements humago.Mux.
func (m *routes) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	m.patterns = append(m.patterns, pattern)
	m.mux.HandleFunc(pattern, handler)
}

// ServeHTTP implements [http.Handler].
func (m *routes) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	fallback, pattern := m.mux.Handler(r)
	if pattern != "" {
		m.mux.ServeHTTP(w, r)
		return
	}
	// The mux's own answer is plain text; only its status and its Allow header are of use.
	answer := &discard{header: w.Header()}
	fallback.ServeHTTP(answer, r)
	if answer.status == http.StatusMethodNotAllowed {
		writeProblem(w, problem(answer.status, r.Method+" is not possible for "+r.URL.Path+"; possible are "+w.Header().Get("Allow")))
		return
	}
	writeProblem(w, problem(http.StatusNotFound, "there is no "+r.URL.Path+"; GET /openapi.json lists what there is"))
}

// discard keeps the header and the status of an answer.
type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }

func humaConfig(version string) huma.Config {
	jsonFormat := huma.DefaultJSONFormat
	yamlFormat := huma.Format{Marshal: marshalYAML}
	scheme := huma.SecurityScheme{Type: "http", Scheme: "bearer", Description: "the token in the file admin.token of the server's data directory"}
	return huma.Config{
		OpenAPI: &huma.OpenAPI{
			OpenAPI:    "3.1.0",
			Info:       &huma.Info{Title: "Weft registry server", Version: version},
			Components: &huma.Components{Schemas: huma.NewMapRegistry("#/components/schemas/", huma.DefaultSchemaNamer), SecuritySchemes: map[string]*huma.SecurityScheme{"bearer": &scheme}},
			Security:   []map[string][]string{{"bearer": {}}},
		},
		Formats:       map[string]huma.Format{"application/json": jsonFormat, "json": jsonFormat, "application/yaml": yamlFormat},
		DefaultFormat: "application/json",
		Transformers:  []huma.Transformer{completeProblem},
	}
}

func (a *API) describe() []byte {
	data, err := json.MarshalIndent(a.huma.OpenAPI(), "", "  ")
	if err != nil {
		panic(err) // the types are constant, and a test makes the description
	}
	return append(data, '\n')
}
