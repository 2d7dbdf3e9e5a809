//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	pb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// workers is how many make each kind of call over each protocol: as many calls can be under way at once.
const workers = 4

// patience is the deadline of each call.
const patience = 3 * time.Second

// caller is a process of the mesh that calls product; it is this one.
type caller struct {
	mesh *weft.Mesh
	grpc pb.TestServiceClient
	http *http.Client
}

func newCaller(t *testing.T, r *registry, rules string) *caller {
	t.Helper()
	return newCallerWith(t, rules, weft.WithRegistry(r.grpc))
}

func newCallerWith(t *testing.T, rules string, options ...weft.Option) *caller {
	t.Helper()
	parsed, err := rule.Parse([]byte(rules))
	if err != nil {
		t.Fatal(err)
	}
	m, err := weft.New(append(options, weft.WithService("web"), weft.WithCacheDir(""), weft.WithRules(parsed...))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })
	conn, err := grpc.NewClient("weft:///product", m.DialOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &caller{m, pb.NewTestServiceClient(conn), &http.Client{Transport: m.Transport(nil)}}
}

// kinds of calls.
var kinds = []kind{{"grpc", true}, {"http", true}, {"grpc", false}, {"http", false}}

type kind struct {
	via  string
	read bool // may be repeated
}

func (c *caller) call(ctx context.Context, k kind) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if k.via == "grpc" {
		if k.read {
			ctx = weft.With(ctx, weft.Idempotent())
		}
		_, err := c.grpc.EmptyCall(ctx, &pb.Empty{})
		return err
	}
	method := http.MethodPost
	if k.read {
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://product/", nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, errorUnless(resp.StatusCode == http.StatusOK, "status %s", resp.Status))
}

// tally counts calls of one kind.
type tally struct {
	made, failed int
	first        error
	last         time.Time // when the last one failed
}

func (t tally) String() string {
	if t.failed == 0 {
		return fmt.Sprintf("%d calls, 0 failed", t.made)
	}
	return fmt.Sprintf("%d calls, %d failed, the first with: %v", t.made, t.failed, t.first)
}

// load is calls of all kinds, without a pause, until stop.
type load struct {
	quit chan struct{}
	wg   sync.WaitGroup
	mu   sync.Mutex
	by   map[kind]tally
}

// load begins once every kind of call has succeeded.
func (c *caller) load(t *testing.T) *load {
	t.Helper()
	return c.loadOf(t, workers, 0)
}

// loadOf is load with so many workers for each kind of call, each of which pauses between its calls.
func (c *caller) loadOf(t *testing.T, workers int, pause time.Duration) *load {
	t.Helper()
	for _, k := range kinds {
		eventually(t, "calls succeed", 10*time.Second, func() error { return c.call(t.Context(), k) })
	}
	l := &load{quit: make(chan struct{}), by: map[kind]tally{}}
	for _, k := range kinds {
		for range workers {
			l.wg.Go(func() { l.work(c, k, pause) })
		}
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) work(c *caller, k kind, pause time.Duration) {
	for {
		select {
		case <-l.quit:
			return
		case <-time.After(pause):
			l.count(k, c.call(context.Background(), k))
		}
	}
}

func (l *load) count(k kind, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.by[k]
	n.made++
	if err != nil {
		n.last = time.Now()
		if n.failed++; n.first == nil {
			n.first = err
		}
	}
	l.by[k] = n
}

// made is how many calls there were.
func (l *load) made() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.by {
		n += t.made
	}
	return n
}

// end is idempotent.
func (l *load) end() {
	select {
	case <-l.quit:
	default:
		close(l.quit)
	}
	l.wg.Wait()
}

// stop ends the load and returns what came of reads and of orders.
func (l *load) stop() (reads, orders tally) {
	l.end()
	for k, n := range l.by {
		sum := &orders
		if k.read {
			sum = &reads
		}
		sum.made, sum.failed = sum.made+n.made, sum.failed+n.failed
		if sum.first == nil {
			sum.first = n.first
		}
		if n.last.After(sum.last) {
			sum.last = n.last
		}
	}
	return reads, orders
}

// watch follows what the caller knows of product: whether all wanted instances were there, and what was left when
// one of them was gone again for the first time.
type watch struct {
	mu     sync.Mutex
	wanted []string
	latest []string
	seen   bool
	lacked []string
}

func (c *caller) watch(t *testing.T, wanted ...string) *watch {
	t.Helper()
	w := &watch{wanted: wanted}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.mesh.Watch(ctx, "product", w.apply)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	eventually(t, "the caller knows all instances", 10*time.Second, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return errorUnless(w.seen, "it knows %v", w.latest)
	})
	return w
}

func (w *watch) apply(s discovery.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.latest = nil
	for _, in := range s.Instances {
		w.latest = append(w.latest, in.ID)
	}
	all := !slices.ContainsFunc(w.wanted, func(id string) bool { return !slices.Contains(w.latest, id) })
	switch {
	case all:
		w.seen = true
	case w.seen && w.lacked == nil:
		w.lacked = slices.Clone(w.latest)
	}
}

// everLacked returns the first snapshot that lacked a wanted instance, nil if none did.
func (w *watch) everLacked() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lacked
}
