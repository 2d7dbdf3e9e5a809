package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// perProcess is how many instances each of the few processes has that fill the registry.
const perProcess = 1000

// fleet is all instances, by process. Names are those of a real fleet: random, so that nothing comes in order.
type fleet struct {
	processes []string
	ids       [][]string
	services  int
}

func newFleet(instances, services int) *fleet {
	f := &fleet{services: services}
	for range instances / perProcess {
		f.processes = append(f.processes, fmt.Sprintf("%016x", rand.Uint64()))
		ids := make([]string, perProcess)
		for i := range ids {
			ids[i] = fmt.Sprintf("%016x", rand.Uint64())
		}
		f.ids = append(f.ids, ids)
	}
	return f
}

func (f *fleet) service(process, i int) string {
	return fmt.Sprintf("service-%d", (process*perProcess+i)%f.services)
}

// attendance is the fleet's sessions with one server, which are kept alive until leave.
type attendance struct {
	*fleet
	sessions []*session
	stop     context.CancelFunc
	stopped  chan struct{}
}

// join connects and registers all.
func (f *fleet) join(t *testing.T, w *weft) *attendance {
	t.Helper()
	a := &attendance{fleet: f, stopped: make(chan struct{})}
	a.sessions = connectMany(t, len(f.processes), func(p int) (*session, error) {
		return w.connect(t.Context(), f.processes[p], fmt.Sprintf("p%d", p))
	})
	a.each(t, func(p int) error {
		for part := range slices.Chunk(f.all(a.sessions[p], p), 200) {
			if err := a.sessions[p].register(part...); err != nil {
				return err
			}
		}
		return nil
	})
	ctx, cancel := context.WithCancel(t.Context())
	a.stop = cancel
	go a.beat(ctx)
	return a
}

func (f *fleet) all(s *session, p int) (list []*weftv1.Instance) {
	for i, id := range f.ids[p] {
		list = append(list, s.instance(f.service(p, i), id, 0))
	}
	return list
}

func (a *attendance) each(t *testing.T, do func(p int) error) {
	t.Helper()
	if err := inParallel(16, len(a.sessions), do); err != nil {
		t.Fatal(err)
	}
}

func (a *attendance) beat(ctx context.Context) {
	defer close(a.stopped)
	for {
		for _, s := range a.sessions {
			if s.renew() != nil {
				return
			}
		}
		select {
		case <-time.After(4 * time.Second):
		case <-ctx.Done():
			return
		}
	}
}

func (a *attendance) leave() {
	a.stop()
	<-a.stopped
	closeAll(a.sessions)
}

