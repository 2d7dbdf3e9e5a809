package rest

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
)

// maxBody is the largest body of a request, in bytes. Of a larger one up to maxDrain bytes more are read and
// thrown away: a client that is still sending when the connection closes does not see the answer.
const (
	maxBody  = 256 << 10
	maxDrain = 4 << 20
)

// wantToken says where the token is found.
const wantToken = "send \"Authorization: Bearer <token>\" with the token in the file admin.token of the server's data directory (--data-dir, by default ./weft-data)"

// open are the paths that need no token.
func open(path string) bool { return path == "/healthz" || path == "/readyz" }

// authenticated lets through who has the administrator's token. It stands before the routes, so that a route
// cannot be forgotten and strangers do not learn which there are.
func (a *API) authenticated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, given := bearer(r.Header)
		switch {
		case open(r.URL.Path) || given && a.Access.Admin(token):
			next.ServeHTTP(w, r)
		case given && a.Access.Workload(token):
			writeProblem(w, problem(http.StatusForbidden, "the workload token opens sessions only: "+wantToken))
		case given:
			w.Header().Set("WWW-Authenticate", `Bearer realm="weft", error="invalid_token"`)
			writeProblem(w, problem(http.StatusUnauthorized, "the token is not this server's: "+wantToken))
		default:
			w.Header().Set("WWW-Authenticate", `Bearer realm="weft"`)
			writeProblem(w, problem(http.StatusUnauthorized, "a token is needed: "+wantToken))
		}
	})
}

func bearer(h http.Header) (string, bool) {
	scheme, token, _ := strings.Cut(h.Get("Authorization"), " ")
	token = strings.TrimSpace(token)
	return token, strings.EqualFold(scheme, "Bearer") && token != ""
}

// bounded reads the body before the handler runs, up to [maxBody].
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
		switch {
		case err != nil:
			writeProblem(w, problem(http.StatusBadRequest, "the body cannot be read: "+err.Error()))
		case len(data) > maxBody:
			rest, _ := io.Copy(io.Discard, io.LimitReader(r.Body, maxDrain))
			writeProblem(w, tooLarge(fmt.Sprintf("at least %d bytes", int64(len(data))+rest)))
		default:
			r.Body = io.NopCloser(bytes.NewReader(data))
			next.ServeHTTP(w, r)
		}
	})
}

// knownQuery refuses query parameters that are unknown, unreadable or given twice, and guards that would not be
// heeded: a misspelt dryRun would write.
func knownQuery(ctx huma.Context, next func(huma.Context)) {
	var known, headers []string
	for _, p := range ctx.Operation().Parameters {
		switch p.In {
		case "query":
			known = append(known, p.Name)
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
		if pair == "dryRun=" {
			fields = append(fields, wrong("query.dryRun", "is empty; must be true or false", ""))
		}
	}
	for _, name := range []string{"If-Match", "If-None-Match"} {
		if value := ctx.Header(name); value != "" && ctx.Method() != http.MethodGet && !slices.Contains(headers, name) {
			fields = append(fields, wrong("header."+name, "guards PUT and DELETE of one rule only", value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(u.Query())) {
		switch values := u.Query()[name]; {
		case !slices.Contains(known, name):
			fields = append(fields, wrong("query."+name, "is not a parameter; the parameters are "+strings.Join(known, ", "), values[0]))
		case len(values) > 1:
			fields = append(fields, wrong("query."+name, "is given twice", values))
		}
	}
	if len(fields) == 0 {
		next(ctx)
		return
	}
	_, w := humago.Unwrap(ctx)
	writeProblem(w, problem(http.StatusBadRequest, fields[0].Location+": "+fields[0].Message, fields...))
}
