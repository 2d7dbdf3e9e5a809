// Package rest is the registry server's HTTP interface: services, instances, rules and what operators ask for under
// /v1, and /healthz, /readyz, /metrics and /openapi.json.
//
//	api := rest.New(rest.Config{Catalog: catalog, Leases: leases, Access: tokens})
//	server := &http.Server{Handler: api}
//	server.RegisterOnShutdown(api.Close) // ends the watches
//
// Every call but /healthz and /readyz needs a bearer token. What a route demands of it stands beside the route, and in
// its description as x-weft-role and x-weft-scope; a route that demands nothing answers 403.
//
// Errors are problem+json (RFC 9457) and name the field, the value and the bound. Bodies are JSON, read strictly; rules
// may be YAML too, and answers are YAML for whoever asks with "Accept: application/yaml". The calls are described by
// /openapi.json, which is made from the types of the handlers and kept in docs/openapi.json.
//
// Limits: of writes 512 run at once and 128 wait, of reads 256 and 128, of renewals 512 and 4096, each apart from the
// others; of watches 100 for an address and 1,000 in all; of requests that ?wait= 256. What is beyond is answered 503 or
// 429 with Retry-After. Costly reads (history, diff, audit, backup) come at 10 a second and token, requests without a
// valid token at 20 a second and address.
package rest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
)

// Config is what the interface serves. Catalog, Leases and Access are required.
type Config struct {
	Catalog     *catalog.Catalog
	Leases      *lease.Leases
	Access      Access
	Sessions    Sessions                               // nil: there are none
	Backup      func(io.Writer) error                  // writes a backup; nil: there are none
	Restore     func(context.Context, io.Reader) error // returns once the backup is known to be whole and will be used; nil: it cannot be done
	StoreStatus func() Store                           // nil: a store in memory
	Collectors  []prometheus.Collector                 // of other rooms, for /metrics
	Checks      bool                                   // active checks are done; else a registration that asks for one is refused
	Ready       func() error                           // for /readyz; nil: always ready
	Version     string                                 // of the server, for /openapi.json and /v1/status
	Log         *slog.Logger                           // nil: silent
}

// API is an http.Handler.
type API struct {
	Config
	routes    *routes
	huma      huma.API
	metrics   *metrics
	handler   http.Handler
	openAPI   []byte
	started   time.Time
	lanes     map[laneName]*lane
	costly    *meters
	strangers *meters
	bodies    atomic.Int64
	copies    copies
	watches   *watches
	events    events

	// closing ends when the interface is closed.
	closing context.Context
	close   context.CancelFunc
}

// New returns the interface.
func New(c Config) *API {
	c = c.complete()
	a := &API{
		Config:    c,
		routes:    newRoutes(),
		started:   time.Now(),
		lanes:     newLanes(),
		costly:    newMeters(costlyRate, costlyBurst),
		strangers: newMeters(strangerRate, strangerBurst),
		watches:   newWatches(),
		events:    c.Catalog,
	}
	a.closing, a.close = context.WithCancel(context.Background())
	a.metrics = newMetrics(a)
	a.huma = humago.New(a.routes, humaConfig(c.Version))
	a.huma.UseMiddleware(knownQuery)
	for _, add := range []func(){
		a.addServices, a.addInstances, a.addRules, a.addHistory, a.addAliases, a.addProtection, a.addClients,
		a.addWatch, a.addAudit, a.addTokens, a.addStatus, a.addBackup,
	} {
		add()
	}
	a.openAPI = a.describe()
	a.addOperations()
	a.handler = a.metrics.observe(a.recovering(a.authenticated(http.HandlerFunc(a.serve))))
	return a
}

// complete fills in what is not given.
func (c Config) complete() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Sessions == nil {
		c.Sessions = noSessions{}
	}
	if c.StoreStatus == nil {
		c.StoreStatus = func() Store { return Store{State: "ok"} }
	}
	return c
}

// Close ends the watches and the waiting for acknowledgements; other requests go on. It does not wait for them: that
// is what [http.Server.Shutdown] does.
func (a *API) Close() { a.close() }

// ServeHTTP implements [http.Handler].
func (a *API) ServeHTTP(w http.ResponseWriter, r *http.Request) { a.handler.ServeHTTP(w, r) }

// Routes lists every route as "METHOD /path".
func (a *API) Routes() []string { return a.routes.patterns }

// Demands says which role a route of [API.Routes] needs, and where: "namespace" is that of the query, "any" means that
// the handler looks at what is touched, "everywhere" that a token of some namespaces is not enough. The role is "" for
// the probes, which need no token.
func (a *API) Demands(route string) (role access.Role, where string, declared bool) {
	d, declared := a.routes.demands[route]
	return d.role, string(d.scope), declared
}

// OpenAPI returns the description of the calls, OpenAPI 3.1 in JSON.
func (a *API) OpenAPI() []byte { return a.openAPI }

// addOperations adds what operators and their tools ask for.
func (a *API) addOperations() {
	probe := demand{scope: unguarded, lane: noLane}
	a.handle("GET /healthz", probe, func(w http.ResponseWriter, _ *http.Request) { writeText(w, "ok\n") })
	a.handle("GET /readyz", probe, a.ready)
	a.handle("GET /metrics", needs(access.Reader, everywhere).in(noLane), a.metrics.handler.ServeHTTP)
	a.handle("GET /openapi.json", needs(access.Reader, somewhere), func(w http.ResponseWriter, _ *http.Request) {
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

func humaConfig(version string) huma.Config {
	jsonFormat := huma.DefaultJSONFormat
	yamlFormat := huma.Format{Marshal: marshalYAML}
	scheme := huma.SecurityScheme{Type: "http", Scheme: "bearer", Description: "the token in the file admin.token of the server's data directory, or one made with POST /v1/tokens"}
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
