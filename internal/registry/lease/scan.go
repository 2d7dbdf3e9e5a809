package lease

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// scanEvery is how often all leases are looked at. If that takes place later by more than maxPause, the server stood
// still.
const (
	scanEvery = time.Second
	maxPause  = time.Second
)

// round is what comes of looking at leases. It is carried out without the lock.
type round struct {
	changes []catalog.StateChange
	expired []catalog.InstanceKey
	news    []news
	paused  time.Duration // how long the server stood still; 0: it did not
}

func (l *Leases) run(ctx context.Context) {
	tick := time.NewTicker(scanEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			l.do(ctx, l.glance())
		case <-tick.C:
			l.do(ctx, l.scan())
		}
	}
}

// do waits for the disk if an instance expired, or if a write is under way.
func (l *Leases) do(ctx context.Context, r round) {
	if r.paused > 0 {
		l.log.Warn("lease: the server stood still and could not hear renewals; every lease begins anew", "for", r.paused.Round(time.Millisecond))
	}
	for _, n := range r.news {
		n.log(l.log)
	}
	if len(r.changes) > 0 {
		l.cat.SetStates(r.changes)
	}
	if len(r.expired) > 0 {
		l.expire(ctx, r.expired)
	}
}

// glance looks at what was touched. It judges no silence: that nothing becomes unhealthy without the protections
// is the scan's to see.
func (l *Leases) glance() (r round) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	r.paused = l.pause(now)
	for i, s := range l.touched {
		s.touched = false
		l.look(&r, s, now, false)
		l.touched[i] = nil
	}
	l.touched = l.touched[:0]
	return r
}

// scan looks at every lease: first it counts, which decides what is protected, and then it judges those services
// where there is something to say.
func (l *Leases) scan() (r round) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	r.paused = l.pause(now)
	l.protect(&r, now)
	for _, s := range l.services {
		if s.due {
			l.look(&r, s, now, !l.protected(s))
		}
	}
	l.flaps.forget(now)
	return r
}

// pause restarts every lease if the server stood still since it last looked. The monotonic clock runs on while a process
// is stopped, but not while the machine is suspended; asleep counts that.
func (l *Leases) pause(now time.Duration) time.Duration {
	slept := l.asleep()
	gap := now - l.looked - scanEvery + slept - l.slept
	before := l.looked
	l.looked, l.slept = now, slept
	if gap <= maxPause || l.unpaused {
		return 0
	}
	for _, s := range l.services {
		for i := range s.leases {
			s.leases[i].restart(before, now)
		}
	}
	return gap
}

// maxPending is for how long a session may renew a lease whose instance is not there: no write takes longer.
const maxPending = 10 * time.Minute

// reconcile compares the leases of a service with the catalog: one whose instance is gone is over. One that began is
// left alone until its instance is there, or it runs out.
func (l *Leases) reconcile(s *service, now time.Duration) {
	s.changed, s.retell = false, true
	next, stop := iter.Pull(l.cat.IDs(s.name)) // both are in the order of ids: it costs a tenth of looking each up
	defer stop()
	id, more := next()
	s.remove(func(le *lease) bool {
		for more && id < le.id {
			id, more = next()
		}
		there := more && id == le.id
		gone := !there && (le.seen || now-le.renewed > maxPending)
		le.seen = there
		s.changed = s.changed || !there && !gone
		return gone
	})
}

// look judges the leases of a service and notes what has changed. Only if expire is set may instances become unhealthy
// or be removed, and one is removed only after it was told as unhealthy: not in one step.
func (l *Leases) look(r *round, s *service, now time.Duration, expire bool) {
	over := false
	for i := range s.leases {
		le := &s.leases[i]
		key := catalog.InstanceKey{Service: s.name, ID: le.id}
		if expire && le.told == unhealthy && le.expired(now) {
			r.expired = append(r.expired, key)
			continue
		}
		health := l.damped(le, key, now)
		if health == unhealthy && le.told != unhealthy && !expire {
			health = suspect
		}
		over = over || le.ttl == 0
		if health != le.told || s.retell && health != up {
			le.told = health
			r.changes = append(r.changes, catalog.StateChange{Service: key.Service, ID: key.ID, State: health.state()})
		}
	}
	s.retell = false
	if over {
		s.remove(func(le *lease) bool { return le.ttl == 0 })
	}
}

// watched is the health of a lease. If it is not up, its holder's next renewal is seen at once.
func (le *lease) watched(now time.Duration) health {
	health := le.health(now)
	if health != up && le.holder != nil && !le.holder.down.Swap(true) {
		health = le.health(now) // a renewal that did not see down
	}
	return health
}

// expire removes instances. If the store takes no writes they stay, and are tried again at the next scan. The
// catalog passes over those that came back in the meantime.
func (l *Leases) expire(ctx context.Context, keys []catalog.InstanceKey) {
	_, err := l.cat.DeleteInstances(ctx, keys, discovery.Expired)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		if ctx.Err() == nil {
			l.log.Error("lease: expired instances could not be removed", "instances", len(keys), "error", err)
		}
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for _, key := range keys {
		_, le := l.find(key)
		if le == nil || l.cat.Has(key) || !le.seen && !le.expired(now) {
			continue // one that registers again at this moment has its lease already, and its instance soon
		}
		if le.holder != nil {
			le.holder.expired.Store(true)
		}
		le.ttl = 0 // the next scan forgets it
	}
}
