package rest

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
)

// demand is what a route asks of a call. It stands beside the route; one without is closed to everybody.
type demand struct {
	role   access.Role
	scope  scope
	lane   laneName
	costly bool // one call may keep the server busy: they come at the rate of costlyRate
	stream bool // the handler reads the body, which may be large
}

// scope says in which namespaces the role is needed.
type scope string

const (
	inNamespace scope = "namespace"  // in that of the query
	somewhere   scope = "any"        // in any: the handler looks at what it touches
	everywhere  scope = "everywhere" // in all
	unguarded   scope = ""           // nobody is asked for a token
)

// needs makes a demand; the lane follows from the method until it is said.
func needs(role access.Role, s scope) demand { return demand{role: role, scope: s} }

func (d demand) in(l laneName) demand { d.lane = l; return d }
func (d demand) asCostly() demand     { d.costly = true; return d }
func (d demand) asStream() demand     { d.stream, d.lane = true, noLane; return d }

// register adds an operation with what it demands.
func register[I, O any](a *API, d demand, op huma.Operation, handler func(context.Context, *I) (*O, error)) {
	op.Extensions = map[string]any{"x-weft-role": d.role, "x-weft-scope": d.scope}
	if _, tagged := reflect.TypeFor[O]().FieldByName("ETag"); tagged && op.Method == http.MethodGet {
		op.Parameters = append(op.Parameters, &huma.Param{Name: "If-None-Match", In: "header", Schema: &huma.Schema{Type: huma.TypeString},
			Description: "answer 304 without a body if the ETag is still this one"})
		op.Responses = also(op.Responses, http.StatusNotModified, "Not Modified")
	}
	a.routes.demand(op.Method+" "+op.Path, d)
	huma.Register(a.huma, op, handler)
}

// also describes one more answer.
func also(responses map[string]*huma.Response, status int, text string) map[string]*huma.Response {
	if responses == nil {
		responses = map[string]*huma.Response{}
	}
	responses[strconv.Itoa(status)] = &huma.Response{Description: text}
	return responses
}

// handle adds a route that is no operation.
func (a *API) handle(pattern string, d demand, handler http.HandlerFunc) {
	a.routes.demand(pattern, d)
	a.routes.HandleFunc(pattern, handler)
}

// routes is a mux that knows its patterns and what they demand, and answers in problem+json when none fits.
type routes struct {
	*http.ServeMux
	patterns []string
	demands  map[string]demand
}

func newRoutes() *routes { return &routes{ServeMux: http.NewServeMux(), demands: map[string]demand{}} }

// HandleFunc implements humago.Mux.
func (m *routes) HandleFunc(pattern string, handler func(http.ResponseWriter, *http.Request)) {
	m.patterns = append(m.patterns, pattern)
	m.ServeMux.HandleFunc(pattern, handler)
}

func (m *routes) demand(pattern string, d demand) {
	if d.lane == "" {
		d.lane = writes
		if pattern[:4] == "GET " {
			d.lane = reads
		}
	}
	m.demands[pattern] = d
}

// find gives the pattern of a request, "" if there is none, and what it demands. What is nowhere is shown to those who
// may read something, and a path that is not written plainly is nowhere: the mux would redirect, which drops bodies.
func (m *routes) find(r *http.Request) (string, demand, bool) {
	if escaped := r.URL.EscapedPath(); path.Clean("/"+escaped) != escaped {
		return "", needs(access.Reader, somewhere), true
	}
	_, pattern := m.Handler(r)
	if pattern == "" {
		return "", needs(access.Reader, somewhere), true
	}
	d, declared := m.demands[pattern]
	return pattern, d, declared
}

