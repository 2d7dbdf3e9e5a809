package server

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
)

// demand is what a route asks of a caller.
type demand struct {
	role  access.Role // "": nothing, not even a token
	where string      // of the three below
	body  string      // of the request, where the answer depends on it
}

// Where a role is needed.
const (
	inShop   = "in the namespace of the request"
	anywhere = "in any namespace"
	all      = "in all namespaces"
)

const shopRule = `{"kind": "Route", "name": "canary", "namespace": "shop", "service": "product", "spec": {"rules": [{"timeout": "1s"}]}}`

// restDemands has a row for each route of REST. {service} is product, {id} is p1, {kind} is route, {name} is canary, and
// the namespace is shop.
var restDemands = map[string]demand{
	"GET /healthz": {},
	"GET /readyz":  {},

	"GET /metrics":      {role: access.Reader, where: all},
	"GET /openapi.json": {role: access.Reader, where: anywhere},
	"GET /v1/status":    {role: access.Reader, where: anywhere},

	"GET /v1/services":                                 {role: access.Reader, where: inShop},
	"GET /v1/services/{service}":                       {role: access.Reader, where: inShop},
	"GET /v1/services/{service}/instances":             {role: access.Reader, where: inShop},
	"GET /v1/services/{service}/instances/{id}":        {role: access.Reader, where: inShop},
	"PUT /v1/services/{service}/instances/{id}":        {role: access.Operator, where: inShop, body: `{"address": "127.0.0.1:1", "protocol": "http"}`},
	"PATCH /v1/services/{service}/instances/{id}":      {role: access.Operator, where: inShop, body: `{"weight": 1}`},
	"DELETE /v1/services/{service}/instances/{id}":     {role: access.Operator, where: inShop},
	"POST /v1/services/{service}/instances/{id}/renew": {role: access.Operator, where: inShop},

	"GET /v1/rules":                         {role: access.Reader, where: inShop},
	"POST /v1/rules":                        {role: access.Operator, where: inShop, body: shopRule},
	"GET /v1/rules/{kind}/{name}":           {role: access.Reader, where: inShop},
	"PUT /v1/rules/{kind}/{name}":           {role: access.Operator, where: inShop, body: shopRule},
	"DELETE /v1/rules/{kind}/{name}":        {role: access.Operator, where: inShop},
	"GET /v1/rules/{kind}/{name}/history":   {role: access.Reader, where: inShop},
	"GET /v1/rules/{kind}/{name}/diff":      {role: access.Reader, where: inShop},
	"POST /v1/rules/{kind}/{name}/rollback": {role: access.Operator, where: inShop, body: `{"revision": "1-1"}`},

	"GET /v1/aliases":           {role: access.Reader, where: inShop},
	"GET /v1/aliases/{name}":    {role: access.Reader, where: inShop},
	"PUT /v1/aliases/{name}":    {role: access.Operator, where: inShop, body: `{"service": "product"}`},
	"DELETE /v1/aliases/{name}": {role: access.Operator, where: inShop},

	"GET /v1/protection": {role: access.Reader, where: anywhere},
	"PUT /v1/protection": {role: access.Operator, where: inShop, body: `{"service": "product.shop", "for": "1m"}`},
	"GET /v1/clients":    {role: access.Reader, where: anywhere},
	"GET /v1/watch":      {role: access.Reader, where: anywhere},
	"GET /v1/audit":      {role: access.Operator, where: anywhere},

	"GET /v1/tokens":         {role: access.Admin, where: all},
	"POST /v1/tokens":        {role: access.Admin, where: all, body: `{"name": "new", "role": "reader"}`},
	"DELETE /v1/tokens/{id}": {role: access.Admin, where: all},
	"GET /v1/backup":         {role: access.Admin, where: all},
	"POST /v1/restore":       {role: access.Admin, where: all, body: "no backup"},
}

// grpcDemands has a row for each method.
var grpcDemands = map[string]access.Role{
	"/weft.v1.SessionService/Connect": access.Workload,
}

