package weft_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
	"github.com/weftmesh/weft/telemetry"
)

func TestClassifierJudges(t *testing.T) {
	fail := func(weft.Outcome) weft.Verdict { return weft.Verdict{Class: telemetry.Failure} }
	fleet := newFleet(t, 1)
	for want, options := range map[string][]weft.Option{
		"failure": {weft.WithClassifier(weft.GRPC, fail), weft.WithClassifier(weft.HTTP, fail)},
		"success": nil, // control
	} {
		for protocol, c := range callers(t, fleet.mesh(t, "", options...)) {
			var d weft.Decision
			_, err := c.call(weft.With(t.Context(), weft.Record(&d)), request{behave: "ok"})
			if len(d.Attempts) != 1 || d.Attempts[0].Class != want {
				t.Errorf("%s: attempts %+v, want one %s; error %v", protocol, d.Attempts, want, err)
			}
		}
	}
}

// tally counts the calls it is told of, by protocol.
type tally struct {
	mu    sync.Mutex
	calls map[telemetry.Protocol]int
}

func (o *tally) Bind(b telemetry.Binding) telemetry.Recorder { return tallied{o, b.Protocol} }

type tallied struct {
	*tally
	protocol telemetry.Protocol
}

func (tallied) Attempt(*telemetry.AttemptEvent) {}
func (o tallied) Call(*telemetry.CallEvent) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.calls[o.protocol]++
}

func TestObserverAndRegistererAreTold(t *testing.T) {
	o, metrics := &tally{calls: map[telemetry.Protocol]int{}}, prometheus.NewRegistry()
	m := newFleet(t, 1).mesh(t, "", weft.WithObserver(o), weft.WithRegisterer(metrics))
	if err := callBoth(t.Context(), t, m); err != nil {
		t.Fatal(err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.calls[telemetry.GRPC] != 1 || o.calls[telemetry.HTTP] != 1 {
		t.Errorf("the observer saw %v, want one call of each protocol", o.calls)
	}
	families, err := metrics.Gather()
	if err != nil || !strings.Contains(fmt.Sprint(families), "weft_requests_total") {
		t.Errorf("metrics: %v, %v", families, err)
	}
}

// A call that ends before the first plan is told too.
func TestCallWithoutPlanIsObserved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &tally{calls: map[telemetry.Protocol]int{}}
		m := join(t, weft.WithObserver(o), weft.WithSource(discovery.SourceFunc(
			func(ctx context.Context, _ string, _ func(discovery.Snapshot)) error { <-ctx.Done(); return ctx.Err() })))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := newHTTPCaller(m).call(ctx, request{behave: "ok"}); err == nil || o.calls[telemetry.HTTP] != 1 {
			t.Errorf("error %v, %d calls observed, want 1", err, o.calls[telemetry.HTTP])
		}
	})
}

// The span of the callee belongs to the trace of the caller, over HTTP.
func TestTraceReachesTheCallee(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := weft.WithTracerProvider(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)))
	callee := join(t, weft.WithEndpoints("none"), provider)
	web := httptest.NewServer(callee.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	t.Cleanup(web.Close)
	m := join(t, weft.WithEndpoints("product", strings.TrimPrefix(web.URL, "http://")), provider)
	if _, err := newHTTPCaller(m).call(t.Context(), request{behave: "ok"}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "call, attempt and server span end", 5*time.Second, func() error {
		ended := spans.Ended()
		if len(ended) != 3 {
			return fmt.Errorf("%d spans, want 3", len(ended))
		}
		for _, s := range ended {
			if s.SpanContext().TraceID() != ended[0].SpanContext().TraceID() {
				return errors.New("the spans belong to different traces")
			}
		}
		return nil
	})
}

// Criticality travels from the caller through the callee to what that calls.
func TestCriticalityTravels(t *testing.T) {
	got := make(chan string, 1)
	last := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Weft-Criticality") }))
	t.Cleanup(last.Close)
	middle := join(t, weft.WithEndpoints("product", strings.TrimPrefix(last.URL, "http://")))
	web := httptest.NewServer(middle.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := newHTTPCaller(middle).call(r.Context(), request{behave: "ok"}); err != nil {
			t.Error(err)
		}
	})))
	t.Cleanup(web.Close)
	m := join(t, weft.WithEndpoints("product", strings.TrimPrefix(web.URL, "http://")))
	for want, ctx := range map[string]context.Context{"sheddable": weft.With(t.Context(), weft.Criticality(weft.Sheddable)), "": t.Context()} {
		if _, err := newHTTPCaller(m).call(ctx, request{behave: "ok"}); err != nil {
			t.Fatal(err)
		}
		if c := <-got; c != want {
			t.Errorf("the second callee got %q, want %q", c, want)
		}
	}
}

