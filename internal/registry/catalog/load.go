package catalog

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// load reads the store. Nobody else uses the catalog yet. Keys of other rooms are not looked at.
func (c *Catalog) load() error {
	l := loader{c: c, d: newDraft(c), services: make(map[string]*loading), shapes: make(map[string]shape)}
	for _, room := range []struct {
		prefix string
		load   func(store.Entry) error
	}{
		{ceilingKey, l.ceiling}, {aliasPrefix, l.alias}, {orderPrefix, l.order}, {instancePrefix, l.instance},
		{rulePrefix, l.rule}, {historyPrefix, c.history.load},
	} {
		err := c.st.Range(room.prefix, func(e store.Entry) error { return corrupt(e.Key, room.load(e)) })
		if err != nil {
			return err
		}
	}
	if err := l.finish(); err != nil {
		return err
	}
	// What was deleted before the start, and what was only in memory, is not known: whoever knows an older
	// revision gets a snapshot.
	c.revision = max(l.d.ceiling, c.st.Revision()) + 1
	c.forgot, c.ceiling, c.events.floor = c.revision, c.revision, c.revision
	for _, s := range l.d.services {
		s.revision, s.ruled, s.floor = c.revision, c.revision, c.revision
	}
	l.d.revision, l.d.events, l.d.history.bytes = c.revision, nil, c.history.bytes
	c.publish(l.d)
	c.notifier.take() // nobody asked yet
	return nil
}

// corrupt says which value cannot be read.
func corrupt(key string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the stored value of %q cannot be read: %w (%w)", key, store.ErrCorrupt, err)
}

// loader reads values into a draft. It knows the names and the shapes that it met by their bytes, so that most instances
// cost two allocations.
type loader struct {
	c        *Catalog
	d        *draft
	services map[string]*loading
	shapes   map[string]shape
}

// loading are the instances of a service in the order of their numbers.
type loading struct {
	name      discovery.Name
	instances []*instance
}

func (l *loader) ceiling(e store.Entry) error {
	if e.Key != ceilingKey || len(e.Value) != 8 {
		return fmt.Errorf("%d bytes, want 8", len(e.Value))
	}
	l.d.ceiling = binary.BigEndian.Uint64(e.Value)
	return nil
}

func (l *loader) alias(e store.Entry) error {
	namespace, service, ok := strings.Cut(strings.TrimPrefix(e.Key, aliasPrefix), "/")
	target, err := discovery.ParseName(string(e.Value), "")
	if err != nil || !ok {
		return errors.Join(err, errors.New("want n/namespace/name"))
	}
	l.d.setAlias(discovery.Name{Service: service, Namespace: namespace}, &alias{target, e.Revision}, e.Revision)
	return nil
}

func (l *loader) order(e store.Entry) error {
	parts := strings.SplitN(strings.TrimPrefix(e.Key, orderPrefix), "/", 3)
	if len(parts) != 3 {
		return errors.New("want o/namespace/service/id")
	}
	o := &order{revision: e.Revision, idle: true}
	if err := json.Unmarshal(e.Value, o); err != nil {
		return err
	}
	l.d.setOrder(InstanceKey{discovery.Name{Service: parts[1], Namespace: parts[0]}, parts[2]}, o)
	return nil
}

func (l *loader) instance(e store.Entry) error {
	if len(e.Key) != len(instancePrefix)+8 {
		return errors.New("want i/ and a number of 8 bytes")
	}
	s, err := splitInstance(e.Value)
	if err != nil {
		return err
	}
	in, err := s.instance()
	if err != nil {
		return err
	}
	if in.shape, err = l.shape(s.shape); err != nil {
		return err
	}
	in.number = binary.BigEndian.Uint64([]byte(e.Key[len(instancePrefix):]))
	in.revision = e.Revision
	l.d.number = max(l.d.number, in.number)
	to := l.service(s)
	to.instances = append(to.instances, l.withOrder(to.name, in))
	return nil
}

func (l *loader) shape(wire []byte) (shape, error) {
	if sh, ok := l.shapes[string(wire)]; ok {
		return sh, nil
	}
	a, err := parseShape(string(wire))
	if err != nil {
		return shape{}, err
	}
	sh := a.shape()
	if len(l.shapes) < 10_000 { // when they are all different, remembering them helps nobody
		l.shapes[string(wire)] = sh
	}
	return sh, nil
}

func (l *loader) service(s stored) *loading {
	to := l.services[string(s.name)]
	if to == nil {
		to = &loading{name: discovery.Name{Service: string(s.service), Namespace: string(s.namespace)}}
		l.services[string(s.name)] = to
	}
	return to
}

// withOrder puts the instance under the order of its process.
func (l *loader) withOrder(name discovery.Name, in *instance) *instance {
	if len(l.d.orders) == 0 {
		return in
	}
	key := InstanceKey{name, in.id()}
	o := l.d.order(key)
	if o == nil || o.Deleted || o.Process != in.process() {
		return in
	}
	o = o.resting(false)
	l.d.setOrder(key, o)
	return in.ordered(o)
}

func (l *loader) rule(e store.Entry) error {
	doc, err := decodeRule(e.Value)
	if err != nil {
		return err
	}
	if at := l.c.at(doc.revision); doc.rule.Revision != at.String() { // it comes from a backup, of another epoch
		if doc, err = newDocument(doc.rule, at, doc.rule.UpdatedBy, doc.rule.UpdatedAt); err != nil {
			return err
		}
	}
	l.d.rules[doc.key] = doc
	l.d.change(doc.service, func(s *service) { s.putRule(doc) })
	return nil
}

// finish sorts the instances of each service.
func (l *loader) finish() error {
	for _, from := range slices.SortedFunc(maps.Values(l.services), func(a, b *loading) int { return compareNames(a.name, b.name) }) {
		slices.SortFunc(from.instances, func(a, b *instance) int { return strings.Compare(a.id(), b.id()) })
		for i, in := range from.instances[1:] {
			if twice := from.instances[i]; twice.id() == in.id() {
				return corrupt(instanceKey(in.number), fmt.Errorf("instance %q of service %s is there twice", in.id(), from.name))
			}
		}
		l.d.change(from.name, func(s *service) {
			s.instances, s.peak = newList(from.instances), len(from.instances)
		})
	}
	return nil
}
