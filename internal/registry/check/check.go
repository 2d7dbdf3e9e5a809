// Package check asks instances whether they are alive, besides what their leases say: it connects to them (tcp), GETs
// a path (http: a status of 200 to 399 is well) or calls grpc.health.v1 (grpc: SERVING is well). An instance that
// fails a number of times in a row is told to the catalog as unhealthy, and as healthy again after one success.
//
//	checker := check.New(cat, check.Options{Enabled: true, Allow: prefixes, Own: listeners, Log: log})
//	defer checker.Close()
//
// It is off unless the server is started with it, since whoever may register an instance chooses where the server
// connects to. For the same reason it never connects to loopback, link-local, multicast or unspecified addresses, to
// the metadata services of clouds or to the server's own listeners, unless a prefix allows them. That is judged
// on the address of the very connection, after names are resolved. Redirects are not followed and no proxy is used. A
// check that may not be made says nothing: the instance keeps its state, and a line in the log tells why.
//
// At most 64 checks run at once. An instance that speaks TLS is asked over TLS, but not who it is.
package check

import (
	"container/heap"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// Source is the part of the catalog that is needed here.
type Source interface {
	Checked() []catalog.Checked
	Subscribe(fn func(services []discovery.Name)) (cancel func())
	SetChecked(unhealthy map[catalog.InstanceKey]bool)
}

// Options are those of [New].
type Options struct {
	Enabled bool             // false: nothing is checked, and nothing is started
	Allow   []netip.Prefix   // may be connected to, whatever else is said
	Own     []netip.AddrPort // the server's listeners; an unspecified address stands for all of this host
	Log     *slog.Logger     // nil for nothing
}

// maxRunning bounds the checks that run at the same moment.
const maxRunning = 64

// refreshEvery is how often at most the set of checked instances is read again when the catalog changes.
const refreshEvery = time.Second

// Checker is made by [New].
type Checker struct {
	src     Source
	log     *slog.Logger
	probe   func(context.Context, catalog.Checked) error
	changed chan struct{} // holds one: the catalog changed
	results chan result   // has room for every check that runs
	stop    context.CancelFunc
	wg      sync.WaitGroup // run, and the checks

	// Only run uses what follows.
	targets  map[catalog.InstanceKey]*target
	queue    queue // of the targets that wait for their next check
	running  int
	readNext time.Time // when the set may be read again
	stale    bool      // it has to be
}

// result is what came of one check.
type result struct {
	target *target
	err    error
}

// New starts checking if that is enabled. Close it before the source.
func New(src Source, opt Options) *Checker {
	p := newProber(opt)
	return start(src, opt, p.probe)
}

func start(src Source, opt Options, probe func(context.Context, catalog.Checked) error) *Checker {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &Checker{
		src:     src,
		log:     opt.Log,
		probe:   probe,
		changed: make(chan struct{}, 1),
		results: make(chan result, maxRunning),
		stop:    stop,
		targets: make(map[catalog.InstanceKey]*target),
	}
	if opt.Enabled {
		c.changed <- struct{}{}
		cancel := src.Subscribe(func([]discovery.Name) { c.wake() })
		c.wg.Go(func() {
			defer cancel()
			c.run(ctx)
		})
	}
	return c
}

// Close stops the checks that run and waits for them. What they found stays in the source. It is idempotent.
func (c *Checker) Close() {
	c.stop()
	c.wg.Wait()
}

func (c *Checker) wake() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *Checker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.changed:
			c.stale = true
		case r := <-c.results:
			c.settle(r)
		case <-timer.C:
		}
		now := time.Now()
		if c.stale && !now.Before(c.readNext) {
			c.refresh(now)
		}
		c.launch(ctx, now)
		if next, ok := c.next(); ok {
			timer.Reset(time.Until(next))
		}
	}
}

