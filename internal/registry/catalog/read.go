package catalog

import (
	"iter"
	"slices"
	"strings"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// ServiceInfo sums a service up.
type ServiceInfo struct {
	Name      discovery.Name
	Revision  discovery.Revision // of the last change, those of the "*" rules included
	Instances int
	States    map[discovery.State]int // instances by state
	Rules     int                     // rules that name the service itself
}

// Filter chooses rules; an empty field chooses all.
type Filter struct {
	Namespace string
	Kind      rule.Kind
	Service   string // as the rule says it; "*" chooses the rules for all services only
}

// snapshot collects the services that keep accepts (nil: all) at one moment, sorted by name.
func (c *Catalog) snapshot(keep func(discovery.Name) bool) []*service {
	out, _ := c.snapshotAt(keep)
	return out
}

func (c *Catalog) snapshotAt(keep func(discovery.Name) bool) ([]*service, discovery.Revision) {
	c.mu.RLock()
	out := make([]*service, 0, len(c.services))
	for name, s := range c.services {
		if keep == nil || keep(name) {
			out = append(out, s)
		}
	}
	revision := c.at(c.revision)
	c.mu.RUnlock()
	slices.SortFunc(out, func(a, b *service) int { return compareNames(a.name, b.name) })
	return out, revision
}

func inNamespace(namespace string) func(discovery.Name) bool {
	return func(n discovery.Name) bool { return namespace == "" || n.Namespace == namespace }
}

// lookup gives the service and the holder of the "*" rules of its namespace at one moment. Neither is nil; one
// that does not exist has the revision up to which services were forgotten. An alias is no service of its namespace: no
// rule concerns it.
func (c *Catalog) lookup(name discovery.Name) (s, star *service) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	star = c.services[discovery.Name{Service: rule.AllServices, Namespace: name.Namespace}]
	if star == nil {
		star = &service{}
	}
	if s = c.services[name]; s == nil {
		s = &service{name: name, revision: c.forgot, ruled: c.forgot, floor: c.forgot}
	}
	if s.alias != nil {
		star = &service{}
	}
	return s, star
}

// Services lists the services of a namespace that an instance or a rule names; "" lists those of all.
func (c *Catalog) Services(namespace string) []ServiceInfo {
	found := c.snapshot(inNamespace(namespace))
	stars := make(map[string]uint64)
	for _, s := range found {
		if all(s.name) {
			stars[s.name.Namespace] = s.revision
		}
	}
	out := make([]ServiceInfo, 0, len(found))
	for _, s := range found {
		if !all(s.name) && !s.missing() {
			out = append(out, c.info(s, stars[s.name.Namespace]))
		}
	}
	return out
}

// Service sums one service up; false if no instance and no rule names it.
func (c *Catalog) Service(name discovery.Name) (ServiceInfo, bool) {
	s, star := c.lookup(name)
	if all(name) || s.missing() {
		return ServiceInfo{}, false
	}
	return c.info(s, star.revision), true
}

func (c *Catalog) info(s *service, star uint64) ServiceInfo {
	states := make(map[discovery.State]int)
	for in := range s.instances.all() {
		states[in.state().public()]++
	}
	return ServiceInfo{
		Name:      s.name,
		Revision:  c.at(max(s.revision, star)),
		Instances: s.instances.size,
		States:    states,
		Rules:     len(s.rules),
	}
}

// Instances lists the instances of a service, sorted by id, and the service's revision.
func (c *Catalog) Instances(name discovery.Name) ([]discovery.Instance, discovery.Revision) {
	s, star := c.lookup(name)
	out := make([]discovery.Instance, 0, s.instances.size)
	for in := range s.instances.all() {
		out = append(out, in.public(name))
	}
	return out, c.at(max(s.revision, star.revision))
}

// Instance gives one instance and the revision of its last change.
func (c *Catalog) Instance(name discovery.Name, id string) (discovery.Instance, discovery.Revision, bool) {
	s, _ := c.lookup(name)
	in := s.instance(id)
	if in == nil {
		return discovery.Instance{}, discovery.Revision{}, false
	}
	return in.public(name), c.at(in.revision), true
}

// Has reports whether the instance is there.
func (c *Catalog) Has(key InstanceKey) bool { return c.find(key) != nil }

// Process gives the process of an instance; false if it is not there.
func (c *Catalog) Process(key InstanceKey) (process string, ok bool) {
	if in := c.find(key); in != nil {
		return in.process(), true
	}
	return "", false
}

// Owner gives the process that has registered an instance, "" if none has; the error is [ErrTaken] if the instance is not to
// be had for the process that asks.
func (c *Catalog) Owner(key InstanceKey, process string) (owner string, err error) {
	if in := c.find(key); in != nil {
		return in.process(), in.yields(process)
	}
	return "", nil
}

// find gives nil for an instance that is not there.
func (c *Catalog) find(key InstanceKey) *instance {
	c.mu.RLock()
	s := c.services[key.Service]
	c.mu.RUnlock()
	return s.instance(key.ID)
}

// IDs gives the ids of a service's instances at one moment, in their order.
func (c *Catalog) IDs(name discovery.Name) iter.Seq[string] {
	s, _ := c.lookup(name)
	return func(yield func(string) bool) {
		for in := range s.instances.all() {
			if !yield(in.id()) {
				return
			}
		}
	}
}

// At gives the revision of a service, whether it exists or not.
func (c *Catalog) At(name discovery.Name) discovery.Revision {
	s, star := c.lookup(name)
	return c.at(max(s.revision, star.revision))
}

// Written gives one instance as it was registered: without what its lease and its check say of it, and without what an
// operator ordered. Whoever registers it again with a change starts from this.
func (c *Catalog) Written(name discovery.Name, id string) (discovery.Instance, bool) {
	s, _ := c.lookup(name)
	in := s.instance(id)
	if in == nil {
		return discovery.Instance{}, false
	}
	return in.publicSaid(name), true
}

// Rules lists rules, sorted by namespace, kind and name, and the catalog's revision at that moment.
func (c *Catalog) Rules(f Filter) ([]rule.Rule, discovery.Revision) {
	c.mu.RLock()
	var found []*document
	for _, d := range c.rules {
		if f.accepts(d) {
			found = append(found, d)
		}
	}
	revision := c.at(c.revision)
	c.mu.RUnlock()
	slices.SortFunc(found, func(a, b *document) int { return compareKeys(a.key, b.key) })
	out := make([]rule.Rule, len(found))
	for i, d := range found {
		out[i] = d.rule
	}
	return out, revision
}

func (f Filter) accepts(d *document) bool {
	return (f.Namespace == "" || f.Namespace == d.key.Namespace) &&
		(f.Kind == "" || strings.EqualFold(string(f.Kind), string(d.key.Kind))) &&
		(f.Service == "" || f.Service == d.service.Service)
}

// Rule gives one rule. Its spec must not be changed.
func (c *Catalog) Rule(key rule.Key) (rule.Rule, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	d, ok := c.rules[key]
	if !ok {
		return rule.Rule{}, false
	}
	return d.rule, true
}
