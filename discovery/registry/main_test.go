package registry

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session/sessiontest"
	"github.com/weftmesh/weft/rule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const product = "product.shop"

// world is a registry and what a test has of it.
type world struct {
	*testing.T
	server *sessiontest.Server
	dir    string
	log    *record
}

// bubble runs a test on virtual time. The server is not started.
func bubble(t *testing.T, test func(*testing.T, *world)) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, server: sessiontest.New(7), dir: dir, log: &record{}}
		test(t, w)
		w.server.Stop()
	})
}

// source opens a source with a cache; the caller closes it.
func (w *world) source() *Source {
	opts, err := Options{Service: "web", Namespace: "shop", CacheDir: w.dir, Logger: slog.New(slog.NewTextHandler(w.log, nil))}.complete()
	if err != nil {
		w.Fatal(err)
	}
	return open(opts, w.server.Endpoint, w.server.Dial)
}

func (w *world) close(s *Source) {
	w.Helper()
	if err := s.Close(); err != nil {
		w.Errorf("Close: %v", err)
	}
}

// warm fills the cache with product a and b, and one rule, at revision 7-5.
func (w *world) warm() {
	w.Helper()
	w.server.Start()
	w.server.Push(snapshot(5, retry("r", 2), "a", "b"))
	s := w.source()
	seen := w.watch(s)
	settle(time.Second)
	w.close(s)
	w.server.Stop()
	w.wantSeen(seen, "rules r=2", "7-5 a b")
}

// watch records what a source delivers of the product, in order and with the time.
func (w *world) watch(s *Source) *record {
	r := &record{start: time.Now()}
	ctx := w.Context()
	go s.WatchRules(ctx, []string{product}, r.rules)
	synctest.Wait()
	go s.Watch(ctx, product, r.snapshot)
	synctest.Wait()
	return r
}

func (w *world) wantSeen(r *record, want ...string) {
	w.Helper()
	if got := r.take(); fmt.Sprint(got) != fmt.Sprint(want) {
		w.Errorf("seen %q, want %q", got, want)
	}
}

func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// record notes deliveries, and log lines.
type record struct {
	mu     sync.Mutex
	start  time.Time
	last   time.Duration // when the last delivery was
	seen   []string
	refuse []rule.Nack
	text   strings.Builder
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) count(s string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.text.String(), s)
}

func (r *record) add(s string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, s)
	r.last = time.Since(r.start)
}

func (r *record) snapshot(s discovery.Snapshot) {
	text := []string{s.Revision.String()}
	for _, in := range s.Instances {
		text = append(text, in.ID)
	}
	for _, gone := range s.Removed {
		text = append(text, "-"+gone.ID+":"+string(gone.Reason))
	}
	if s.Stale {
		text = append(text, "stale")
	}
	if s.Missing {
		text = append(text, "missing")
	}
	r.add(strings.Join(text, " "))
}

func (r *record) rules(rules []rule.Rule) []rule.Nack {
	text := []string{"rules"}
	for _, one := range rules {
		text = append(text, fmt.Sprintf("%s=%d", one.Name, one.Spec.(*rule.Retry).Attempts))
	}
	r.add(strings.Join(text, " "))
	return r.refuse
}

func (r *record) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer func() { r.seen = nil }()
	return r.seen
}

// delivered says when the last delivery was, since the start.
func (r *record) delivered() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last
}

func wire(ids ...string) (out []*weftv1.Instance) {
	for _, id := range ids {
		out = append(out, &weftv1.Instance{Id: id, Service: "product", Namespace: "shop", Address: "10.0.0.1:80", Protocol: "http", State: "up"})
	}
	return out
}

func retry(name string, attempts int) string {
	return fmt.Sprintf(`{"kind":"Retry","namespace":"shop","name":%q,"service":"product","spec":{"attempts":%d},"revision":"7-%d"}`, name, attempts, attempts)
}

func snapshot(revision uint64, rules string, ids ...string) *weftv1.Update {
	u := &weftv1.Update{Service: product, Revision: revision, Snapshot: true, Instances: wire(ids...), HasRules: true}
	if rules != "" {
		u.Rules = [][]byte{[]byte(rules)}
	}
	return u
}