// next says when there is something to do even if nothing happens.
func (c *Checker) next() (at time.Time, ok bool) {
	if c.stale {
		at, ok = c.readNext, true
	}
	if c.running < maxRunning && len(c.queue) > 0 && (!ok || c.queue[0].due.Before(at)) {
		at, ok = c.queue[0].due, true
	}
	return at, ok
}

// refresh takes over what has changed of the set of checked instances.
func (c *Checker) refresh(now time.Time) {
	c.stale, c.readNext = false, now.Add(refreshEvery)
	tell := make(map[catalog.InstanceKey]bool)
	there := make(map[catalog.InstanceKey]struct{}, len(c.targets))
	for _, checked := range c.src.Checked() {
		there[checked.InstanceKey] = struct{}{}
		old := c.targets[checked.InstanceKey]
		if old != nil && old.same(checked) {
			old.Instance = checked.Instance
			continue
		}
		if old != nil {
			c.drop(old, tell)
		}
		c.add(newTarget(checked, now))
	}
	for key, t := range c.targets {
		if _, ok := there[key]; !ok {
			c.drop(t, tell)
		}
	}
	c.tell(tell)
}

func (c *Checker) add(t *target) {
	c.targets[t.InstanceKey] = t
	heap.Push(&c.queue, t)
}

// drop forgets a target. An instance that is still there is not to be held for what was found before.
func (c *Checker) drop(t *target, tell map[catalog.InstanceKey]bool) {
	delete(c.targets, t.InstanceKey)
	if t.index >= 0 {
		heap.Remove(&c.queue, t.index)
	}
	if t.unhealthy {
		tell[t.InstanceKey] = false
	}
}

// launch starts the checks that are due, as far as there is room.
func (c *Checker) launch(ctx context.Context, now time.Time) {
	for c.running < maxRunning && len(c.queue) > 0 && !c.queue[0].due.After(now) {
		t := heap.Pop(&c.queue).(*target)
		t.again(now)
		c.running++
		checked := t.Checked
		c.wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, checked.Check.Timeout)
			defer cancel()
			c.results <- result{t, c.probe(ctx, checked)}
		})
	}
}

// settle takes the result of a check, and those of others that ended meanwhile. Before one of them is told, what the
// catalog said last is looked at: the instance may have been replaced.
func (c *Checker) settle(first result) {
	results := []result{first}
	for len(c.results) > 0 {
		results = append(results, <-c.results)
	}
	c.running -= len(results)
	tells := func(r result) bool { return r.target.tells(r.err) }
	if c.stale = c.stale || len(c.changed) > 0; c.stale && slices.ContainsFunc(results, tells) {
		c.refresh(time.Now())
	}
	tell := make(map[catalog.InstanceKey]bool)
	for _, r := range results {
		if c.targets[r.target.InstanceKey] == r.target { // or else it was removed or replaced while it was asked
			c.judge(r.target, r.err, tell)
			heap.Push(&c.queue, r.target)
		}
	}
	c.tell(tell)
}

func (c *Checker) judge(t *target, err error, tell map[catalog.InstanceKey]bool) {
	var denied *deniedError
	if errors.As(err, &denied) {
		if !t.denied {
			c.log.Warn("check: the instance is not checked", "service", t.Service.String(), "id", t.ID, "reason", denied)
		}
		t.denied = true
		return
	}
	if t.tells(err) {
		tell[t.InstanceKey] = err != nil
	}
	if !t.judge(err) {
		return
	}
	if t.unhealthy {
		c.log.Warn("check: the instance is unhealthy", "service", t.Service.String(), "id", t.ID, "failures", t.failures, "error", err)
	} else {
		c.log.Info("check: the instance is healthy again", "service", t.Service.String(), "id", t.ID)
	}
}

func (c *Checker) tell(unhealthy map[catalog.InstanceKey]bool) {
	if len(unhealthy) > 0 {
		c.src.SetChecked(unhealthy)
	}
}
