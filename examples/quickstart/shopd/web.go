package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/examples/quickstart/shop"
)

// web calls product over both protocols. What it does is asked for by HTTP, so that the quickstart can drive it:
//
//	GET    /calls?via=grpc|http&n=100[&header=name:value][&cookie=name=value][&users=50]   counts answers by version
//	POST   /load                                                                          begins load in the background
//	DELETE /load                                                                          ends it and gives its counts
//	GET    /metrics, /spans?trace=ID
func web(ctx context.Context, log *slog.Logger, addr string) error {
	metrics, spans := prometheus.NewRegistry(), newSpans()
	m, err := weft.New(weft.WithService("web"), weft.WithLogger(log), weft.WithRegisterer(metrics),
		weft.WithTracerProvider(spans.provider("web")))
	if err != nil {
		return err
	}
	defer m.Close(context.Background())
	conn, err := grpc.NewClient("weft:///product", m.DialOptions()...)
	if err != nil {
		return err
	}
	defer conn.Close()
	c := &caller{grpc: shop.NewProductClient(conn), http: &http.Client{Transport: m.Transport(nil)}}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /calls", c.calls)
	mux.HandleFunc("POST /load", c.startLoad)
	mux.HandleFunc("DELETE /load", c.stopLoad)
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	mux.Handle("GET /spans", spans)
	lis, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: m.Handler(mux)}
	go srv.Serve(m.Listener(lis))
	if _, err := m.Register(ctx, weft.Instance{ID: "web-1", Address: lis.Addr().String(), Protocol: weft.HTTP}); err != nil {
		return err
	}
	<-ctx.Done()
	return errors.Join(m.Close(context.Background()), srv.Shutdown(context.Background()))
}

// caller makes calls to product.
type caller struct {
	grpc shop.ProductClient
	http *http.Client

	mu   sync.Mutex
	load *load
}

// request is one call in words that fit both protocols.
type request struct {
	via    string
	buy    bool // must not be repeated
	header [2]string
	cookie string
}

func (c *caller) call(ctx context.Context, r request) (answer, error) {
	if r.via == "grpc" {
		return c.callGRPC(ctx, r)
	}
	return c.callHTTP(ctx, r)
}

func (c *caller) callGRPC(ctx context.Context, r request) (answer, error) {
	if r.header[0] != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, r.header[0], r.header[1])
	}
	if r.cookie != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "cookie", r.cookie)
	}
	if r.buy {
		a, err := c.grpc.Buy(ctx, &shop.BuyRequest{})
		return answer{a.GetVersion(), a.GetInstance()}, err
	}
	a, err := c.grpc.Get(ctx, &shop.GetRequest{})
	return answer{a.GetVersion(), a.GetInstance()}, err
}

func (c *caller) callHTTP(ctx context.Context, r request) (a answer, err error) {
	method, url := http.MethodGet, "http://product/items"
	if r.buy {
		method, url = http.MethodPost, "http://product/orders"
	}
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return a, err
	}
	if r.header[0] != "" {
		req.Header.Set(r.header[0], r.header[1])
	}
	if r.cookie != "" {
		req.Header.Set("Cookie", r.cookie)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %s", resp.Status)
	}
	return a, json.NewDecoder(resp.Body).Decode(&a)
}

// tally counts what came of calls.
type tally struct {
	Versions  map[string]int `json:"versions"`
	Instances map[string]int `json:"instances"`
	Failed    int            `json:"failed"`
	Error     string         `json:"error,omitempty"` // the first one
}

func newTally() *tally { return &tally{Versions: map[string]int{}, Instances: map[string]int{}} }

func (t *tally) add(a answer, err error) {
	if err == nil {
		t.Versions[a.Version]++
		t.Instances[a.Instance]++
		return
	}
	if t.Failed++; t.Failed == 1 {
		t.Error = err.Error()
	}
}

// calls makes n calls, one after the other, and counts. With users=50 the header x-user-id goes through 50 users.
func (c *caller) calls(w http.ResponseWriter, r *http.Request) {
	n, _ := strconv.Atoi(r.FormValue("n"))
	users, _ := strconv.Atoi(r.FormValue("users"))
	req := request{via: r.FormValue("via"), cookie: r.FormValue("cookie")}
	if name, value, ok := strings.Cut(r.FormValue("header"), ":"); ok {
		req.header = [2]string{name, value}
	}
	t := newTally()
	for i := range min(n, 100_000) {
		if users > 0 {
			req.header = [2]string{"x-user-id", fmt.Sprintf("user-%d", i%users)}
		}
		t.add(c.call(r.Context(), req))
	}
	json.NewEncoder(w).Encode(t)
}

// load is calls in the background: four workers, one for each protocol and kind of call.
type load struct {
	cancel  context.CancelFunc
	workers sync.WaitGroup
	tallies [4]*tally
}

// kinds are what the workers do.
var kinds = [4]request{{via: "http"}, {via: "grpc"}, {via: "http", buy: true}, {via: "grpc", buy: true}}

func (c *caller) startLoad(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.load != nil {
		http.Error(w, "load is running already", http.StatusConflict)
		return
	}
	l := &load{}
	var ctx context.Context
	ctx, l.cancel = context.WithTimeout(context.Background(), time.Minute)
	for i, kind := range kinds {
		l.tallies[i] = newTally()
		l.workers.Go(func() { c.work(ctx, kind, l.tallies[i]) })
	}
	c.load = l
}

func (c *caller) work(ctx context.Context, r request, t *tally) {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			t.add(c.call(context.Background(), r))
		}
	}
}

// loadReport is what DELETE /load answers.
type loadReport struct {
	Reads  tally `json:"reads"`  // may be repeated
	Orders tally `json:"orders"` // must not
}

func (c *caller) stopLoad(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.load == nil {
		http.Error(w, "no load is running", http.StatusConflict)
		return
	}
	c.load.cancel()
	c.load.workers.Wait()
	report := loadReport{Reads: *newTally(), Orders: *newTally()}
	for i, t := range c.load.tallies {
		sum := &report.Reads
		if kinds[i].buy {
			sum = &report.Orders
		}
		sum.merge(t)
	}
	c.load = nil
	json.NewEncoder(w).Encode(report)
}

func (t *tally) merge(o *tally) {
	for k, n := range o.Versions {
		t.Versions[k] += n
	}
	for k, n := range o.Instances {
		t.Instances[k] += n
	}
	t.Failed += o.Failed
	if t.Error == "" {
		t.Error = o.Error
	}
}
