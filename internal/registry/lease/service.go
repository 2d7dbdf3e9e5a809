package lease

import (
	"slices"
	"strings"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// health is what a lease says of its instance.
type health uint8

const (
	up health = iota
	suspect
	unhealthy
)

func (h health) state() discovery.State {
	return [...]discovery.State{discovery.Up, discovery.Suspect, discovery.Unhealthy}[h]
}

// lease is what is known of one instance, in 40 bytes: there are as many as instances. Only the goroutine of run
// changes told, so states reach the catalog in order.
type lease struct {
	id      string
	holder  *Holder       // whose renewals count too; nil: it is renewed by itself
	renewed time.Duration // since the base of the Leases
	ttl     uint32        // ms; 0: it is over
	told    health
	seen    bool // the catalog has the instance, since the lease began
	lost    bool // its connection closed, or it was given another chance, and nothing was heard since renewed
	held    bool // it flaps: see flaps
}

func milliseconds(ttl time.Duration) uint32 { return uint32(max(1, ttl.Milliseconds())) }

// heard says when the instance was last heard of, and whether its connection closed since.
func (le *lease) heard() (at time.Duration, lost bool) {
	h := le.holder
	if h == nil {
		return le.renewed, le.lost
	}
	if renewed := time.Duration(h.renewed.Load()); renewed >= le.renewed {
		return renewed, h.over.Load()
	}
	return le.renewed, le.lost || h.over.Load()
}

// health judges the lease alone: protections and flapping come on top. What was told as unhealthy stays so until
// it is heard of, also when it was given another chance.
func (le *lease) health(now time.Duration) health {
	at, lost := le.heard()
	ttl := le.term()
	switch silent := now - at; {
	case ttl == 0:
		return up
	case silent >= ttl*15/7:
		return unhealthy
	case silent < ttl && !lost:
		return up
	case le.told == unhealthy:
		return unhealthy
	}
	return suspect
}

func (le *lease) expired(now time.Duration) bool {
	at, _ := le.heard()
	return le.ttl > 0 && now-at >= le.term()*30/7
}

func (le *lease) term() time.Duration { return time.Duration(le.ttl) * time.Millisecond }

// restart lets a lease begin anew. One that was missing, as of then, is suspect until it is heard of.
func (le *lease) restart(then, now time.Duration) {
	le.lost = le.health(then) != up
	le.renewed = now
}

// service is the leases of one service.
type service struct {
	name    discovery.Name
	leases  []lease // sorted by id
	guard   guard
	changed bool // the catalog changed, or a lease began: the scan compares
	retell  bool // a registration may have overwritten what the catalog was told
	touched bool // it is in Leases.touched
	due     bool // there is something to tell, or to remove
}

func (s *service) search(id string) (int, bool) {
	return slices.BinarySearchFunc(s.leases, id, func(le lease, id string) int { return strings.Compare(le.id, id) })
}

func (s *service) find(id string) *lease {
	if i, ok := s.search(id); ok {
		return &s.leases[i]
	}
	return nil
}

// insert adds a lease that is not there yet. It leaves less room for more than append would: leases are kept for long.
func (s *service) insert(id string) *lease {
	i, _ := s.search(id)
	if n := len(s.leases); n == cap(s.leases) {
		s.leases = append(slices.Grow([]lease(nil), n+max(1, n/16)), s.leases...)
	}
	s.leases = slices.Insert(s.leases, i, lease{id: id})
	return &s.leases[i]
}

func (s *service) delete(id string) {
	if i, ok := s.search(id); ok {
		s.leases = slices.Delete(s.leases, i, i+1)
	}
}

func (s *service) remove(gone func(*lease) bool) {
	keep := s.leases[:0]
	for i := range s.leases {
		if !gone(&s.leases[i]) {
			keep = append(keep, s.leases[i])
		}
	}
	clear(s.leases[len(keep):])
	s.leases = keep
}

// count counts the leases, those that are missing, and notes whether the service has to be looked at closer.
func (s *service) count(now time.Duration) (leases, missing int) {
	s.due = s.retell
	for i := range s.leases {
		le := &s.leases[i]
		health := le.health(now)
		if health != le.told || health == unhealthy || le.held || le.ttl == 0 {
			s.due = true
		}
		if !le.seen || le.ttl == 0 {
			continue
		}
		leases++
		if health != up {
			missing++
		}
	}
	return leases, missing
}