// churn changes instances, and takes away and brings back every tenth that it meets.
func (a *attendance) churn(t *testing.T, writes int) {
	t.Helper()
	a.stop()
	<-a.stopped                                                             // a session has one sender
	err := inParallel(len(a.sessions), len(a.sessions), func(p int) error { // all at once: none falls silent meanwhile
		s, renewed := a.sessions[p], time.Now()
		for range writes / len(a.sessions) / batch {
			some := make([]*weftv1.Instance, batch)
			var gone []string
			for j := range some {
				i := rand.IntN(perProcess)
				some[j] = s.instance(a.service(p, i), a.ids[p][i], rand.IntN(1e9))
				if j%10 == 0 {
					gone = append(gone, a.ids[p][i])
				}
			}
			if err := errors.Join(s.deregister(gone...), s.register(some...)); err != nil {
				return err
			}
			if time.Since(renewed) > 4*time.Second {
				renewed = time.Now()
				if err := s.renew(); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a.stop, a.stopped = cancel, make(chan struct{})
	go a.beat(ctx)
}

// instanceCount sums the metric up.
func (w *weft) instanceCount(t *testing.T) (sum int) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.http+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.admin)
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var n float64
		if _, value, ok := bytes.Cut(line, []byte("} ")); ok && bytes.HasPrefix(line, []byte("weft_registry_instances{")) {
			if _, err := fmt.Sscan(string(value), &n); err != nil {
				t.Fatal(err)
			}
			sum += int(n)
		}
	}
	return sum
}

// rest is how long a server is left alone before its memory is looked at: ours gives back what lies about when it was
// quiet for a second.
func rest() time.Duration { return pick(5*time.Second, 2*time.Second, 0) }

// Memory and restarts with many instances, before and after much churn, beside etcd.
func TestFootprint(t *testing.T) {
	instances, services := pick(100_000, 5_000, 1_000), pick(500, 50, 10)
	tb := newTable("server", "after", "ready in", "anonymous", "resident", "on disk")
	w := newWeft(t, false)
	var worst memory // after a start
	live := 0        // anonymous, with the sessions of all
	var slowest time.Duration
	line := func(after string, ready time.Duration, held bool) {
		if n := w.instanceCount(t); n != instances {
			t.Errorf("%s: %d instances, want %d", after, n, instances)
		}
		time.Sleep(rest())
		m := w.memory(t)
		tb.add("weft", after, readyIn(ready), mib(m.anonymous), mib(m.resident), mib(int(dropCache(t, w.dir))))
		if !held {
			live = max(live, m.anonymous)
		}
		if held {
			worst = memory{max(worst.anonymous, m.anonymous), max(worst.resident, m.resident)}
			slowest = max(slowest, ready)
		}
	}
	f := newFleet(instances, services)
	for _, stage := range []string{"registration", "churn"} {
		a := f.join(t, w)
		if stage == "churn" {
			a.churn(t, pick(360_000, 20_000, 1_000)) // an hour of 100 changes a second
		}
		line(stage, 0, false)
		a.leave()
		w.stop(t)
		dropCache(t, w.dir)
		line(stage+", stop, cold start", w.start(t), true)
		w.kill()
		dropCache(t, w.dir)
		line(stage+", kill -9, cold start", w.start(t), true)
	}
	if wanted() != smoke {
		footprintOfEtcd(t, tb, f)
	}
	tb.print(t, fmt.Sprintf("%d instances in %d services", instances, services))
	atMost(t, "MiB of anonymous memory, live", float64(live)/(1<<20), 100, 50)
	// The small run has a twentieth of the instances, and 25 MiB are usual: these are bounds of the server itself.
	atMost(t, "MiB of anonymous memory after a start", float64(worst.anonymous)/(1<<20), 50, 50)
	atMost(t, "MiB of resident memory after a start", float64(worst.resident)/(1<<20), 100, 100)
	atMost(t, "seconds from a start to ready", slowest.Seconds(), 0.5, 2) // 0.1 s are usual
}

func readyIn(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return millis(d)
}

func footprintOfEtcd(t *testing.T, tb *table, f *fleet) {
	t.Helper()
	e := newEtcd(t, false)
	line := func(after string, ready time.Duration) {
		time.Sleep(rest() / 4)
		m := e.memory(t)
		tb.add("etcd", after, readyIn(ready), mib(m.anonymous), mib(m.resident), mib(int(dropCache(t, e.dir))))
	}
	client := e.connect(t, 1)[0]
	shared, err := grant(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	err = inParallel(16, len(f.processes), func(p int) error {
		for part := range slices.Chunk(f.ids[p], 100) {
			ops := make([]clientv3.Op, len(part))
			for i, id := range part {
				ops[i] = clientv3.OpPut(etcdKey(f.service(p, i), id), etcdValue(id, 0), clientv3.WithLease(shared))
			}
			if _, err := client.Txn(t.Context()).Then(ops...).Commit(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	line("registration", 0)
	e.stop(t)
	dropCache(t, e.dir)
	line("registration, stop, cold start", e.start(t))
	e.kill()
	dropCache(t, e.dir)
	line("registration, kill -9, cold start", e.start(t))
}
