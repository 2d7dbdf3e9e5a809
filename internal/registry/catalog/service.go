package catalog

import (
	"cmp"
	"slices"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// service is everything under one name. A published one is immutable.
type service struct {
	name      discovery.Name
	revision  uint64 // of the last change
	ruled     uint64 // of the last change of its rules, or of whether those for all concern it
	instances list
	rules     []*document // sorted by kind and name
	alias     *alias      // then it has nothing else
	gone      tombstones
	peak      int    // instances at most since tombstones were dropped
	floor     uint64 // who knows an older revision gets a snapshot
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

// all reports whether name holds the "*" rules of its namespace.
func all(name discovery.Name) bool { return name.Service == rule.AllServices }

// missing reports whether no instance and no rule names the service. s may be nil.
func (s *service) missing() bool { return s == nil || s.instances.size == 0 && len(s.rules) == 0 }

// empty reports whether nothing at all has the name.
func (s *service) empty() bool { return s.missing() && (s == nil || s.alias == nil) }

// instance gives nil for an id that is not there. s may be nil.
func (s *service) instance(id string) *instance {
	if s == nil {
		return nil
	}
	return s.instances.get(id)
}

func (s *service) put(in *instance, draft uint64) {
	s.revision = in.revision
	s.instances.put(in, draft)
	s.peak = max(s.peak, s.instances.size)
}

// remove takes out an instance that is there.
func (s *service) remove(id string, reason discovery.Reason, revision, draft uint64) {
	s.instances.remove(id, draft)
	s.revision = revision
	if room := min(max(s.peak, minGone), maxGone); s.gone.size >= room {
		s.floor, s.peak = s.gone.drop(s.gone.size-room/2), s.instances.size
	}
	s.gone.add(id, reason, revision)
}

func (s *service) putRule(d *document) {
	s.removeRule(d.key, d.revision)
	i, _ := slices.BinarySearchFunc(s.rules, d.key, func(d *document, key rule.Key) int { return compareKeys(d.key, key) })
	s.rules = slices.Insert(s.rules, i, d)
}

// removeRule copies the rules: earlier versions of the service have them too.
func (s *service) removeRule(key rule.Key, revision uint64) {
	s.revision, s.ruled = revision, revision
	s.rules = slices.DeleteFunc(slices.Clone(s.rules), func(d *document) bool { return d.key == key })
}

func compareKeys(a, b rule.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
}

func compareNames(a, b discovery.Name) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Service, b.Service))
}
