package rest

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/audit"
)

// wantToken says where the token is found.
const wantToken = "send \"Authorization: Bearer <token>\" with the token in the file admin.token of the server's data directory (--data-dir, by default ./weft-data)"

// wantsToken reports whether a path needs a token: all but the probes do.
func wantsToken(path string) bool { return path != "/healthz" && path != "/readyz" }

// authenticated lets through who has a token of this server, and notes whose it is. It stands before the routes, so
// that a route cannot be forgotten and strangers do not learn which there are.
func (a *API) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := callOf(r.Context())
		if wantsToken(r.URL.Path) {
			if p := a.identify(c, r.Header); p != nil {
				writeProblem(w, p)
				return
			}
		}
		ctx := audit.With(r.Context(), audit.Actor{Who: c.grant.Name, From: c.from})
		next.ServeHTTP(w, r.WithContext(ctx))
	})
}

// identify finds out whose call it is.
func (a *API) identify(c *call, h http.Header) *huma.ErrorModel {
	token, given := bearer(h)
	if !given {
		return a.stranger(c, "", "a token is needed: "+wantToken)
	}
	grant, err := a.Access.Check(token, c.from)
	var locked *access.Locked
	switch {
	case err == nil:
		c.token, c.grant = token, grant
		return nil
	case errors.As(err, &locked):
		return busy(c.w, locked.RetryAfter, locked.Error())
	case errors.Is(err, access.ErrExpired):
		return a.stranger(c, `, error="invalid_token"`, err.Error()+": "+wantToken)
	}
	return a.stranger(c, `, error="invalid_token"`, "the token is not this server's: "+wantToken)
}

// stranger is 401, and 429 for an address from which such requests flood in.
func (a *API) stranger(c *call, challenge, detail string) *huma.ErrorModel {
	if wait := a.strangers.take(c.from); wait > 0 {
		return busy(c.w, wait, "too many requests without a valid token come from this address")
	}
	c.w.Header().Set("WWW-Authenticate", `Bearer realm="weft"`+challenge)
	return problem(http.StatusUnauthorized, detail)
}

func bearer(h http.Header) (string, bool) {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// knownQuery refuses query parameters that are unknown, unreadable or given twice, and guards that would not be
// heeded: a misspelt dryRun would write.
func knownQuery(ctx huma.Context, next func(huma.Context)) {
	var known, many, headers []string
	for _, p := range ctx.Operation().Parameters {
		switch p.In {
		case "query":
			known = append(known, p.Name)
			if p.Explode != nil && *p.Explode {
				many = append(many, p.Name)
			}
		case "header":
			headers = append(headers, p.Name)
		}
	}
	u := ctx.URL()
	var fields []*huma.ErrorDetail
	if _, err := url.ParseQuery(u.RawQuery); err != nil { // Query below leaves out what it cannot read
		fields = append(fields, wrong("query", err.Error(), u.RawQuery))
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		if pair != "" && !strings.Contains(pair, "=") { // huma would take it for true, or for part of the next
			fields = append(fields, wrong("query."+pair, "has no value; write "+pair+"=value", ""))
		}
	}
	for _, name := range []string{"If-Match", "If-None-Match"} {
		if value := ctx.Header(name); value != "" && ctx.Method() != http.MethodGet && !slices.Contains(headers, name) {
			fields = append(fields, wrong("header."+name, "guards PUT, DELETE and rollback of one rule only", value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.Query())) {
		switch values := u.Query()[name]; {
		case !slices.Contains(known, name):
			fields = append(fields, wrong("query."+name, "is not a parameter; the parameters are "+strings.Join(known, ", "), values[0]))
		case values[0] == "" && (name == "dryRun" || name == "wait"):
			fields = append(fields, wrong("query."+name, "is empty; must have a value", ""))
		case len(values) > 1 && !slices.Contains(many, name):
			fields = append(fields, wrong("query."+name, "is given twice", values))
		}
	}
	status := http.StatusBadRequest
	if len(fields) == 0 {
		status, fields = http.StatusUnprocessableEntity, badQuery(u.Query())
	}
	if len(fields) == 0 {
		next(ctx)
		return
	}
	_, w := humago.Unwrap(ctx)
	writeProblem(w, problem(status, fields[0].Location+": "+fields[0].Message, fields...))
}

// badQuery checks the parameters that many operations have. It is no [huma.Resolver], as of those only one is asked where
// inputs are embedded in one another.
func badQuery(query url.Values) (fields []*huma.ErrorDetail) {
	for _, check := range []struct {
		name, want string
		ok         func(string) bool
	}{
		{"namespace", wantLabel, discovery.IsLabel},
		{"wait", "must be true, or a share from 0 to 1", func(text string) bool { _, ok := share(text); return ok }},
		{"waitTimeout", "must be a duration up to 60s, such as 10s", func(text string) bool { _, ok := waitTime(text); return ok }},
	} {
		if text := query.Get(check.name); text != "" && !check.ok(text) {
			fields = append(fields, wrong("query."+check.name, check.want, text))
		}
	}
	return fields
}