func TestNotIdempotentForbidsRepeating(t *testing.T) {
	fleet := newFleet(t, 3)
	c := newHTTPCaller(fleet.mesh(t, retries))
	for want, ctx := range map[int]context.Context{1: weft.With(t.Context(), weft.NotIdempotent()), 3: t.Context()} {
		fleet.reset()
		_, err := c.call(ctx, request{behave: "down", repeatable: true})
		if n, _ := fleet.hits(); n != want {
			t.Errorf("%d attempts, want %d: %v", n, want, err)
		}
	}
}

func TestRulesMatchTheCallersLabels(t *testing.T) {
	fleet := newFleet(t, 1)
	doc := "kind: Route\nname: r\nservice: product\nspec: {subsets: {v9: {version: v9}}, rules: [{match: [{caller: {labels: {tier: gold}}}], split: [{subset: v9}], whenEmpty: fail}]}\n"
	for tier, want := range map[string]string{"gold": "weft:NoInstance", "tin": "ok"} {
		m := fleet.mesh(t, doc, weft.WithService("web"), weft.WithLabels(map[string]string{"tier": tier}))
		for protocol, c := range callers(t, m) {
			if _, err := c.call(t.Context(), request{behave: "ok"}); c.result(err) != want {
				t.Errorf("%s, tier %s: %v, want %s", protocol, tier, err, want)
			}
		}
	}
}

// An empty push does not empty the pool; one that says why does.
func TestEmptyPushIsNotBelieved(t *testing.T) {
	fleet := newFleet(t, 1)
	push := make(chan discovery.Snapshot)
	m := join(t, weft.WithSource(discovery.SourceFunc(func(ctx context.Context, _ string, apply func(discovery.Snapshot)) error {
		for {
			select {
			case s := <-push:
				apply(s)
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})))
	all := callers(t, m)
	next := func(s discovery.Snapshot) { // the second is taken once the first was applied
		s.Service = "product.default"
		push <- s
		push <- s
	}
	started := make(chan struct{})
	go func() { defer close(started); next(discovery.Snapshot{Instances: fleet.instances}) }()
	check := func(want string) {
		t.Helper()
		for protocol, c := range all {
			eventually(t, protocol+" "+want, 5*time.Second, func() error {
				_, err := c.call(t.Context(), request{behave: "ok"})
				if got := c.result(err); got != want {
					return fmt.Errorf("got %s, want %s", got, want)
				}
				return nil
			})
		}
	}
	check("ok")
	<-started
	next(discovery.Snapshot{})
	check("ok")
	var gone []discovery.Removal
	for _, in := range fleet.instances {
		gone = append(gone, discovery.Removal{ID: in.ID, Reason: discovery.Deregistered})
	}
	next(discovery.Snapshot{Removed: gone})
	check("weft:NoInstance")
}

// The deadline of a handshake is not that of the connection.
func TestUpgradeHasNoDeadline(t *testing.T) {
	deadline := make(chan bool, 1)
	callee := join(t, weft.WithEndpoints("none"))
	web := httptest.NewServer(callee.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, has := r.Context().Deadline()
		deadline <- has
	})))
	t.Cleanup(web.Close)
	c := newHTTPCaller(join(t, weft.WithEndpoints("product", strings.TrimPrefix(web.URL, "http://"))))
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for want, header := range map[bool]http.Header{false: {"Connection": {"Upgrade"}, "Upgrade": {"echo"}}, true: {}} {
		resp, err := c.stream(ctx, http.MethodGet, "http://product/", header, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := <-deadline; got != want {
			t.Errorf("headers %v: a deadline reached the handler: %t, want %t", header, got, want)
		}
	}
}

