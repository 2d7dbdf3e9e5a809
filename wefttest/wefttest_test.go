package wefttest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/wefttest"
)

// TestMain makes the environment as hostile as it can be: nothing of it may be looked at.
func TestMain(m *testing.M) {
	os.Setenv("WEFT_REGISTRY", "127.0.0.1:1")
	os.Setenv("WEFT_TOKEN", "not this one")
	os.Setenv("WEFT_PIN", "nor this")
	os.Setenv("WEFT_SERVER_DATA_DIR", "/nowhere")
	os.Setenv("XDG_CONFIG_HOME", "/nowhere")
	os.Setenv("XDG_CACHE_HOME", "/nowhere")
	goleak.VerifyTestMain(m)
}

func get(t testing.TB, m *weft.Mesh, url string) (int, error) {
	t.Helper()
	client := http.Client{Transport: m.Transport(nil), Timeout: 30 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, nil
}

func mustGet(t testing.TB, m *weft.Mesh, url string) {
	t.Helper()
	if code, err := get(t, m, url); err != nil || code != http.StatusOK {
		t.Errorf("%s: %d, %v", url, code, err)
	}
}

const toV = `{kind: Route, name: to, service: product, spec: {subsets: {v: {version: %q}}, rules: [{split: [{subset: v}], whenEmpty: fail}]}}`

// Each change is in force for meshes that call, are called and only look, when the call that made it has returned.
func TestChangesAreInForceWhenTheyReturn(t *testing.T) {
	t.Parallel()
	reg := wefttest.New(t)
	callers := make([]*weft.Mesh, 5)
	for i := range callers {
		callers[i] = reg.Mesh(weft.WithService(fmt.Sprint("web-", i)))
	}
	v := []*wefttest.Service{reg.Service("product", nil, "version=v0"), reg.Service("product", nil, "version=v1")}
	for _, m := range callers {
		mustGet(t, m, "http://product/")
	}
	for round := range 6 {
		want := round % 2
		reg.Apply(fmt.Sprintf(toV, fmt.Sprint("v", want)))
		v[0].Reset()
		v[1].Reset()
		for _, m := range callers {
			mustGet(t, m, "http://product/")
		}
		if got := v[want].Count(); got != len(callers) {
			t.Errorf("round %d: %d of %d calls went where the rule says", round, got, len(callers))
		}
	}
}

func TestInstancesComeAndGo(t *testing.T) {
	t.Parallel()
	reg := wefttest.New(t)
	m := reg.Mesh()
	one := reg.Service("product", nil)
	mustGet(t, m, "http://product/")
	two := reg.Service("product", nil)
	one.Close()
	one.Close()
	for range 20 {
		mustGet(t, m, "http://product/")
	}
	if one.Count() != 1 || two.Count() != 20 {
		t.Errorf("the instance that left was called %d times, the other %d", one.Count(), two.Count())
	}
	if list := reg.Instances("product"); len(list) != 1 || list[0].ID != "product-2" || list[0].Address != two.Address() {
		t.Errorf("instances: %+v", list)
	}
	reg.WaitFor("product", 1)
	two.Close()
	reg.WaitFor("product", 0)
}

// A killed instance is still listed, and callers get along by themselves.
func TestKilledInstance(t *testing.T) {
	t.Parallel()
	reg := wefttest.New(t)
	m := reg.Mesh()
	dead, alive := reg.Service("product", nil), reg.Service("product", nil)
	dead.Kill()
	dead.Kill()
	for range 20 {
		mustGet(t, m, "http://product/")
	}
	if len(reg.Instances("product")) != 2 || dead.Count() != 0 || alive.Count() != 20 {
		t.Errorf("%d instances, %d and %d calls", len(reg.Instances("product")), dead.Count(), alive.Count())
	}
	dead.Close()
	reg.WaitFor("product", 1)
}

func TestFail(t *testing.T) {
	t.Parallel()
	reg := wefttest.New(t)
	web := reg.Service("product", nil)
	rpc := reg.GRPCService("product", func(g *grpc.Server) { grpc_health_v1.RegisterHealthServer(g, health.NewServer()) })
	m := reg.Mesh()
	conn, err := grpc.NewClient("weft:///product", m.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	check := func() error {
		_, err := grpc_health_v1.NewHealthClient(conn).Check(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		return err
	}
	watch := func() error {
		stream, err := grpc_health_v1.NewHealthClient(conn).Watch(t.Context(), &grpc_health_v1.HealthCheckRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	}
	for _, n := range []int{2, -1} {
		web.Fail(n)
		rpc.Fail(n)
		for range 2 {
			if code, err := get(t, m, "http://product/"); code != http.StatusServiceUnavailable {
				t.Errorf("fail %d: http answers %d, %v", n, code, err)
			}
		}
		if err := errors.Join(check(), watch()); status.Code(check()) == codes.OK && n < 0 || err == nil {
			t.Errorf("fail %d: grpc answers %v", n, err)
		}
		if n < 0 {
			web.Fail(0)
			rpc.Fail(0)
		}
		mustGet(t, m, "http://product/")
		if err := errors.Join(check(), watch()); err != nil {
			t.Errorf("fail %d, after: %v", n, err)
		}
	}
	var failed []bool
	for _, c := range web.Calls() {
		failed = append(failed, c.Failed)
	}
	if want := []bool{true, true, false, true, true, false}; !slices.Equal(failed, want) {
		t.Errorf("failed: %v, want %v", failed, want)
	}
}

func TestDelayEndsWithTheCaller(t *testing.T) {
	t.Parallel()
	reg := wefttest.New(t)
	rpc := reg.GRPCService("product", func(g *grpc.Server) { grpc_health_v1.RegisterHealthServer(g, health.NewServer()) })
	rpc.Delay(time.Hour)
	conn, err := grpc.NewClient("weft:///product", reg.Mesh().DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("got %v, want DeadlineExceeded", err)
	}
}

func TestNamespacesAndRegistriesAreApart(t *testing.T) {
	t.Parallel()
	a, b := wefttest.New(t), wefttest.New(t)
	shop, other := a.Service("product.shop", nil), a.Service("product", nil)
	foreign := b.Service("product.shop", nil)
	m := a.Mesh(weft.WithService("web.shop"))
	mustGet(t, m, "http://product/")
	if shop.Count() != 1 || other.Count() != 0 || foreign.Count() != 0 || shop.Name() != "product.shop" {
		t.Errorf("%d, %d and %d calls", shop.Count(), other.Count(), foreign.Count())
	}
	a.Apply(`{kind: Route, namespace: shop, name: none, service: "*", spec: {subsets: {v: {version: "9"}}, rules: [{split: [{subset: v}], whenEmpty: fail}]}}`)
	if _, err := get(t, m, "http://product/"); !weft.IsLocal(err) {
		t.Errorf("under a rule that leaves nothing: %v", err)
	}
	a.Delete("Route", "none.shop")
	mustGet(t, m, "http://product/")
}

// What is wrong fails the test, with words that say what.
func TestMistakesAreExplained(t *testing.T) {
	t.Parallel()
	reg := wefttest.New(t)
	for name, c := range map[string]struct {
		do   func(reg *wefttest.Registry)
		want []string
	}{
		"unknown field": {func(r *wefttest.Registry) { r.Apply("{kind: Retry, name: r, service: product, spec: {atempts: 2}}") }, []string{"400", "spec.atempts"}},
		"conflict": {func(r *wefttest.Registry) {
			r.Apply("{kind: Retry, name: a, service: product, spec: {attempts: 2}}\n---\n{kind: Retry, name: b, service: product, spec: {attempts: 2}}")
		}, []string{"409", "Retry/default/a"}},
		"no such rule": {func(r *wefttest.Registry) { r.Delete("Retry", "nobody") }, []string{"404", "nobody"}},
		"bad name":     {func(r *wefttest.Registry) { r.Service("No Name", nil) }, []string{"No Name"}},
		"bad label":    {func(r *wefttest.Registry) { r.Service("product", nil, "v1") }, []string{`"v1"`, "key=value"}},
		"bad option":   {func(r *wefttest.Registry) { r.Mesh(weft.WithService("No Name")) }, []string{"No Name"}},
	} {
		t.Run(name, func(t *testing.T) {
			said := failure(t, func(t testing.TB) { c.do(wefttest.New(t)) })
			for _, want := range c.want {
				if !strings.Contains(said, want) {
					t.Errorf("it says %q, without %q", said, want)
				}
			}
		})
	}
	if n := len(reg.Instances("product")); n != 0 {
		t.Errorf("%d instances are left", n)
	}
}

// failure runs a test that must fail, and gives what it says.
func failure(t *testing.T, test func(testing.TB)) string {
	t.Helper()
	inner := &recorder{exampleT: newT()}
	defer inner.done()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil && p != errStop {
				panic(p)
			}
		}()
		test(inner)
	}()
	<-done
	if !inner.failed {
		t.Error("it did not fail")
	}
	return inner.said.String()
}

var errStop = errors.New("stop")

// recorder is a test whose failure is looked at.
type recorder struct {
	*exampleT
	mu     sync.Mutex
	said   bytes.Buffer
	failed bool
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
	fmt.Fprintf(&r.said, format+"\n", args...)
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	panic(errStop)
}

// Nothing is written to disk: not where the environment points, nor in the folder of the test.
func TestNothingOnDisk(t *testing.T) {
	before := files(t)
	reg := wefttest.New(t)
	reg.Service("product", nil)
	mustGet(t, reg.Mesh(weft.WithService("web")), "http://product/")
	if after := files(t); !slices.Equal(before, after) {
		t.Errorf("files: %v, before: %v", after, before)
	}
	if _, err := os.Stat("/nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the environment was followed: %v", err)
	}
}

func files(t *testing.T) (list []string) {
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// It is the caller who gives up at his deadline: the fake does not hang up at the same moment, though it knows it.
func TestDelayOutlastsTheDeadline(t *testing.T) {
	t.Parallel()
	reg := wefttest.New(t)
	slow := reg.Service("product", nil)
	slow.Delay(time.Minute)
	client := &http.Client{Transport: reg.Mesh().Transport(nil)}
	var calls sync.WaitGroup
	for range 50 {
		calls.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://product/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := client.Do(req); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want the deadline", err)
			}
		})
	}
	calls.Wait()
}
