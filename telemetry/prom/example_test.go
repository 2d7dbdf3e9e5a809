package prom_test

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weftmesh/weft/telemetry"
	"github.com/weftmesh/weft/telemetry/prom"
)

// With a mesh the first two statements are all there is to do: weft.New(weft.WithRegisterer(reg)) makes the observer, and
// the engine tells it of each call. The rest shows what /metrics then says.
func ExampleNew() {
	reg := prometheus.NewRegistry()
	metrics := promhttp.HandlerFor(reg, promhttp.HandlerOpts{}) // http.Handle("/metrics", metrics)

	observer, err := prom.New(reg)
	if err != nil {
		fmt.Println(err)
		return
	}
	recorder := observer.Bind(telemetry.Binding{Direction: telemetry.Outbound, Protocol: telemetry.HTTP,
		Caller: "web.shop", Service: "product.shop"})
	recorder.Call(&telemetry.CallEvent{Method: "GET", Code: 200, Attempts: 1, Duration: 3 * time.Millisecond})

	response := httptest.NewRecorder()
	metrics.ServeHTTP(response, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(response.Body.String()) {
		if strings.HasPrefix(line, "weft_requests_total") {
			fmt.Print(line)
		}
	}
	// Output: weft_requests_total{caller="web.shop",code="200",direction="outbound",method="GET",protocol="http",reason="",service="product.shop"} 1
}
