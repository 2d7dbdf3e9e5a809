package rest

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

// metrics are the server's own, in a registry of their own.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newMetrics(c Config) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_registry_requests_total", Help: "REST requests by route and status code."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weft_registry_request_seconds", Help: "How long REST requests took, by route.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}, []string{"route"}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(m.requests, m.seconds, content{c},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m
}

// observe counts requests by the pattern of their route, so that paths do not become series.
func (m *metrics) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		defer func() {
			route := r.Pattern // set by the mux, hence on this very request
			if route == "" {
				route = "none"
			}
			m.requests.WithLabelValues(route, strconv.Itoa(sw.status)).Inc()
			m.seconds.WithLabelValues(route).Observe(time.Since(start).Seconds())
		}()
		next.ServeHTTP(sw, r)
	})
}

// statusWriter remembers the status.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap serves [http.ResponseController].
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// content collects what the catalog holds, when it is asked.
type content struct{ c Config }

func (content) instances() *prometheus.Desc {
	return prometheus.NewDesc("weft_registry_instances", "Instances by state.", []string{"state"}, nil)
}

func (content) services() *prometheus.Desc {
	return prometheus.NewDesc("weft_registry_services", "Services that an instance or a rule names.", nil, nil)
}

func (content) rules() *prometheus.Desc {
	return prometheus.NewDesc("weft_registry_rules", "Rules by kind.", []string{"kind"}, nil)
}

func (content) sessions() *prometheus.Desc {
	return prometheus.NewDesc("weft_registry_sessions", "Open sessions.", nil, nil)
}

func (content) revision() *prometheus.Desc {
	return prometheus.NewDesc("weft_registry_revision", "Number of the last change.", nil, nil)
}

// Describe implements [prometheus.Collector].
func (m content) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.instances(), m.services(), m.rules(), m.sessions(), m.revision()} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (m content) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	services := m.c.Catalog.Services("")
	gauge(m.services(), len(services))
	states := map[discovery.State]int{}
	for _, s := range services {
		for state, n := range s.States {
			states[state] += n
		}
	}
	for state, n := range states {
		gauge(m.instances(), n, string(state))
	}
	kinds := map[rule.Kind]int{}
	rules, revision := m.c.Catalog.Rules(catalog.Filter{})
	for _, r := range rules {
		kinds[r.Kind]++
	}
	for kind, n := range kinds {
		gauge(m.rules(), n, string(kind))
	}
	gauge(m.revision(), int(revision.Number))
	if m.c.Sessions != nil {
		gauge(m.sessions(), m.c.Sessions())
	}
}