func TestWireWordsOfStrangersAreNotForwarded(t *testing.T) {
	callee := join(t, weft.WithEndpoints("none"))
	web := httptest.NewServer(callee.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	t.Cleanup(web.Close)
	c := newHTTPCaller(join(t, weft.WithEndpoints("product", strings.TrimPrefix(web.URL, "http://"))))
	resp, err := c.stream(t.Context(), http.MethodGet, "http://product/", http.Header{"Weft-Deadline": {"0"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("a stranger's deadline was obeyed: %s", resp.Status)
	}
}

// A body that breaks at the caller is no failure of the server.
func TestBrokenUploadSaysNothingOfTheServer(t *testing.T) {
	m := newFleet(t, 1).mesh(t, "")
	var d weft.Decision
	body := io.MultiReader(strings.NewReader("half"), broken{})
	_, err := newHTTPCaller(m).stream(weft.With(t.Context(), weft.Record(&d)), http.MethodPost, "http://product/up", nil, io.NopCloser(body))
	if !errors.Is(err, errBroken) || len(d.Attempts) != 1 || d.Attempts[0].Class != "ignorable" {
		t.Errorf("error %v, attempts %+v; want the reader's error and one that is ignorable", err, d.Attempts)
	}
}

var errBroken = errors.New("the browser went away")

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, errBroken }

// noRules is a source without instances whose rules can never be had.
type noRules struct{ *registrar }

func (noRules) WatchRules(context.Context, []string, func([]rule.Rule) []rule.Nack) error {
	return errors.New("this registry has no rules")
}

func TestRuleSourceThatFailsCountsAsWithoutRules(t *testing.T) {
	if err := callBoth(t.Context(), t, newFleet(t, 1).mesh(t, "", weft.WithSource(noRules{}))); err != nil {
		t.Error(err)
	}
}

func TestErrorsAreTypedAndOnOneLine(t *testing.T) {
	m := join(t, weft.WithEndpoints("x", "127.0.0.1:1"))
	c := newHTTPCaller(m)
	get := func(url string) (e *weft.Error) {
		_, err := c.stream(t.Context(), http.MethodGet, url, nil, nil)
		if !errors.As(err, &e) || strings.Contains(e.Error(), "\n") {
			t.Fatalf("GET %s: %q is no weft.Error on one line", url, err)
		}
		return e
	}
	get("http://a..b.weft/")
	get("http://x/a%0Alevel=ERROR%20forged")
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if e := get("http://fresh/"); e.Reason != weft.Closed {
		t.Errorf("after Close: %v", e)
	}
}

func TestNewRefusesNilAndRulesThatShutEachOtherOut(t *testing.T) {
	rules, err := rule.Parse([]byte("kind: Route\nname: a\nservice: product\nspec: {rules: [{timeout: 50ms}]}\n---\nkind: Route\nname: b\nservice: product\nspec: {rules: [{timeout: 5s}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]weft.Option{"nil": nil, `"b"`: weft.WithRules(rules...)} {
		if _, err := weft.New(weft.WithEndpoints("product", "127.0.0.1:1"), o); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("New: %v, want an error that names %s", err, name)
		}
	}
}

// The record of a short name says what it stands for.
func TestRecordOfAShortName(t *testing.T) {
	for protocol, c := range callers(t, newFleet(t, 1).mesh(t, "", weft.WithService("web.shop"))) {
		var d weft.Decision
		if _, err := c.call(weft.With(t.Context(), weft.Record(&d)), request{behave: "ok"}); err != nil || d.Service != "product.default" {
			t.Errorf("%s: the record says %q, error %v", protocol, d.Service, err)
		}
	}
}

// A rule that names DEADLINE_EXCEEDED means a per-try timeout too.
func TestDeadlineExceededConditionMeansPerTryTimeout(t *testing.T) {
	fleet := newFleet(t, 3)
	m := fleet.mesh(t, "kind: Retry\nname: r\nservice: product\nspec: {attempts: 2, on: [deadline_exceeded], perTryTimeout: 50ms, budget: {percent: 100, perSecond: 1000}}\n")
	_, err := newGRPCCaller(t, m).call(t.Context(), request{behave: "hang", repeatable: true})
	if n, _ := fleet.hits(); n != 2 {
		t.Errorf("%d attempts, want 2: %v", n, err)
	}
}
