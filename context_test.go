package weft_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// A cancel with a cause, as errgroup makes it, is the caller's and says nothing about the server.
func TestCancelWithACause(t *testing.T) {
	m := newFleet(t, 1).mesh(t, "")
	for protocol, c := range callers(t, m) {
		var d weft.Decision
		ctx, cancel := context.WithCancelCause(weft.With(t.Context(), weft.Record(&d)))
		time.AfterFunc(50*time.Millisecond, func() { cancel(errors.New("a sibling failed")) })
		_, err := c.call(ctx, request{behave: "hang", repeatable: true})
		if d.Attempts[0].Class != "ignorable" {
			t.Errorf("%s: a cancel of the caller counts as %s: %v", protocol, d.Attempts[0].Class, err)
		}
	}
}

// fetchedToken asks a service of the mesh for a token, by POST, for each call.
type fetchedToken struct{ client *http.Client }

func (f fetchedToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://product/unary", http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Behave", "down")
	resp, err := f.client.Do(req)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return map[string]string{"x-token": "t"}, errors.Join(err, resp.Body.Close())
}

func (fetchedToken) RequireTransportSecurity() bool { return false }

// The options of a call are not those of calls made on its way.
func TestOptionsAreNotInheritedBelowAnAttempt(t *testing.T) {
	fleet := newFleet(t, 3)
	m := fleet.mesh(t, retries)
	conn, err := grpc.NewClient("weft:///product", append(m.DialOptions(), grpc.WithPerRPCCredentials(fetchedToken{newHTTPCaller(m).client}))...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var d weft.Decision
	c := grpcCaller{pb.NewTestServiceClient(conn)}
	if _, err = c.call(weft.With(t.Context(), weft.Record(&d)), request{behave: "ok", repeatable: true}); err != nil {
		t.Fatal(err)
	}
	if d.Protocol != "grpc" || len(d.Attempts) != 1 {
		t.Errorf("the record is of another call: %s %s, %d attempts", d.Protocol, d.Method, len(d.Attempts))
	}
	if attempts, _ := fleet.hits(); attempts != 2 {
		t.Errorf("%d requests reached servers, want 2: the POST for the token inherited Idempotent and was repeated", attempts)
	}
}

func TestCallsAfterClose(t *testing.T) {
	m, err := weft.New(weft.WithEndpoints("known", "127.0.0.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := grpc.NewClient("weft:///fresh", m.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	_, overGRPC := pb.NewTestServiceClient(conn).UnaryCall(t.Context(), &pb.SimpleRequest{})
	_, overHTTP := newHTTPCaller(m).call(t.Context(), request{behave: "ok"})
	for protocol, err := range map[string]error{"grpc": overGRPC, "http": overHTTP} {
		var e *weft.Error
		if !errors.As(err, &e) || e.Reason != weft.Closed {
			t.Errorf("%s: %v, want a weft.Error with the reason Closed", protocol, err)
		}
	}
}

// givenRules is a source of rules as a test gives them, without checking, and of what comes back.
type givenRules struct {
	rules []rule.Rule
	nacks chan []rule.Nack
}

func (g givenRules) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
	return discovery.Static(nil).Watch(ctx, service, apply)
}

func (g givenRules) WatchRules(ctx context.Context, _ []string, apply func([]rule.Rule) []rule.Nack) error {
	g.nacks <- apply(g.rules)
	<-ctx.Done()
	return ctx.Err()
}

func TestRulesThatCannotBeUsedAreNamedAndTheRestApplies(t *testing.T) {
	fleet := newFleet(t, 3)
	good, err := rule.Parse([]byte(retries))
	if err != nil {
		t.Fatal(err)
	}
	source := givenRules{nacks: make(chan []rule.Nack, 1), rules: append(good,
		rule.Rule{Kind: "Weather", Name: "rain", Service: "product"},
		rule.Rule{Kind: rule.KindRoute, Name: "broken", Service: "product", Spec: &rule.Route{
			Rules: []rule.RouteRule{{Split: []rule.Destination{{Subset: "nowhere", Weight: 100}}}}}})}
	m := join(t, weft.WithSource(discovery.Static(map[string][]discovery.Instance{"product.default": fleet.instances})), weft.WithSource(source))
	for protocol, c := range callers(t, m) {
		fleet.reset()
		_, err := c.call(t.Context(), request{behave: "down", repeatable: true})
		if attempts, _ := fleet.hits(); attempts != 3 {
			t.Errorf("%s: %d attempts, want the 3 of the good rule: %v", protocol, attempts, err)
		}
	}
	names := map[string]bool{}
	for _, n := range <-source.nacks {
		names[n.Name] = n.Reason != ""
	}
	if !names["rain"] || !names["broken"] || len(names) != 2 {
		t.Errorf("nacks %v, want rain and broken with their reasons", names)
	}
}

// lines is a log that a test can read.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// A token is read from a file at each connection, and a wrong one is said once, clearly, without the token.
func TestTokenFile(t *testing.T) {
	addr := registryHome(t)
	data := t.TempDir()
	startRegistry(t, addr, data)
	right, err := os.ReadFile(filepath.Join(data, "workload.token"))
	if err != nil {
		t.Fatal(err)
	}
	product := join(t, weft.WithService("product"), weft.WithRegistry(addr), weft.WithCacheDir(""))
	serveProduct(t, product, "p1")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("not-the-token"), 0o600); err != nil {
		t.Fatal(err)
	}
	var log lines
	web := join(t, weft.WithService("web"), weft.WithRegistry(addr), weft.WithCacheDir(""), weft.WithTokenFile(file),
		weft.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := callBoth(ctx, t, web); err == nil {
		t.Error("calls went through with a wrong token and no cache")
	}
	eventually(t, "a line about the token", 5*time.Second, func() error {
		if !strings.Contains(log.String(), "token") {
			return errors.New(log.String())
		}
		return nil
	})
	if strings.Contains(log.String(), "not-the-token") {
		t.Errorf("the log shows the token: %s", log.String())
	}
	if err := os.WriteFile(file, right, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "calls with the right token", 60*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return callBoth(ctx, t, web)
	})
}

// Names come from callers in a proxy, so that their number has a bound.
func TestServicesAreBounded(t *testing.T) {
	m := join(t, weft.WithEndpoints("known", "127.0.0.1:1"))
	var err error
	for i := 0; err == nil && i <= 10_000; i++ {
		_, err = m.Describe(fmt.Sprintf("s%d", i))
	}
	if err == nil || !strings.Contains(err.Error(), "10000") {
		t.Errorf("after 10,001 services: %v, want an error that names the bound", err)
	}
}
