package server

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// commitMetrics count the commits of a store.
type commitMetrics struct {
	seconds prometheus.Histogram
	writes  prometheus.Counter
}

func newCommitMetrics() *commitMetrics {
	return &commitMetrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "weft_registry_commit_seconds",
			Help: "How long commits took until they were on disk.", Buckets: prometheus.ExponentialBuckets(0.00025, 4, 8)}),
		writes: prometheus.NewCounter(prometheus.CounterOpts{Name: "weft_registry_commit_writes_total",
			Help: "Keys that were written; many share a commit."}),
	}
}

func (m *commitMetrics) observe(took time.Duration, writes int) {
	m.seconds.Observe(took.Seconds())
	m.writes.Add(float64(writes))
}

// Describe implements [prometheus.Collector].
func (m *commitMetrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect implements [prometheus.Collector].
func (m *commitMetrics) Collect(ch chan<- prometheus.Metric) {
	m.seconds.Collect(ch)
	m.writes.Collect(ch)
}

// traffic collects what the rooms count themselves.
type traffic struct{ rooms *rooms }

// Describe implements [prometheus.Collector].
func (t traffic) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range t.counts() {
		ch <- c.desc()
	}
}

// Collect implements [prometheus.Collector].
func (t traffic) Collect(ch chan<- prometheus.Metric) {
	for _, c := range t.counts() {
		ch <- prometheus.MustNewConstMetric(c.desc(), c.kind, c.value)
	}
}

// measure is one metric.
type measure struct {
	name, help string
	kind       prometheus.ValueType
	value      float64
}

func (c measure) desc() *prometheus.Desc { return prometheus.NewDesc(c.name, c.help, nil, nil) }

func (t traffic) counts() []measure {
	sent := t.rooms.sessions.Traffic()
	var syncs uint64
	if s, ok := t.rooms.store.Store.(interface{ Syncs() uint64 }); ok { // one in memory has none
		syncs = s.Syncs()
	}
	return []measure{
		{"weft_registry_syncs_total", "Syncs to disk by commits.", prometheus.CounterValue, float64(syncs)},
		{"weft_registry_writes_waiting", "Writes that wait for a commit.", prometheus.GaugeValue, float64(t.rooms.catalog.Waiting())},
		{"weft_registry_pushes_total", "Messages of updates that were sent to sessions.", prometheus.CounterValue, float64(sent.Pushes)},
		{"weft_registry_push_bytes_total", "Bytes of those.", prometheus.CounterValue, float64(sent.PushBytes)},
		{"weft_registry_evictions_total", "Sessions that were ended because they did not take their updates.", prometheus.CounterValue, float64(sent.Evictions)},
	}
}
