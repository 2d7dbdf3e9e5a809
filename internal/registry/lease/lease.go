// Package lease keeps track of who is alive. An instance with a lease has to be renewed:
//
//	leases := lease.New(cat, log)          // the leases of the catalog's instances begin anew
//	defer leases.Close()
//	leases.Track(instance, lease.SessionTTL)
//	ok := leases.Renew(service, id)        // false: there is no such instance (any more)
//	leases.Lost(keys)                      // their connection closed
//
// An instance whose connection closed is suspect at once. One that falls silent is suspect after its ttl, and
// then, in the proportions of 7, 15 and 30 s, unhealthy and removed. A renewal makes it up again. Health lives in
// memory alone: only a removal is written.
package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// SessionTTL is the ttl of the instances of a session: suspect after 7 s of silence, unhealthy after 15 s,
// removed after 30 s. A session renews every RenewEvery.
const (
	SessionTTL = 7 * time.Second
	RenewEvery = 3 * time.Second
)

// MinTTL and MaxTTL bound the ttl that a client may ask for.
const (
	MinTTL = time.Second
	MaxTTL = 24 * time.Hour
)

// scanEvery is how often all leases are looked at.
const scanEvery = time.Second

// Leases is made by [New]. Its methods never wait for a disk and are safe for concurrent use.
type Leases struct {
	cat  *catalog.Catalog
	log  *slog.Logger
	wake chan struct{} // holds one: touched is not empty
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	leases  map[catalog.InstanceKey]*lease
	touched map[catalog.InstanceKey]struct{} // to be looked at before the next scan
}

// lease is what is known of one instance. Only the goroutine of run changes told, so states reach the catalog
// in order.
type lease struct {
	ttl     time.Duration
	renewed time.Time // monotonic
	lost    bool      // its connection closed since
	told    discovery.State
}

// New begins a lease for every instance of the catalog that has a ttl, as if it had just been renewed, and
// starts the scan. log may be nil.
func New(cat *catalog.Catalog, log *slog.Logger) *Leases {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Leases{
		cat:     cat,
		log:     log,
		wake:    make(chan struct{}, 1),
		stop:    stop,
		leases:  make(map[catalog.InstanceKey]*lease),
		touched: make(map[catalog.InstanceKey]struct{}),
	}
	now := time.Now()
	for _, in := range cat.Leased() {
		l.leases[in.InstanceKey] = &lease{ttl: in.TTL, renewed: now, told: discovery.Up}
	}
	l.wg.Go(func() { l.run(ctx) })
	return l
}

// Close stops the scan. It does not touch the catalog.
func (l *Leases) Close() error {
	l.stop()
	l.wg.Wait()
	return nil
}

// Track begins a lease, or renews it with another ttl; ttl 0 ends it. Call it before the instance is written
// with the same ttl by [catalog.Catalog.PutLeased]: a lease without an instance just runs out, an instance
// without its lease would stay until the next restart.
func (l *Leases) Track(in discovery.Instance, ttl time.Duration) {
	key := catalog.KeyOf(in)
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.leases[key]
	if le == nil && ttl == 0 {
		return
	}
	if le == nil {
		le = &lease{told: discovery.Up}
		l.leases[key] = le
	}
	if le.ttl = ttl; ttl == 0 { // run ends it, once the instance is told as up
		l.touch(key)
		return
	}
	l.renew(key, le)
}

// Renew keeps an instance alive; false if it is not there or has no lease.
func (l *Leases) Renew(service discovery.Name, id string) bool {
	return l.renewKey(catalog.InstanceKey{Service: service, ID: id})
}

// RenewAll keeps instances alive and passes over those that are not there.
func (l *Leases) RenewAll(keys []catalog.InstanceKey) {
	for _, key := range keys {
		l.renewKey(key)
	}
}

func (l *Leases) renewKey(key catalog.InstanceKey) bool {
	there := l.cat.Has(key)
	l.mu.Lock()
	defer l.mu.Unlock()
	le := l.leases[key]
	if le == nil || le.ttl == 0 || !there { // one without its instance is being written, or runs out
		return false
	}
	l.renew(key, le)
	return true
}

// renew runs under mu.
func (l *Leases) renew(key catalog.InstanceKey, le *lease) {
	le.renewed, le.lost = time.Now(), false
	if le.told != discovery.Up {
		l.touch(key)
	}
}

// Lost says that the connection of the instances closed.
func (l *Leases) Lost(keys []catalog.InstanceKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if le := l.leases[key]; le != nil {
			le.lost = true
			l.touch(key)
		}
	}
}

// touch runs under mu.
func (l *Leases) touch(key catalog.InstanceKey) {
	l.touched[key] = struct{}{}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

func (l *Leases) run(ctx context.Context) {
	tick := time.NewTicker(scanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			l.tell(l.changed(l.takeTouched()))
		case <-tick.C:
			changes, expired := l.scan()
			l.tell(changes)
			l.expire(ctx, expired)
		}
	}
}

func (l *Leases) tell(changes []catalog.StateChange) {
	if len(changes) > 0 {
		l.cat.SetStates(changes)
	}
}

func (l *Leases) takeTouched() map[catalog.InstanceKey]struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	keys := l.touched
	l.touched = make(map[catalog.InstanceKey]struct{})
	return keys
}

func (l *Leases) changed(keys map[catalog.InstanceKey]struct{}) (changes []catalog.StateChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for key := range keys {
		if le := l.leases[key]; le != nil {
			changes = l.change(changes, key, le, now)
		}
	}
	return changes
}

// scan looks at every lease. One that ran out is removed only after it has been told as unhealthy, so that a
// server which stood still does not remove in one step what it had no time to hear from.
func (l *Leases) scan() (changes []catalog.StateChange, expired []catalog.InstanceKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for key, le := range l.leases {
		if le.told == discovery.Unhealthy && le.expired(now) {
			expired = append(expired, key)
		} else {
			changes = l.change(changes, key, le, now)
		}
	}
	return changes, expired
}

// change appends the change of state, if there is one, and forgets a lease that was ended. It runs under mu.
func (l *Leases) change(changes []catalog.StateChange, key catalog.InstanceKey, le *lease, now time.Time) []catalog.StateChange {
	if le.ttl == 0 {
		delete(l.leases, key)
	}
	state := le.state(now)
	if state == le.told {
		return changes
	}
	le.told = state
	return append(changes, catalog.StateChange{Service: key.Service, ID: key.ID, State: state})
}

func (le *lease) state(now time.Time) discovery.State {
	switch silent := now.Sub(le.renewed); {
	case le.ttl == 0:
		return discovery.Up
	case silent >= le.ttl*15/7:
		return discovery.Unhealthy
	case silent >= le.ttl || le.lost:
		return discovery.Suspect
	}
	return discovery.Up
}

func (le *lease) expired(now time.Time) bool {
	return le.ttl > 0 && now.Sub(le.renewed) >= le.ttl*30/7
}

// expire removes instances. If the store takes no writes they stay, and are tried again at the next scan. The
// catalog passes over those that came back in the meantime.
func (l *Leases) expire(ctx context.Context, keys []catalog.InstanceKey) {
	if len(keys) == 0 {
		return
	}
	_, err := l.cat.DeleteInstances(ctx, keys, discovery.Expired)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		if ctx.Err() == nil {
			l.log.Error("lease: expired instances could not be removed", "instances", len(keys), "error", err)
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for _, key := range keys { // one that registers again at this moment has its lease already, and its instance soon
		if le := l.leases[key]; le != nil && le.expired(now) && !l.cat.Has(key) {
			delete(l.leases, key)
		}
	}
}
