// Package catalog is the registry's memory: every instance, rule and alias, by service, at one revision counter.
// It is rebuilt from a store when it opens, and what a write returned for is in the store.
//
//	c, err := catalog.Open(st, log)
//	…
//	rev, err := c.PutInstances(ctx, []discovery.Instance{{
//		ID: "p1", Service: "product", Namespace: "shop", Address: "10.0.0.7:8080", Protocol: discovery.HTTP,
//	}})
//	instances, rev := c.Instances(discovery.Name{Service: "product", Namespace: "shop"})
//	cancel := c.Subscribe(func(changed []discovery.Name) { … })
//	update := c.Update(changed[0], known) // what a session that is at the revision known has to be told
//
// Readers see immutable values and wait only while a finished change is swapped in. A rule with service "*" is
// held under the service "*" of its namespace and counts as a change of every service there.
package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// Catalog is made by [Open]. Its methods are safe for concurrent use.
type Catalog struct {
	st        store.Store
	committer *store.Committer
	log       *slog.Logger
	epoch     uint64
	limits    limits
	audit     *audit.Log
	notifier  *notifier
	events    events

	// writing is held while a group of writes is prepared, brought to disk and published, and by changes in
	// memory only: so revisions are published in the order of their numbers. It comes before mu.
	writing sync.Mutex
	draft   *draft // of the group under way
	ceiling uint64 // on disk; revisions up to it may be in use
	broken  bool   // the store takes no more writes
	dead    []discovery.Name
	history history
	targets map[discovery.Name]int // aliases of each service
	drafts  uint64                 // number of the last one
	number  uint64                 // of the newest instance
	resting int                    // orders without an instance
	totals  counts

	// mu guards what readers read. Everything that it leads to is immutable.
	mu       sync.RWMutex
	revision uint64
	forgot   uint64 // the last revision of a service that was forgotten, or that of the start
	services map[discovery.Name]*service
	rules    map[rule.Key]*document
	orders   map[InstanceKey]*order
}

// revisionStep is by how much the ceiling on disk leads the counter. Changes in memory only use up revisions
// too; a server that dies starts above all it may have given out.
const revisionStep = 1 << 20

// maxDead bounds the services that are remembered after their last instance and rule are gone.
const maxDead = 1024

// Open reads the store into memory. The catalog is then its only writer; the store stays open when the catalog
// is closed. log may be nil.
func Open(st store.Store, log *slog.Logger) (*Catalog, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Catalog{
		st:       st,
		log:      log,
		epoch:    st.Epoch(),
		limits:   defaultLimits(),
		notifier: newNotifier(),
		history:  newHistory(),
		services: make(map[discovery.Name]*service),
		rules:    make(map[rule.Key]*document),
		orders:   make(map[InstanceKey]*order),
		targets:  make(map[discovery.Name]int),
	}
	var err error
	if c.audit, err = audit.Open(st); err != nil {
		return nil, err
	}
	if err := c.load(); err != nil {
		return nil, err
	}
	if err := c.saveCeiling(c.revision + revisionStep); err != nil {
		return nil, err
	}
	c.committer = store.NewCommitter(st, group{c})
	c.notifier.start(c.raiseCeiling)
	return c, nil
}

// Close finishes the writes under way and stops. It is idempotent.
func (c *Catalog) Close() error {
	c.committer.Close()
	if !c.notifier.stop() {
		return nil
	}
	// After a clean stop the next start need not leap over the revisions that were set aside.
	c.writing.Lock()
	defer c.writing.Unlock()
	err := c.saveCeiling(c.Revision().Number)
	if errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrBroken) {
		return nil // the ceiling on disk is higher, which is all that matters
	}
	return err
}

// Epoch is the store's.
func (c *Catalog) Epoch() uint64 { return c.epoch }

// Revision is that of the last change.
func (c *Catalog) Revision() discovery.Revision {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.at(c.revision)
}

func (c *Catalog) at(number uint64) discovery.Revision {
	return discovery.Revision{Epoch: c.epoch, Number: number}
}

func (c *Catalog) saveCeiling(ceiling uint64) error {
	err := c.st.Commit([]store.Write{{Key: ceilingKey, Value: binary.BigEndian.AppendUint64(nil, ceiling)}})
	if err == nil {
		c.ceiling = ceiling
	}
	return err
}

// raiseCeiling keeps the ceiling well above the counter when only changes in memory move it.
func (c *Catalog) raiseCeiling() {
	c.writing.Lock()
	low := c.Revision().Number+revisionStep/2 > c.ceiling
	c.writing.Unlock()
	if !low {
		return
	}
	err := c.committer.Do(context.Background(), func(b *store.Batch) error {
		b.At(c.draft.revision)
		c.draft.reserve(b)
		return nil
	})
	if err != nil && !errors.Is(err, store.ErrClosed) {
		c.log.Error("catalog: no new revisions can be set aside", "error", err)
	}
}

// group connects the catalog to its committer.
type group struct{ c *Catalog }

// Begin implements [store.Group].
func (g group) Begin() {
	g.c.writing.Lock()
	g.c.draft = newDraft(g.c)
}

// End implements [store.Group].
func (g group) End(err error) {
	defer g.c.writing.Unlock()
	if err == nil {
		g.c.ceiling = g.c.draft.ceiling
		g.c.publish(g.c.draft)
	} else {
		g.c.failed(err)
	}
	g.c.draft = nil
}

// failed leaves out the numbers of a group that may be on disk all the same. Others are used again: while the disk is
// full, writes that fail would use up those that health needs.
func (c *Catalog) failed(err error) {
	c.log.Error("catalog: a write failed", "error", err)
	if c.broken || errors.Is(err, store.ErrFull) {
		return // nothing was written
	}
	c.broken = errors.Is(err, store.ErrBroken)
	d := newDraft(c)
	d.revision = c.draft.revision
	c.publish(d)
}

// Acked implements [store.Group]: writers are told before watchers are.
func (g group) Acked() { g.c.wake() }

func (c *Catalog) wake() {
	c.events.wake()
	c.notifier.wake()
}

// publish swaps a draft in. The caller holds writing.
func (c *Catalog) publish(d *draft) {
	c.number, c.resting, c.totals = d.number, d.resting, d.totals
	c.history.publish(&d.history)
	for name, n := range d.targets {
		if c.targets[name] += n; c.targets[name] == 0 {
			delete(c.targets, name)
		}
	}
	c.swap(d)
	c.events.add(d.events)
	c.notifier.add(d.changed())
}

func (c *Catalog) swap(d *draft) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.revision = d.revision
	for name, s := range d.services {
		if old := c.services[name]; s.empty() && (old == nil || !old.empty()) && !all(name) {
			c.dead = append(c.dead, name)
		}
		c.services[name] = s
	}
	swapIn(c.rules, d.rules)
	swapIn(c.orders, d.orders)
	c.forget()
}

// swapIn takes over what changed; nil deletes.
func swapIn[K comparable, V any](to, from map[K]*V) {
	for key, v := range from {
		if v == nil {
			delete(to, key)
		} else {
			to[key] = v
		}
	}
}

// forget drops the oldest services of which nothing is left.
func (c *Catalog) forget() {
	for len(c.dead) > maxDead {
		name := c.dead[0]
		c.dead = c.dead[1:]
		if s := c.services[name]; s != nil && s.empty() {
			c.forgot = max(c.forgot, s.revision)
			delete(c.services, name)
		}
	}
}
