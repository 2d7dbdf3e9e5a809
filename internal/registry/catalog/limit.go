package catalog

import (
	"errors"
	"fmt"

	"github.com/weftmesh/weft/discovery"
)

// ErrLimit says that there is no room for more. The error around it says of what, and the bound.
var ErrLimit = errors.New("no more are taken")

// The bounds of what is stored, beside those of [discovery.Instance].
const (
	MaxInstance        = 8 << 10 // bytes of an instance as it is stored
	MaxInstances       = 10_000  // instances of a service
	MaxAllInstances    = 500_000
	MaxServices        = 50_000 // with an instance or a rule
	MaxRules           = 10_000
	MaxRulesPerService = 500
	MaxAliases         = 10_000
	maxOrders          = 10_000 // of instances that are not there
)

// limits are the bounds of a catalog; tests lower them.
type limits struct {
	instances, instancesPerService, services, rules, rulesPerService, aliases, orders int
}

func defaultLimits() limits {
	return limits{MaxAllInstances, MaxInstances, MaxServices, MaxRules, MaxRulesPerService, MaxAliases, maxOrders}
}

// counts are what the limits are about.
type counts struct{ services, instances, rules, aliases int }

func (a counts) plus(b counts) counts {
	return counts{a.services + b.services, a.instances + b.instances, a.rules + b.rules, a.aliases + b.aliases}
}

func (a counts) minus(b counts) counts {
	return counts{a.services - b.services, a.instances - b.instances, a.rules - b.rules, a.aliases - b.aliases}
}

// counts gives the service's part.
func (s *service) counts() counts {
	c := counts{instances: s.instances.size, rules: len(s.rules)}
	if s.alias != nil {
		c.aliases = 1
	}
	if !s.missing() && !all(s.name) {
		c.services = 1
	}
	return c
}

// Refused says which instance of a write was refused, and why; nothing of the write took place.
type Refused struct {
	Key InstanceKey
	Err error // wraps [ErrLimit], [ErrDeleted], [ErrTaken], [ErrInUse] or [ErrNotFound]
}

// Error names the instance.
func (e *Refused) Error() string {
	return fmt.Sprintf("instance %q of service %s: %v", e.Key.ID, e.Key.Service, e.Err)
}

// Unwrap gives the reason.
func (e *Refused) Unwrap() error { return e.Err }

func limited(what string, bound int) error {
	return fmt.Errorf("%s: %w: want at most %d", what, ErrLimit, bound)
}

// room counts what a write would add, instance by instance, so that those too many can be named.
type room struct {
	d     *draft
	added map[discovery.Name]int
	total counts
}

// take counts a new instance, if there is room for it.
func (r *room) take(name discovery.Name) error {
	l, s := r.d.c.limits, r.d.service(name)
	there := 0
	if s != nil {
		there = s.instances.size
	}
	if r.added == nil {
		r.added, r.total = make(map[discovery.Name]int), r.d.totals
	}
	added, total := r.added[name]+1, r.total
	if added == 1 && s.missing() {
		total.services++
	}
	total.instances++
	switch {
	case there+added > l.instancesPerService:
		return limited("instances of a service", l.instancesPerService)
	case total.instances > l.instances:
		return limited("instances", l.instances)
	case total.services > l.services:
		return limited("services", l.services)
	}
	r.added[name], r.total = added, total
	return nil
}

// roomForRules checks the limits as they would be after a change.
func (d *draft) roomForRules(changes []ruleChange) error {
	total := d.totals
	added := make(map[discovery.Name]int)
	for _, ch := range changes {
		if old := d.rule(ch.key); old != nil {
			added[old.service]--
			total.rules--
		}
		if ch.doc != nil {
			added[ch.doc.service]++
			total.rules++
		}
	}
	for name, n := range added {
		if n > 0 && d.service(name).missing() && !all(name) {
			total.services++
		}
	}
	for _, ch := range changes {
		if ch.doc == nil {
			continue
		}
		if err := d.overRules(ch.doc.service, added[ch.doc.service], total); err != nil {
			return fmt.Errorf("rule %s: %w", ch.key, err)
		}
	}
	return nil
}

// overRules gives an error if a service, to which rules are added, or all together would be over a bound.
func (d *draft) overRules(name discovery.Name, added int, total counts) error {
	l, there := d.c.limits, 0
	if s := d.service(name); s != nil {
		there = len(s.rules)
	}
	switch {
	case added > 0 && there+added > l.rulesPerService:
		return limited("rules of a service", l.rulesPerService)
	case total.rules > max(l.rules, d.totals.rules):
		return limited("rules", l.rules)
	case total.services > max(l.services, d.totals.services):
		return limited("services", l.services)
	}
	return nil
}
