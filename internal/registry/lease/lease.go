// Package lease keeps track of who is alive. An instance with a lease has to be renewed:
//
//	leases := lease.New(cat, log)          // the leases of the catalog's instances begin anew
//	defer leases.Close()
//
//	h := leases.Hold(lease.SessionTTL)     // a session: one renewal for all instances of a process
//	h.Add(keys...)
//	ok := h.Renew()                        // false: one of them expired meanwhile
//	h.Lost()                               // the connection closed
//
//	leases.Track(instance, ttl)            // an instance that is renewed by itself, by REST
//	ok = leases.Renew(service, id)         // false: there is no such instance (any more)
//
// # States
//
// An instance whose connection closed is suspect at once. One that falls silent is suspect after its ttl,
// unhealthy after 15/7 of it and removed after 30/7: after 7, 15 and 30 s in a session, and after 30, 64 and 129 s
// of an instance registered by REST with a ttl of 30 s. A renewal makes it up again. Health lives in memory alone:
// only a removal is written. After a start every lease begins anew.
//
// # Protection
//
// Many instances that fall silent at once are a sign that the registry is cut off, not that they died. So over all
// leases, and over those of each service alike: while the set has at least 10 leases and more than 3 and more than
// 15 % of them are missing, nothing of it expires. Nothing is removed, and nothing more becomes unhealthy: what is
// silent stays suspect, which callers with a working connection still use. What was unhealthy before stays so.
//
// A lease is missing while its instance is in the catalog and has been silent for a whole ttl (two renewals of a
// session, and a second of grace), or the connection of its session closed and no other took over. One that
// deregistered, was deleted by an operator or expired before is not a lease any more and counts on neither side; nor
// does one whose first registration is still being written, or one that renews but is held back because it flaps.
//
// When no longer too many are missing, expiry goes on for those that are, but their silence counts from that
// moment: each has a full lease to come back in, as suspect, before it is unhealthy and then removed. An operator
// sees the protected sets with [Leases.Protection], and lets them expire all the same with [Leases.Override].
//
// # Time
//
// A lease is measured on the monotonic clock alone; steps of the wall clock have no effect. If more than 2 s
// pass between two looks at the leases, which should be 1 s apart, the server itself stood still (stopped, a paused
// machine, a disk that hangs) and could not hear: every lease begins anew before anything is judged. So it
// does when the machine was suspended, which the monotonic clock does not count.
//
// # Flapping
//
// An instance that came back more than three times within a minute is told as suspect until it has been up for a
// while: 5 s, then twice that each time it goes away again, up to 60 s.
package lease

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// SessionTTL is the ttl of the instances of a session unless the server was told another: suspect after 7 s of silence,
// unhealthy after 15 s, removed after 30 s.
const SessionTTL = 7 * time.Second

// RenewEvery is how often a session with a ttl renews: a second renewal has a second of grace before the ttl is over.
func RenewEvery(ttl time.Duration) time.Duration { return ttl * 3 / 7 }

// MinTTL and MaxTTL bound the ttl that a client may ask for.
const (
	MinTTL = time.Second
	MaxTTL = 24 * time.Hour
)

// Leases is made by [New]. Its methods never wait for a disk and are safe for concurrent use.
type Leases struct {
	cat         *catalog.Catalog
	log         *slog.Logger
	base        time.Time     // what every time.Duration in here counts from; it has a monotonic reading, so time.Since uses that
	wake        chan struct{} // holds one: touched is not empty
	stop        context.CancelFunc
	wg          sync.WaitGroup
	unsubscribe func()

	// mu comes before the catalog's mu, and is never held while the catalog writes. A Holder renews without it.
	mu       sync.Mutex
	services map[discovery.Name]*service
	touched  []*service // to be looked at before the next scan
	overall  guard      // of all services together
	flaps    flaps
	looked   time.Duration // when the leases were last looked at
	slept    time.Duration // what asleep said then

	// Seams of tests: each switches a protection off, or stands in for the machine.
	unprotected, unpaused, undamped bool
	asleep                          func() time.Duration
}

