package weft_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/rule"
)

// A program with fixed addresses needs no registry.
func ExampleWithEndpoints() {
	product := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "items of ", r.Host)
	}))
	defer product.Close()

	m, err := weft.New(weft.WithEndpoints("product", strings.TrimPrefix(product.URL, "http://")))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close(context.Background())

	client := &http.Client{Transport: m.Transport(nil)}
	resp, err := client.Get("http://product/items")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// Rules are read from YAML or JSON and can be set in the program.
func ExampleWithRules() {
	rules, err := rule.Parse([]byte(`
kind: Retry
name: product-retry
service: product
spec: {attempts: 2, on: ["503"]}
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	tries := 0
	product := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if tries++; tries == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer product.Close()
	m, err := weft.New(weft.WithEndpoints("product", strings.TrimPrefix(product.URL, "http://")), weft.WithRules(rules...))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close(context.Background())

	resp, err := (&http.Client{Transport: m.Transport(nil)}).Get("http://product/")
	if err != nil {
		fmt.Println(err)
		return
	}
	resp.Body.Close()
	fmt.Println(resp.Status, "after", tries, "tries")
	// Output: 200 OK after 2 tries
}

// A gRPC connection is dialled by the service's name. What Weft refuses itself is a *weft.Error.
func ExampleMesh_DialOptions() {
	m, err := weft.New(weft.WithEndpoints("stock"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close(context.Background())
	conn, err := grpc.NewClient("weft:///stock", m.DialOptions()...)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close()

	_, err = grpc_health_v1.NewHealthClient(conn).Check(context.Background(), &grpc_health_v1.HealthCheckRequest{})
	fmt.Println(weft.IsLocal(err), err)
	// Output: true weft: stock.default /grpc.health.v1.Health/Check: NoInstance: it has no instance
}

// One call's record says why it went where it went.
func ExampleRecord() {
	m, err := weft.New(weft.WithEndpoints("stock"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer m.Close(context.Background())

	var d weft.Decision
	ctx := weft.With(context.Background(), weft.Record(&d))
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://stock/items", nil)
	(&http.Client{Transport: m.Transport(nil)}).Do(req)
	fmt.Println(d.Service, d.Method, d.Path, d.Reason)
	// Output: stock.default GET /items NoInstance
}