// rolesInREST says whether REST tells roles and namespaces apart. While it does not, rows of readers and operators, and
// rows without a route, are left out.
const rolesInREST = true

// caller is one column.
type caller struct {
	name          string
	authorization string // "": no such header
	grant         access.Grant
	known         bool // the token is one of a grant
}

// keeper writes tokens into a store that no server has yet.
type keeper struct{ committer *store.Committer }

func (k keeper) Audit() *audit.Log { return nil }

func (k keeper) Do(ctx context.Context, op func(*store.Batch) error) (discovery.Revision, error) {
	return discovery.Revision{}, k.committer.Do(ctx, op)
}

// callers makes all columns: a store with their tokens, and what each sends.
func callers(t *testing.T) (store.Store, []caller) {
	t.Helper()
	st := store.NewMemory()
	committer := store.NewCommitter(st, nil)
	defer committer.Close()
	tokens, err := access.OpenTokens("", st, keeper{committer})
	if err != nil {
		t.Fatal(err)
	}
	defer tokens.Close()
	made := func(name string, s access.Spec) (caller, string) {
		s.Name = "matrix"
		token, text, err := tokens.Create(t.Context(), s)
		if err != nil {
			t.Fatal(err)
		}
		return caller{name, "Bearer " + text, token.Grant, true}, text
	}
	expired, text := made("expired", access.Spec{Role: access.Admin, TTL: time.Second})
	revoked, _ := made("revoked", access.Spec{Role: access.Admin})
	if err := tokens.Revoke(t.Context(), revoked.grant.ID); err != nil {
		t.Fatal(err)
	}
	expired.known, revoked.known = false, false
	out := []caller{
		{name: "none"},
		{name: "empty", authorization: "Bearer "},
		{name: "malformed", authorization: "Basic YWRtaW46YWRtaW4="},
		{name: "wrong", authorization: "Bearer weft_aaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAA"},
		expired, revoked,
	}
	for name, s := range map[string]access.Spec{
		"reader":             {Role: access.Reader},
		"reader of shop":     {Role: access.Reader, Namespaces: []string{"shop"}},
		"operator":           {Role: access.Operator},
		"operator of shop":   {Role: access.Operator, Namespaces: []string{"shop"}},
		"operator elsewhere": {Role: access.Operator, Namespaces: []string{"blog"}},
		"admin":              {Role: access.Admin},
		"admin of shop":      {Role: access.Admin, Namespaces: []string{"shop"}},
		"workload":           {Role: access.Workload},
	} {
		c, _ := made(name, s)
		out = append(out, c)
	}
	for { // a second has passed since expired was made, soon
		if _, err := tokens.Check(text, ""); errors.Is(err, access.ErrExpired) {
			return st, out
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// want is the answer to a caller: 401, 403, or 0 for any other.
func (d demand) want(c caller) int {
	if d.role == "" {
		return 0
	}
	if !c.known {
		return http.StatusUnauthorized
	}
	namespace := map[string]string{inShop: "shop", all: ""}[d.where]
	if d.where == anywhere && len(c.grant.Namespaces) > 0 {
		namespace = c.grant.Namespaces[0]
	}
	if c.grant.Allows(d.role, namespace) {
		return 0
	}
	return http.StatusForbidden
}

// left reports whether the cell waits for REST to know roles: today it knows an unrestricted admin, and workloads.
func (c caller) left() bool {
	return !rolesInREST && c.known && c.grant.Role != access.Workload && !c.grant.Allows(access.Admin, "")
}

// path fills in the parameters of a pattern, and gives the namespace where one is taken.
func path(pattern string, d demand) string {
	p := strings.NewReplacer("{service}", "product", "{id}", "p1", "{kind}", "route", "{name}", "canary").Replace(pattern)
	if d.where == inShop {
		p += "?namespace=shop"
	}
	return p
}

// TestMatrix calls everything with every kind of token. A route without a row fails, so that nobody adds one without
// saying who may call it.
func TestMatrix(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	st, columns := callers(t)
	s, err := New(Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: st})
	if err != nil {
		t.Fatal(err)
	}
	routes := s.rooms.Load().rest.Routes()
	services := s.rooms.Load().grpc.GetServiceInfo()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()

	for _, route := range routes {
		d, ok := restDemands[route]
		if !ok {
			t.Errorf("%s has no row in restDemands: say who may call it", route)
			continue
		}
		var failed []string
		for _, c := range columns {
			if c.left() {
				continue
			}
			if got := s.answer(t, route, d, c); !d.accepts(c, got) {
				failed = append(failed, fmt.Sprintf("%s: %d, want %s", c.name, got, d.wanted(c)))
			}
		}
		if failed != nil {
			t.Errorf("%s (%s %s)\n\t%s", route, d.role, d.where, strings.Join(failed, "\n\t"))
		}
	}
	for route := range restDemands {
		if rolesInREST && !slices.Contains(routes, route) {
			t.Errorf("%s has a row in restDemands, and is no route", route)
		}
	}

	for name, service := range services {
		for _, m := range service.Methods {
			method := "/" + name + "/" + m.Name
			role, ok := grpcDemands[method]
			if !ok {
				t.Errorf("%s has no row in grpcDemands: say who may call it", method)
				continue
			}
			for _, c := range columns {
				want := codes.OK
				switch {
				case !c.known:
					want = codes.Unauthenticated
				case role == access.Workload && !c.grant.MaySession():
					want = codes.PermissionDenied
				}
				if got := s.stream(t, method, c); got != want {
					t.Errorf("%s by %s: %s, want %s", method, c.name, got, want)
				}
			}
		}
	}
}

// accepts reports whether an answer is right: where the caller may, anything goes but a refusal or a failure.
func (d demand) accepts(c caller, got int) bool {
	if want := d.want(c); want != 0 {
		return got == want
	}
	return got != http.StatusUnauthorized && got != http.StatusForbidden && got != http.StatusTooManyRequests && got != http.StatusInternalServerError
}

func (d demand) wanted(c caller) string {
	if want := d.want(c); want != 0 {
		return fmt.Sprint(want)
	}
	return "to be let in"
}

// from dials from an address of loopback that each route has for itself, as so many wrong tokens from one address are
// answered by a lock.
func from(route string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	h := fnv.New32a()
	h.Write([]byte(route))
	sum := h.Sum32()
	return (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, byte(sum>>16), byte(sum>>8), byte(sum)|1)}}).DialContext
}

