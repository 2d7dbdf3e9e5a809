package httpweft_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/internal/httpweft"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/resilience/outlier"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

func ExampleIsOurs() {
	for _, host := range []string{"product", "product.shop.weft", "localhost", "product:8080", "example.com"} {
		service, ours := httpweft.IsOurs(host)
		fmt.Printf("%s: %v %q\n", host, ours, service)
	}
	// Output:
	// product: true "product"
	// product.shop.weft: true "product.shop"
	// localhost: false ""
	// product:8080: false ""
	// example.com: false ""
}

// A caller and a callee over loopback. In a process of its own the facade makes what this example makes by hand.
func Example() {
	e := engine.New(engine.Config{})
	var none [engine.NumProtocols]telemetry.Recorder
	server := httpweft.NewServer(e.NewInbound(none), "product.default", nil)
	callee := httptest.NewUnstartedServer(server.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s", r.Host, r.URL.Path)
	})))
	callee.Listener = server.Listener(callee.Listener)
	callee.Start()
	defer callee.Close()

	client := httpweft.NewClient(directory{product(e, callee.Listener.Addr().String())}, nil)
	defer client.Close()
	resp, err := (&http.Client{Transport: client.Transport(nil)}).Get("http://product/items")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Status, string(body))
	// Output: 200 OK product /items
}

// directory knows one service.
type directory struct{ product *engine.Service }

func (d directory) ServiceForHost(host string) (*engine.Service, bool, error) {
	name, _ := httpweft.IsOurs(host)
	return d.product, name == "product", nil
}

// product is a service with one instance and no rules.
func product(e *engine.Engine, address string) *engine.Service {
	detector := outlier.New(outlier.Default())
	endpoints := balancer.NewPool(func(balancer.Spec) any { return detector.Host() }).Update([]balancer.Spec{{ID: "p1", Address: address}})
	router, err := routing.New(routing.Config{Key: "default/product"}, endpoints, nil)
	if err != nil {
		panic(err)
	}
	plan := &engine.Plan{Service: "product.default", Budget: budget.New(budget.Default())}
	plan.Protocols[engine.HTTP] = engine.ProtocolPlan{Router: router, Endpoints: endpoints, Recorder: telemetry.Observers().Bind(telemetry.Binding{})}
	service := e.NewService(plan.Service)
	service.Publish(plan)
	return service
}
