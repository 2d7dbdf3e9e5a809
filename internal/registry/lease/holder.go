package lease

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/internal/registry/catalog"
)

// Holder renews all instances of one session at once. It is made by [Leases.Hold]; its methods are safe for
// concurrent use and never wait for a disk. A lease has one holder, the last that added it: so a session that ends
// says nothing about instances which a newer one has registered, and there is nothing to close.
type Holder struct {
	l        *Leases
	renewed  atomic.Int64 // since the base of l
	ttl      time.Duration
	over     atomic.Bool // Lost was called
	expired  atomic.Bool // a lease of it ran out, and the instance was removed
	down     atomic.Bool // a lease of it is not up: a renewal must be seen at once
	services []*service  // that it has, or had, leases in; guarded by l.mu
}

// Hold makes a holder of leases with the given ttl, at least 1 ms.
func (l *Leases) Hold(ttl time.Duration) *Holder { return &Holder{l: l, ttl: ttl} }

// Add begins leases, or takes them over from whoever held them, and counts as a renewal of each. Call it before the
// instances are written with the same ttl, and [Holder.Remove] if that fails and they are not there.
func (h *Holder) Add(keys ...catalog.InstanceKey) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	for _, key := range keys {
		s := h.l.begin(key, h, h.ttl)
		if slices.Contains(h.services, s) {
			continue
		}
		h.services = slices.DeleteFunc(h.services, func(s *service) bool { return len(s.leases) == 0 }) // a bound
		h.services = append(h.services, s)
	}
}

// Remove ends the leases of instances that were removed, or never came to be. Those that the holder does not have
// (any more) are passed over.
func (h *Holder) Remove(keys ...catalog.InstanceKey) {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	for _, key := range keys {
		if s, le := h.l.find(key); le != nil && le.holder == h {
			s.delete(key.ID)
		}
	}
}

// Has reports whether the lease is the holder's: nobody else registered the instance since, and it is not gone.
func (h *Holder) Has(key catalog.InstanceKey) bool {
	return len(h.Held([]catalog.InstanceKey{key})) > 0
}

// Held gives those of the keys, which it may change, whose leases are the holder's.
func (h *Holder) Held(keys []catalog.InstanceKey) []catalog.InstanceKey {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	return slices.DeleteFunc(keys, func(key catalog.InstanceKey) bool {
		_, le := h.l.find(key)
		return le == nil || le.holder != h || le.ttl == 0
	})
}

// Renew keeps all instances of the holder alive, in constant time and without a lock. It is false, and does nothing, once
// an instance of the holder expired (its process should connect and register again) or after [Holder.Lost].
func (h *Holder) Renew() bool {
	if h.over.Load() || h.expired.Load() {
		return false
	}
	h.renewed.Store(int64(h.l.now()))
	if h.down.Load() && h.down.Swap(false) {
		h.touch()
	}
	return true
}

// Lost says that the connection closed: what the holder still has is suspect at once, for good. It is idempotent.
func (h *Holder) Lost() {
	if !h.over.Swap(true) {
		h.touch()
	}
}

func (h *Holder) touch() {
	h.l.mu.Lock()
	defer h.l.mu.Unlock()
	for _, s := range h.services {
		h.l.touch(s)
	}
}
