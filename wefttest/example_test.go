package wefttest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/wefttest"
)

// In a test, t is its *testing.T and there is no done: all is cleaned up when the test ends.
func Example() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	v1 := reg.Service("product", nil, "version=v1")
	v2 := reg.Service("product", nil, "version=v2")
	reg.Apply(`
kind: Route
name: product-canary
service: product
spec:
  subsets: {v1: {version: v1}, v2: {version: v2}}
  rules:
    - match: [{headers: {x-user-tier: gold}}]
      split: [{subset: v2}]
    - split: [{subset: v1}]
`)

	m := reg.Mesh(weft.WithService("web"))
	client := &http.Client{Transport: m.Transport(nil)} // what the code under test would be given
	for _, tier := range []string{"gold", "silver", "", "gold"} {
		req, _ := http.NewRequest(http.MethodGet, "http://product/items", nil)
		req.Header.Set("X-User-Tier", tier)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	fmt.Println("v1:", v1.Count(), "v2:", v2.Count())
	// Output: v1: 2 v2: 2
}

// A fake instance remembers what it was asked.
func ExampleRegistry_Service() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	stock := reg.Service("stock.shop", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "7 are left")
	}))
	m := reg.Mesh()

	resp, err := (&http.Client{Transport: m.Transport(nil)}).Get("http://stock.shop.weft/items/tea")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(os.Stdout, resp.Body)
	call := stock.Calls()[0]
	fmt.Println()
	fmt.Println(stock.ID(), "was asked for", call.Method, call.Path)
	// Output:
	// 7 are left
	// stock-1 was asked for GET /items/tea
}

// The same over gRPC. The health service stands for the program's own.
func ExampleRegistry_GRPCService() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	stock := reg.GRPCService("stock", func(g *grpc.Server) {
		grpc_health_v1.RegisterHealthServer(g, health.NewServer())
	})
	m := reg.Mesh(weft.WithService("web"))

	conn, err := grpc.NewClient("weft:///stock", m.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-user", "u1")
	resp, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{})
	fmt.Println(resp.GetStatus(), err)
	call := stock.Calls()[0]
	fmt.Println(call.Method, call.Header.Get("X-User"))
	// Output:
	// SERVING <nil>
	// /grpc.health.v1.Health/Check u1
}

// Rules are tested as they are: the very file that production gets. Apply returns when they are in force.
func ExampleRegistry_Apply() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	product := reg.Service("product", nil)
	m := reg.Mesh(weft.WithService("web"))
	client := &http.Client{Transport: m.Transport(nil)}

	product.Fail(1)
	resp, err := client.Get("http://product/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println("without a rule:", resp.StatusCode)

	reg.Apply(`{kind: Retry, name: product-retry, service: product, spec: {attempts: 2, on: ["503"]}}`)
	product.Fail(1)
	if resp, err = client.Get("http://product/"); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println("with it:", resp.StatusCode)
	// Output:
	// without a rule: 503
	// with it: 200
}

// A rule is taken away again with Delete.
func ExampleRegistry_Delete() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	product := reg.Service("product", nil, "version=v1")
	m := reg.Mesh()
	client := &http.Client{Transport: m.Transport(nil)}

	reg.Apply(`{kind: Route, name: to-v2, service: product, spec: {subsets: {v2: {version: v2}}, rules: [{split: [{subset: v2}], whenEmpty: fail}]}}`)
	_, err := client.Get("http://product/")
	fmt.Println("refused by the caller:", weft.IsLocal(err))
	reg.Delete("Route", "to-v2")
	resp, err := client.Get("http://product/")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, "calls:", product.Count())
	// Output:
	// refused by the caller: true
	// 200 OK calls: 1
}

// Code that is called rather than calls: its mesh registers as it would in production.
func ExampleRegistry_Mesh() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	m := reg.Mesh(weft.WithService("product"))
	_, err := m.Register(t.Context(), weft.Instance{ID: "p1", Address: "127.0.0.1:8080", Protocol: weft.HTTP})
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range reg.Instances("product") {
		fmt.Println(in.ID, in.Address, in.State)
	}
	// Output: p1 127.0.0.1:8080 up
}

// WaitFor is for instances that come by themselves.
func ExampleRegistry_WaitFor() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	m := reg.Mesh(weft.WithService("product"))
	for i := range 3 {
		go m.Register(t.Context(), weft.Instance{ID: fmt.Sprint("p", i), Address: fmt.Sprint("127.0.0.1:808", i), Protocol: weft.HTTP})
	}
	reg.WaitFor("product", 3)
	fmt.Println(len(reg.Instances("product")), "instances")
	// Output: 3 instances
}

// A slow instance, and a caller with little patience.
func ExampleService_Delay() {
	t := newT()
	defer t.done()
	reg := wefttest.New(t)
	stock := reg.Service("stock", nil)
	stock.Delay(time.Minute)
	m := reg.Mesh()

	client := &http.Client{Transport: m.Transport(nil), Timeout: 200 * time.Millisecond}
	_, err := client.Get("http://stock/")
	fmt.Println("gave up:", err != nil, "calls:", stock.Count())
	// Output: gave up: true calls: 1
}

// exampleT stands in for the *testing.T that an example does not have.
type exampleT struct {
	testing.TB
	ctx      context.Context
	cancel   context.CancelFunc
	cleanups []func()
}

func newT() *exampleT {
	t := &exampleT{}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

func (t *exampleT) Helper()                      {}
func (t *exampleT) Context() context.Context     { return t.ctx }
func (t *exampleT) Output() io.Writer            { return os.Stderr }
func (t *exampleT) Cleanup(f func())             { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Errorf(f string, args ...any) { fmt.Printf(f+"\n", args...) }
func (t *exampleT) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }
func (t *exampleT) Fatal(args ...any)            { panic(fmt.Sprint(args...)) }

// done does what the end of a test does.
func (t *exampleT) done() {
	t.cancel()
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
}
