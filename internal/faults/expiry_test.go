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

// Healthy instances outlast what happens to the registry and to the network: none of them is ever missed by a watcher, nor
// called unhealthy, and no call fails, of a caller that repeats none.
func TestNoHealthyInstanceIsRemoved(t *testing.T) {
	if !proving() {
		t.Skip("it takes a minute: WEFT_PROVE=ci")
	}
	for what, happens := range map[string]func(t *testing.T, f *crowd){
		"the registry stands still for four lifetimes": func(_ *testing.T, f *crowd) {
			f.r.signal(syscall.SIGSTOP)
			time.Sleep(4 * lifetime())
			f.r.signal(syscall.SIGCONT)
			time.Sleep(lifetime())
		},
		"the registry is killed and started": func(t *testing.T, f *crowd) {
			f.r.kill()
			time.Sleep(lifetime())
			f.r.start(t)
			time.Sleep(lifetime())
		},
		"the clock jumps a year ahead": func(t *testing.T, f *crowd) {
			f.r.jump(t)
			time.Sleep(lifetime())
		},
		"30 % and then all are cut off": func(t *testing.T, f *crowd) {
			f.some.cut()
			time.Sleep(2 * lifetime())
			f.rest.cut()
			time.Sleep(2 * lifetime())
			f.some.restore(t)
			f.rest.restore(t)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := newCrowd(t)
			l := f.rest.caller(t, "").loadOf(t, 1, 5*time.Millisecond)
			happens(t, f)
			eventually(t, "all are up at last", 30*time.Second, f.allUp)
			if wrong := f.vigil.wrong(); wrong != "" {
				t.Error(wrong)
			}
			reads, orders := l.stop()
			t.Logf("reads: %s; orders: %s", reads, orders)
			if reads.failed+orders.failed > 0 {
				t.Errorf("reads: %s; orders: %s", reads, orders)
			}
		})
	}
}

// Control: few enough that fall silent are removed, and the same watcher sees it.
func TestADeadInstanceIsRemoved(t *testing.T) {
	if !proving() {
		t.Skip("it belongs to the above")
	}
	t.Parallel()
	f := newCrowd(t)
	f.one.cut()
	eventually(t, "it is gone", 5*lifetime(), func() error {
		return errorUnless(strings.Contains(f.vigil.wrong(), "one0-"), "all are there")
	})
}

// crowd is 20 meshes with two instances of product each. 30 % of them reach the registry by one proxy, the others by
// another but for one that has a proxy of its own.
type crowd struct {
	r               *registry
	some, rest, one *proxy
	ids             []string
	vigil           *vigil
}

func newCrowd(t *testing.T) *crowd {
	t.Helper()
	f := &crowd{r: newTimedRegistry(t)}
	f.some, f.rest, f.one = newProxy(t, f.r, 0), newProxy(t, f.r, 0), newProxy(t, f.r, 0)
	f.join(t, f.some, "some", 6)
	f.join(t, f.rest, "rest", 13)
	f.join(t, f.one, "one", 1)
	eventually(t, "all are up", 60*time.Second, f.allUp)
	f.watch(t)
	return f
}

func (f *crowd) join(t *testing.T, by *proxy, name string, n int) {
	t.Helper()
	spawnProducts(t, f.r, fmt.Sprintf("%s:%d", name, n), "WEFT_REGISTRY="+by.addr, "WEFT_PIN="+by.Pin, "WEFT_TOKEN="+by.Token)
	for i := range n {
		f.ids = append(f.ids, fmt.Sprintf("%s%d-grpc", name, i), fmt.Sprintf("%s%d-http", name, i))
	}
}

func (f *crowd) allUp() error {
	states, err := f.r.states(context.Background(), "product")
	if err != nil {
		return err
	}
	for _, id := range f.ids {
		if states[id] != discovery.Up {
			return fmt.Errorf("%s is %q: states are %v", id, states[id], states)
		}
	}
	return nil
}

// watch watches the crowd as a caller does.
func (f *crowd) watch(t *testing.T) {
	t.Helper()
	source, err := sdk.New(sdk.Options{Addrs: []string{f.r.grpc}})
	if err != nil {
		t.Fatal(err)
	}
	f.vigil = &vigil{ids: f.ids}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		source.Watch(ctx, "product.default", f.vigil.apply)
	}()
	t.Cleanup(func() { cancel(); <-ended; source.Close() })
	eventually(t, "the watcher sees all", 20*time.Second, func() error {
		return errorUnless(f.vigil.sawAll(), "not yet")
	})
}

// vigil remembers what a healthy instance must never be.
type vigil struct {
	mu    sync.Mutex
	ids   []string
	all   bool // were there once
	fault string
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
	w.all = w.all || fault == ""
	if w.all && w.fault == "" {
		w.fault = fault
	}
}

func (w *vigil) sawAll() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all
}

func (w *vigil) wrong() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.fault
}
