package rest

import (
	"cmp"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

// metrics are the server's own, in a registry of their own.
type metrics struct {
	handler  http.Handler
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// maxScrapes bounds how many read the metrics at once, as each goes over the whole catalog.
const maxScrapes = 8

func newMetrics(a *API) *metrics {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "weft_registry_requests_total", Help: "REST requests by route and status code."}, []string{"route", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "weft_registry_request_seconds", Help: "How long REST requests took, by route.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}, []string{"route"}),
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(a.Collectors...)
	registry.MustRegister(m.requests, m.seconds, content{a},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
	return m
}

// observe counts requests by the pattern of their route, so that paths do not become series.
func (m *metrics) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		sw := &statusWriter{ResponseWriter: w, status: http.StatusOK}
		c, r := newCall(sw, r)
		defer func() {
			route := cmp.Or(c.route, "none")
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

// content collects what the rooms hold, when it is asked.
type content struct{ api *API }

// The gauges of [content].
const (
	instancesGauge = "weft_registry_instances"
	servicesGauge  = "weft_registry_services"
	rulesGauge     = "weft_registry_rules"
	aliasesGauge   = "weft_registry_aliases"
	sessionsGauge  = "weft_registry_sessions"
	behindGauge    = "weft_registry_subscriptions_behind"
	nacksGauge     = "weft_registry_nacks"
	revisionGauge  = "weft_registry_revision"
	watchesGauge   = "weft_registry_watches"
	protectedGauge = "weft_registry_protected"
	missingGauge   = "weft_registry_protected_missing"
	bytesGauge     = "weft_registry_store_bytes"
	writableGauge  = "weft_registry_store_writable"
	tokensGauge    = "weft_registry_tokens"
	runningGauge   = "weft_registry_requests_running"
	waitingGauge   = "weft_registry_requests_waiting"
	backupGauge    = "weft_registry_last_backup_timestamp_seconds"
)

// describe gives a gauge its help and its label, if it has one.
func describe(name string) *prometheus.Desc {
	text := map[string][2]string{
		instancesGauge: {"Instances by state.", "state"},
		servicesGauge:  {"Services that an instance or a rule names."},
		rulesGauge:     {"Rules by kind.", "kind"},
		aliasesGauge:   {"Other names of services."},
		sessionsGauge:  {"Open sessions."},
		behindGauge:    {"Pairs of client and service where the client has not applied the latest revision."},
		nacksGauge:     {"Rules that clients could not use, counted for each client."},
		revisionGauge:  {"Number of the last change."},
		watchesGauge:   {"Open watches (GET /v1/watch)."},
		protectedGauge: {"Sets of instances that do not expire because too many fell silent at once."},
		missingGauge:   {"Instances of those sets that are silent."},
		bytesGauge:     {"Size of the store on disk."},
		writableGauge:  {"1 if the store takes writes; 0 if it is full or broken."},
		tokensGauge:    {"Tokens that were made and have not expired, by role.", "role"},
		runningGauge:   {"REST requests under way, by lane.", "lane"},
		waitingGauge:   {"REST requests that wait for their turn, by lane.", "lane"},
		backupGauge:    {"When the last backup was finished; 0: none."},
	}[name]
	var labels []string
	if text[1] != "" {
		labels = []string{text[1]}
	}
	return prometheus.NewDesc(name, text[0], labels, nil)
}

// Describe implements [prometheus.Collector].
func (m content) Describe(ch chan<- *prometheus.Desc) {
	for _, name := range []string{
		instancesGauge, servicesGauge, rulesGauge, aliasesGauge, sessionsGauge, behindGauge, nacksGauge, revisionGauge, watchesGauge,
		protectedGauge, missingGauge, bytesGauge, writableGauge, tokensGauge, runningGauge, waitingGauge, backupGauge,
	} {
		ch <- describe(name)
	}
}

// gauges is where the values go.
type gauges chan<- prometheus.Metric

func (g gauges) set(name string, value float64, labels ...string) {
	g <- prometheus.MustNewConstMetric(describe(name), prometheus.GaugeValue, value, labels...)
}

// count sets one value for each label.
func count[L ~string](g gauges, name string, n map[L]int) {
	for label, n := range n {
		g.set(name, float64(n), string(label))
	}
}

// Collect implements [prometheus.Collector].
func (m content) Collect(ch chan<- prometheus.Metric) {
	g := gauges(ch)
	m.catalog(g)
	m.sessions(g)
	m.server(g)
}

func (m content) catalog(g gauges) {
	services := m.api.Catalog.Services("")
	g.set(servicesGauge, float64(len(services)))
	states := map[discovery.State]int{}
	for _, s := range services {
		for state, n := range s.States {
			states[state] += n
		}
	}
	count(g, instancesGauge, states)
	rules, revision := m.api.Catalog.Rules(catalog.Filter{})
	kinds := map[rule.Kind]int{}
	for _, r := range rules {
		kinds[r.Kind]++
	}
	count(g, rulesGauge, kinds)
	aliases, _ := m.api.Catalog.Aliases("")
	g.set(aliasesGauge, float64(len(aliases)))
	g.set(revisionGauge, float64(revision.Number))
}

func (m content) sessions(g gauges) {
	clients := m.api.Sessions.Clients()
	g.set(sessionsGauge, float64(len(clients)))
	behind, nacks := 0, 0
	for _, c := range clients {
		for _, s := range c.Services {
			if s.Acked != s.Latest {
				behind++
			}
			nacks += len(s.Nacks)
		}
	}
	g.set(behindGauge, float64(behind))
	g.set(nacksGauge, float64(nacks))
}

func (m content) server(g gauges) {
	a := m.api
	g.set(watchesGauge, float64(a.watches.count()))
	sets, missing := a.Leases.Protection(), 0
	for _, p := range sets {
		missing += p.Missing
	}
	g.set(protectedGauge, float64(len(sets)))
	g.set(missingGauge, float64(missing))
	st := a.StoreStatus()
	g.set(bytesGauge, float64(st.Bytes))
	g.set(writableGauge, map[bool]float64{true: 1}[st.State == "ok"])
	roles := map[access.Role]int{}
	for _, t := range a.Access.List() {
		roles[t.Role]++
	}
	count(g, tokensGauge, roles)
	for name, l := range a.lanes {
		g.set(runningGauge, float64(len(l.places)), string(name))
		g.set(waitingGauge, float64(l.queued.Load()), string(name))
	}
	var backup float64
	if at := a.lastBackup(); !at.IsZero() {
		backup = float64(at.Unix())
	}
	g.set(backupGauge, backup)
}