// answer calls a route and gives the status. Only the header is waited for, as a watch never ends.
func (s *Server) answer(t *testing.T, route string, d demand, c caller) int {
	t.Helper()
	method, pattern, _ := strings.Cut(route, " ")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://"+s.HTTPAddr()+path(pattern, d), strings.NewReader(d.body))
	if err != nil {
		t.Fatal(err)
	}
	if c.authorization != "" {
		r.Header.Set("Authorization", c.authorization)
	}
	if d.body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: from(route)}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s by %s: %v", route, c.name, err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// stream opens a stream and gives what it answers first.
func (s *Server) stream(t *testing.T, method string, c caller) codes.Code {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(trusting())),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return from(method)(ctx, "tcp", addr) }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if c.authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", c.authorization)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return status.Code(err)
	}
	hello := &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: "matrix"}}}
	if err := stream.SendMsg(hello); err != nil && !errors.Is(err, io.EOF) {
		return status.Code(err)
	}
	return status.Code(stream.RecvMsg(new(weftv1.ConnectResponse)))
}

// TestMatrixWouldFail is the control: a route that lets everybody in, or nobody, is seen.
func TestMatrixWouldFail(t *testing.T) {
	_, columns := callers(t)
	for route, d := range restDemands {
		if d.role == "" {
			continue
		}
		for _, got := range []int{200, 401, 403} {
			if !slices.ContainsFunc(columns, func(c caller) bool { return !d.accepts(c, got) }) {
				t.Errorf("%s: if everybody got %d no row would fail", route, got)
			}
		}
	}
}
