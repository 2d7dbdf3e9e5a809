package catalog

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// service is everything under one name. A published one is immutable.
type service struct {
	name      discovery.Name
	revision  uint64      // of the last change
	ruled     uint64      // of the last change of a rule
	instances []*instance // sorted by id
	rules     []*document // sorted by kind and name
	gone      []tombstone // sorted by revision, at most maxGone
	floor     uint64      // who knows an older revision gets a snapshot
}

// instance is one registered instance. It is immutable.
type instance struct {
	discovery.Instance                 // State is what callers are told
	written            discovery.State // State as it was registered
	health             discovery.State // what the lease says: up, suspect or unhealthy
	ttl                uint32          // ms; 0: not leased
	revision           uint64
}

// document is one stored rule. It is immutable.
type document struct {
	rule     rule.Rule
	key      rule.Key
	service  discovery.Name
	json     []byte // as stored and pushed
	bare     []byte // without what the server manages
	revision uint64
}

// tombstone remembers an instance that is gone.
type tombstone struct {
	discovery.Removal
	process  string
	revision uint64
}

// maxGone bounds the tombstones of a service.
const maxGone = 1024

// all reports whether name holds the "*" rules of its namespace.
func all(name discovery.Name) bool { return name.Service == rule.AllServices }

// missing reports whether no instance and no rule names the service.
func (s *service) missing() bool { return len(s.instances) == 0 && len(s.rules) == 0 }

func (s *service) clone() *service {
	c := *s
	c.instances = slices.Clone(s.instances)
	c.rules = slices.Clone(s.rules)
	return &c // gone is only appended to, beyond what readers of s see
}

func (s *service) search(id string) (int, bool) {
	return slices.BinarySearchFunc(s.instances, id, func(in *instance, id string) int { return strings.Compare(in.ID, id) })
}

// instance gives nil for an id that is not there. s may be nil.
func (s *service) instance(id string) *instance {
	if s == nil {
		return nil
	}
	if i, ok := s.search(id); ok {
		return s.instances[i]
	}
	return nil
}

func (s *service) put(in *instance) {
	s.revision = in.revision
	if i, ok := s.search(in.ID); ok {
		s.instances[i] = in
	} else {
		s.instances = slices.Insert(s.instances, i, in)
	}
}

func (s *service) remove(id string, reason discovery.Reason, revision uint64) {
	i, ok := s.search(id)
	if !ok {
		return
	}
	process := s.instances[i].Process
	s.revision = revision
	s.instances = slices.Delete(s.instances, i, i+1)
	if len(s.gone) == maxGone {
		s.floor = s.gone[maxGone/2-1].revision
		s.gone = slices.Clone(s.gone[maxGone/2:])
	}
	s.gone = append(s.gone, tombstone{discovery.Removal{ID: id, Reason: reason}, process, revision})
}

func (s *service) putRule(d *document) {
	s.removeRule(d.key, d.revision)
	i, _ := slices.BinarySearchFunc(s.rules, d.key, func(d *document, key rule.Key) int { return compareKeys(d.key, key) })
	s.rules = slices.Insert(s.rules, i, d)
}

func (s *service) removeRule(key rule.Key, revision uint64) {
	s.revision, s.ruled = revision, revision
	s.rules = slices.DeleteFunc(s.rules, func(d *document) bool { return d.key == key })
}

func compareKeys(a, b rule.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

func compareNames(a, b discovery.Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
}

// draft is a change that is being prepared: the services and rules that differ from the published ones. The
// caller holds the catalog's writing.
type draft struct {
	c        *Catalog
	revision uint64
	ceiling  uint64
	services map[discovery.Name]*service
	rules    map[rule.Key]*document // nil: deleted
	history  history
}

func newDraft(c *Catalog) *draft {
	return &draft{
		c:        c,
		revision: c.revision, // only written under writing
		ceiling:  c.ceiling,
		services: make(map[discovery.Name]*service),
		rules:    make(map[rule.Key]*document),
		history:  history{versions: make(map[rule.Key][]version), bytes: c.history.bytes, most: c.history.most},
	}
}

// service gives the service as it is so far, nil if there is none, for reading.
func (d *draft) service(name discovery.Name) *service {
	if s, ok := d.services[name]; ok {
		return s
	}
	return d.c.services[name]
}

// edit gives the draft's own copy of the service, for writing.
func (d *draft) edit(name discovery.Name) *service {
	s, ok := d.services[name]
	if ok {
		return s
	}
	if old := d.c.services[name]; old != nil {
		s = old.clone()
	} else {
		s = &service{name: name, floor: d.c.forgot} // whoever knows that much knows that it was not there
	}
	d.services[name] = s
	return s
}

func (d *draft) rule(key rule.Key) *document {
	if doc, ok := d.rules[key]; ok {
		return doc
	}
	return d.c.rules[key]
}

// changed lists the services of the draft.
func (d *draft) changed() []discovery.Name {
	return slices.SortedFunc(maps.Keys(d.services), compareNames)
}
