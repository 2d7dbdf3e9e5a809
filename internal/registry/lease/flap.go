package lease

import (
	"time"

	"github.com/weftmesh/weft/internal/registry/catalog"
)

// Flapping: who came back more than maxReturns times within flapWindow is held back until it has been up for
// minCalm, and twice as long each time it goes away again, up to maxCalm. It is forgotten after flapMemory without
// an event. At most maxFlaps instances are watched: that more of them come and go at once is an outage, which is no
// reason to keep anybody out.
const (
	maxReturns = 3
	flapWindow = time.Minute
	minCalm    = 5 * time.Second
	maxCalm    = time.Minute
	flapMemory = 2 * time.Minute
	maxFlaps   = 10_000
)

// flaps remembers the instances that came back lately.
type flaps map[catalog.InstanceKey]*flap

type flap struct {
	returns [maxReturns]time.Duration // the last ones, in a ring
	count   int                       // of all
	last    time.Duration             // event
	calm    time.Duration             // how long it was, or is, to be up before it is told so
	up      time.Duration             // held: since when it is up; negative: it is not
}

// damped is the health to tell of a lease: that of the lease itself, but suspect of one that is held.
func (l *Leases) damped(le *lease, key catalog.InstanceKey, now time.Duration) health {
	health := le.watched(now)
	switch {
	case le.held:
		f := l.flaps[key]
		le.held = f != nil && f.hold(health, now)
	case health == up && le.told != up && le.ttl > 0 && !l.undamped:
		le.held = l.flaps.returned(key, now)
	}
	if le.held && health == up {
		return suspect
	}
	return health
}

// returned notes that an instance came back, and reports whether it is held from now on.
func (fs flaps) returned(key catalog.InstanceKey, now time.Duration) bool {
	f := fs[key]
	if f == nil {
		if len(fs) >= maxFlaps {
			return false
		}
		f = &flap{}
		fs[key] = f
	}
	oldest := &f.returns[f.count%maxReturns]
	often := f.count >= maxReturns && now-*oldest <= flapWindow
	*oldest, f.last = now, now
	f.count++
	if often {
		f.suspend(now)
	}
	return often
}

// hold reports whether an instance that is held stays so.
func (f *flap) hold(health health, now time.Duration) bool {
	switch {
	case health != up:
		f.up, f.last = -1, now
	case f.up < 0:
		f.suspend(now)
	case now-f.up >= f.calm:
		f.last = now
		return false
	}
	return true
}

func (f *flap) suspend(now time.Duration) {
	f.calm = min(max(2*f.calm, minCalm), maxCalm)
	f.up, f.last = now, now
}

func (fs flaps) forget(now time.Duration) {
	for key, f := range fs {
		if now-f.last > flapMemory {
			delete(fs, key)
		}
	}
}
