package lease

import (
	"cmp"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// A set is protected while it has at least minProtected leases, and more of them than maxMissing and than maxShare percent
// are missing.
const (
	minProtected = 10
	maxMissing   = 3
	maxShare     = 15
)

// MaxOverride bounds how long a protection can be overridden.
const MaxOverride = 24 * time.Hour

// Protected is a set of instances of which too many fell silent at once: none of them is removed or made unhealthy.
type Protected struct {
	Service    discovery.Name // zero: all services together
	Leases     int
	Missing    int       // leases of the set that are not being renewed
	Since      time.Time // wall clock, to be shown; zero: it is not protected, only overridden
	Overridden time.Time // until when an operator lets them expire all the same; zero: not
}

// guard protects a set of leases.
type guard struct {
	leases, missing int       // as of the last scan
	since           time.Time // zero: not protected
	until           time.Time // overridden; its monotonic reading is compared
}

func tooMany(missing, leases int) bool {
	return leases >= minProtected && missing > maxMissing && missing*100 > leases*maxShare
}

// judge takes a count and reports whether the protection began or ended with it.
func (g *guard) judge(leases, missing int) (changed bool) {
	g.leases, g.missing = leases, missing
	switch many := tooMany(missing, leases); {
	case many == g.active():
		return false
	case many:
		g.since = time.Now()
	default:
		g.since = time.Time{}
	}
	return true
}

func (g *guard) active() bool { return !g.since.IsZero() }

func (g *guard) overridden() bool { return time.Now().Before(g.until) }

// news is a protection that began or ended.
type news struct {
	Protected
	began bool
}

func (n news) log(log *slog.Logger) {
	set := "all services"
	if n.Service != (discovery.Name{}) {
		set = n.Service.String()
	}
	if n.began {
		log.Warn("lease: protection began: too many instances are silent at once, so none expires", "set", set, "leases", n.Leases, "missing", n.Missing)
		return
	}
	log.Info("lease: protection ended; who is silent still has a full lease to come back in", "set", set, "leases", n.Leases, "missing", n.Missing)
}

// protect counts every set and decides which are protected. What is missing when a protection ends has a full
// lease from then on. It runs under mu.
func (l *Leases) protect(r *round, now time.Duration) {
	leases, missing := 0, 0
	for name, s := range l.services {
		if s.changed {
			l.reconcile(s, now)
		}
		n, m := s.count(now)
		if l.judge(r, s.name, &s.guard, n, m) {
			s.restartMissing(now)
		}
		leases, missing = leases+n, missing+m
		if len(s.leases) == 0 {
			delete(l.services, name)
		}
	}
	if l.judge(r, discovery.Name{}, &l.overall, leases, missing) {
		for _, s := range l.services {
			s.restartMissing(now)
		}
	}
}

// judge reports whether the protection of a set ended.
func (l *Leases) judge(r *round, name discovery.Name, g *guard, leases, missing int) (ended bool) {
	if !g.judge(leases, missing) {
		return false
	}
	r.news = append(r.news, news{g.protected(name), g.active()})
	return !g.active()
}

func (s *service) restartMissing(now time.Duration) {
	for i := range s.leases {
		if le := &s.leases[i]; le.health(now) != up {
			le.restart(now, now)
		}
	}
}

// protected reports whether the leases of a service must not expire. An operator's word about the service, or about
// all, goes before both protections. It runs under mu.
func (l *Leases) protected(s *service) bool {
	if l.unprotected || s.guard.overridden() || l.overall.overridden() {
		return false
	}
	return s.guard.active() || l.overall.active()
}

func (g *guard) protected(name discovery.Name) Protected {
	p := Protected{Service: name, Leases: g.leases, Missing: g.missing, Since: g.since}
	if g.overridden() {
		p.Overridden = g.until
	}
	return p
}

// Protection lists what is protected or overridden now, as of the last scan: all services together first, then
// by namespace and service.
func (l *Leases) Protection() []Protected {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []Protected
	add := func(name discovery.Name, g *guard) {
		if g.active() || g.overridden() {
			out = append(out, g.protected(name))
		}
	}
	add(discovery.Name{}, &l.overall)
	for name, s := range l.services {
		add(name, &s.guard)
	}
	slices.SortFunc(out, func(a, b Protected) int {
		return cmp.Or(cmp.Compare(a.Service.Namespace, b.Service.Namespace), cmp.Compare(a.Service.Service, b.Service.Service))
	})
	return out
}

// Override lets the leases of a service (zero: all) expire even if too many are silent, of the service or over all, for
// a time of up to [MaxOverride]; 0 ends it. What is silent for long enough is unhealthy at the next scan, and removed
// at the one after. It is forgotten by a restart, and when the service has no lease left. The error wraps
// [discovery.ErrInvalid] for a time out of bounds and [catalog.ErrNotFound] for a service without leases.
func (l *Leases) Override(service discovery.Name, d time.Duration) error {
	if d < 0 || d > MaxOverride {
		return fmt.Errorf("for %q: %w: want 0s to %s", d, discovery.ErrInvalid, MaxOverride)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &l.overall
	if service != (discovery.Name{}) {
		s := l.services[service]
		if s == nil {
			return fmt.Errorf("leases of service %s: %w", service, catalog.ErrNotFound)
		}
		g = &s.guard
	}
	g.until = time.Time{}
	if d > 0 {
		g.until = time.Now().Add(d)
	}
	return nil
}