// missing answers where there is no route.
func (m *routes) missing(w http.ResponseWriter, r *http.Request) {
	fallback, _ := m.Handler(r)
	// The mux's own answer is plain text or a redirect; only its status and its Allow header are of use.
	answer := &discard{header: http.Header{}}
	fallback.ServeHTTP(answer, r)
	if answer.status == http.StatusMethodNotAllowed {
		allow := answer.header.Get("Allow")
		w.Header().Set("Allow", allow)
		writeProblem(w, problem(answer.status, r.Method+" is not possible for "+r.URL.Path+"; possible are "+allow))
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

// serve answers a call whose token was looked at.
func (a *API) serve(w http.ResponseWriter, r *http.Request) {
	pattern, d, declared := a.routes.find(r)
	c := callOf(r.Context())
	if !declared {
		writeProblem(w, problem(http.StatusForbidden, "nobody may do this: the route does not say who may"))
		return
	}
	if p := a.refused(c.grant, d, r); p != nil {
		writeProblem(w, p)
		return
	}
	if c.route = pattern; pattern == "" {
		a.routes.missing(w, r)
		return
	}
	if p := a.admit(c, d, r); p != nil {
		writeProblem(w, p)
		return
	}
	defer c.done()
	w.Header().Set("Vary", "Accept")
	a.routes.ServeHTTP(conditional(w, r), r)
}

// refused says why a grant is not enough for a route; nil if it is.
func (a *API) refused(g access.Grant, d demand, r *http.Request) *huma.ErrorModel {
	switch d.scope {
	case unguarded:
		return nil
	case everywhere:
		return lacks(g, d.role, "")
	case somewhere:
		if g.Allows(d.role, "") || slices.ContainsFunc(g.Namespaces, func(ns string) bool { return g.Allows(d.role, ns) }) {
			return nil
		}
		return tooLittle(g, d.role, "in the namespace of what it touches")
	}
	ns := queryparam.Get(r.URL.RawQuery, "namespace") // as the handler will see it
	return lacks(g, d.role, Namespaced{ns}.namespace())
}

// lacks says that a grant does not reach a role in a namespace ("": in all); nil if it does.
func lacks(g access.Grant, role access.Role, namespace string) *huma.ErrorModel {
	if g.Allows(role, namespace) {
		return nil
	}
	if namespace == "" {
		return tooLittle(g, role, "in all namespaces")
	}
	return tooLittle(g, role, fmt.Sprintf("in namespace %q", namespace))
}

// tooLittle is 403.
func tooLittle(g access.Grant, role access.Role, where string) *huma.ErrorModel {
	if g.Role == access.Workload {
		return problem(http.StatusForbidden, "a workload token opens sessions only: "+wantToken)
	}
	return problem(http.StatusForbidden, fmt.Sprintf("token %q has the role %s; this needs the role %s %s", g.Name, g.Role, role, where))
}

// may is lacks for handlers whose calls say by their body what they touch.
func may(ctx context.Context, role access.Role, namespace string) error {
	if p := lacks(callOf(ctx).grant, role, namespace); p != nil {
		return p
	}
	return nil
}

// reaches reports whether the caller may read what is in a namespace ("": in none or all).
func reaches(ctx context.Context, namespace string) bool {
	return callOf(ctx).grant.Allows(access.Reader, namespace)
}

// Anywhere is part of the input of lists that go over all namespaces.
type Anywhere struct {
	Namespace string `query:"namespace" maxLength:"63" doc:"only this namespace; if not given, all that the token reaches"`
}

// shows reports whether an item of a namespace is in the list.
func (n Anywhere) shows(ctx context.Context, namespace string) bool {
	return (n.Namespace == "" || n.Namespace == namespace) && reaches(ctx, namespace)
}

// service reads ?service=; the zero name if it is not given.
func (n Anywhere) service(text string) (discovery.Name, error) {
	if text == "" {
		return discovery.Name{}, nil
	}
	name, err := discovery.ParseName(text, Namespaced(n).namespace())
	if err != nil {
		const message = "must be a service such as product or product.shop"
		return name, problem(http.StatusUnprocessableEntity, "service: "+message, wrong("query.service", message, text))
	}
	return name, nil
}