// New begins a lease for every instance of the catalog that has a ttl, as if it had just been renewed, and
// starts the scan. log may be nil.
func New(cat *catalog.Catalog, log *slog.Logger) *Leases {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Leases{
		cat:      cat,
		log:      log,
		base:     time.Now(),
		wake:     make(chan struct{}, 1),
		stop:     stop,
		services: make(map[discovery.Name]*service),
		flaps:    make(flaps),
		slept:    asleep(),
		asleep:   asleep,
	}
	for _, in := range cat.Leased() {
		le := l.service(in.Service).insert(in.ID)
		le.ttl, le.seen = milliseconds(in.TTL), true
	}
	l.unsubscribe = cat.Subscribe(l.catalogChanged)
	l.wg.Go(func() { l.run(ctx) })
	return l
}

// Close stops the scan and waits for it. It does not touch the catalog, which has to be closed later.
func (l *Leases) Close() {
	l.unsubscribe()
	l.stop()
	l.wg.Wait()
}

func (l *Leases) now() time.Duration { return time.Since(l.base) }

// Track begins a lease that is renewed by itself, or renews it with another ttl; ttl 0 ends it. A lease that a
// [Holder] had is taken from it. Call it before the instance is written with the same ttl by
// [catalog.Catalog.PutLeased]: a lease without an instance just runs out, an instance without its lease would stay
// until the next restart. To end a lease call it after the write. Call undo once the write is known to have failed: the
// instance that is there gets back the terms and the holder that it had.
func (l *Leases) Track(in discovery.Instance, ttl time.Duration) (undo func()) {
	key := catalog.KeyOf(in)
	l.mu.Lock()
	defer l.mu.Unlock()
	s, le := l.find(key)
	var before *Holder
	if le != nil {
		before = le.holder
	}
	if ttl > 0 {
		l.begin(key, nil, ttl)
	} else if le != nil {
		l.end(s, le)
	}
	return func() { l.resume(key, before) }
}

// end runs under mu. The goroutine of run forgets the lease, once the instance is told as up.
func (l *Leases) end(s *service, le *lease) {
	le.ttl = 0
	l.touch(s)
}

// resume makes a lease what the catalog says of its instance. One without an instance runs out.
func (l *Leases) resume(key catalog.InstanceKey, before *Holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	terms, there := l.cat.Terms(key)
	s, le := l.find(key)
	switch {
	case le == nil || !there:
	case terms.TTL == 0:
		l.end(s, le)
	default:
		if le.holder == nil {
			le.holder = before
		}
		le.ttl = milliseconds(terms.TTL)
		l.touch(s)
	}
}

// begin runs under mu.
func (l *Leases) begin(key catalog.InstanceKey, h *Holder, ttl time.Duration) *service {
	s := l.service(key.Service)
	le := s.find(key.ID)
	if le == nil {
		le = s.insert(key.ID)
	}
	le.holder, le.ttl, le.seen = h, milliseconds(ttl), false
	s.changed = true
	l.renew(s, le)
	return s
}

// Renew keeps an instance alive; false if it is not there or has no lease.
func (l *Leases) Renew(service discovery.Name, id string) bool {
	key := catalog.InstanceKey{Service: service, ID: id}
	there := l.cat.Has(key)
	l.mu.Lock()
	defer l.mu.Unlock()
	s, le := l.find(key)
	if le == nil || le.ttl == 0 || !there { // one without its instance is being written, or runs out
		return false
	}
	if le.holder != nil && le.holder.over.Load() { // whoever renews it now answers for it
		le.holder = nil
	}
	l.renew(s, le)
	return true
}

// renew runs under mu.
func (l *Leases) renew(s *service, le *lease) {
	le.renewed, le.lost = l.now(), false
	if le.told != up {
		l.touch(s)
	}
}

// touch runs under mu.
func (l *Leases) touch(s *service) {
	if !s.touched {
		s.touched = true
		l.touched = append(l.touched, s)
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// service runs under mu.
func (l *Leases) service(name discovery.Name) *service {
	s := l.services[name]
	if s == nil {
		s = &service{name: name}
		l.services[name] = s
	}
	return s
}

// find runs under mu. It gives nil for a lease that is not there; the lease is valid until another is inserted or removed.
func (l *Leases) find(key catalog.InstanceKey) (*service, *lease) {
	s := l.services[key.Service]
	if s == nil {
		return nil, nil
	}
	return s, s.find(key.ID)
}

// catalogChanged has the services compared with the catalog at the next scan.
func (l *Leases) catalogChanged(names []discovery.Name) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if s := l.services[name]; s != nil {
			s.changed = true
		}
	}
}
