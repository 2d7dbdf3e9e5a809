//go:build linux

package faults

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
	sdk "github.com/weftmesh/weft/discovery/registry"
)

// sessionTTL is the silence after which the registry of these tests finds an instance suspect. It is removed after 30/7
// of it.
func sessionTTL() time.Duration {
	if full() {
		return 7 * time.Second
	}
	return time.Second
}

// lifetime is the silence after which an instance is removed.
func lifetime() time.Duration { return sessionTTL() * 30 / 7 }

// Healthy instances outlast what happens to the registry and to the network: the registry stopped for four lifetimes,
// killed and started, its clock a year ahead, 30 % of the processes cut off, all of them cut off. Each of them is never
// missed by a watcher, nor called unhealthy.
func TestNoHealthyInstanceIsRemoved(t *testing.T) {
	r := newTimedRegistry(t)
	f := newCrowd(t, r, 20)
	w := f.watch(t)
	calm := func(what string, d time.Duration) {
		t.Helper()
		time.Sleep(d)
		if wrong := w.wrong(); wrong != "" {
			t.Fatalf("%s: %s", what, wrong)
		}
	}
	eventually(t, "all are up", 20*time.Second, f.allUp)

	r.signal(syscall.SIGSTOP)
	time.Sleep(4 * lifetime())
	r.signal(syscall.SIGCONT)
	calm("stopped for four lifetimes", lifetime())
	eventually(t, "all are up after the stop", 20*time.Second, f.allUp)

	r.kill()
	calm("killed", lifetime())
	r.start(t)
	calm("started again", lifetime())
	eventually(t, "all are up after the start", 20*time.Second, f.allUp)

	r.jump(t)
	calm("a year later", lifetime())
	eventually(t, "all are up a year later", 20*time.Second, f.allUp)

	f.some.cut()
	calm("30 % are cut off", 2*lifetime())
	f.rest.cut()
	calm("all are cut off", 2*lifetime())
	f.some.restore(t)
	f.rest.restore(t)
	eventually(t, "all are up at last", 30*time.Second, f.allUp)
	calm("the end", 0)
}

// Control: few enough that fall silent are removed, and the same watcher sees it.
func TestADeadInstanceIsRemoved(t *testing.T) {
	r := newTimedRegistry(t)
	f := newCrowd(t, r, 20)
	w := f.watch(t)
	eventually(t, "all are up", 20*time.Second, f.allUp)
	f.members[0].cut()
	eventually(t, "it is gone", 5*lifetime(), func() error {
		return errorUnless(strings.Contains(w.wrong(), f.members[0].id), "all are there")
	})
}

// crowd is processes with one instance each of the service crowd. 30 % of them reach the registry by one proxy, the
// others by another.
type crowd struct {
	r          *registry
	some, rest *proxy
	members    []*member
}

// member is one process.
type member struct {
	id     string
	source *sdk.Source
	own    *proxy
}

// cut lets the member alone fall silent.
func (m *member) cut() { m.own.cut() }

func newCrowd(t *testing.T, r *registry, n int) *crowd {
	f := &crowd{r: r, some: newProxy(t, r, 0), rest: newProxy(t, r, 0)}
	own := newProxy(t, r, 0)
	for i := range n {
		via := f.rest
		switch {
		case i == 0:
			via = own
		case i <= n*3/10:
			via = f.some
		}
		f.members = append(f.members, f.join(t, via, own, fmt.Sprintf("c%02d", i)))
	}
	return f
}

func (f *crowd) join(t *testing.T, via, own *proxy, id string) *member {
	t.Helper()
	source := via.open(t, "crowd")
	_, err := source.Register(t.Context(), discovery.Instance{ID: id, Address: "127.0.0.1:9", Protocol: discovery.GRPC})
	if err != nil {
		t.Fatal(err)
	}
	return &member{id, source, own}
}

func (f *crowd) allUp() error {
	states, err := f.r.states(context.Background(), "crowd")
	if err != nil {
		return err
	}
	for _, m := range f.members {
		if states[m.id] != discovery.Up {
			return fmt.Errorf("states are %v", states)
		}
	}
	return nil
}

// vigil watches the crowd as a caller does, and remembers what a healthy instance must never be.
type vigil struct {
	mu    sync.Mutex
	ids   []string
	full  bool // all were there once
	fault string
}

func (f *crowd) watch(t *testing.T) *vigil {
	t.Helper()
	source, err := sdk.New(sdk.Options{Addrs: []string{f.r.grpc}})
	if err != nil {
		t.Fatal(err)
	}
	w := &vigil{}
	for _, m := range f.members {
		w.ids = append(w.ids, m.id)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		source.Watch(ctx, "crowd.default", w.apply)
	}()
	t.Cleanup(func() { cancel(); <-ended; source.Close() })
	eventually(t, "the watcher sees all", 20*time.Second, func() error {
		w.mu.Lock()
		defer w.mu.Unlock()
		return errorUnless(w.full, "not yet")
	})
	return w
}

func (w *vigil) apply(s discovery.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	states := map[string]discovery.State{}
	for _, in := range s.Instances {
		states[in.ID] = in.State
	}
	var fault string
	for _, id := range w.ids {
		if state := states[id]; state != discovery.Up && state != discovery.Suspect {
			fault = fmt.Sprintf("%s is %q at %s", id, state, s.Revision)
		}
	}
	w.full = w.full || fault == ""
	if w.full && w.fault == "" {
		w.fault = fault
	}
}

func (w *vigil) wrong() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fault
}
