package catalog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// ErrNotFound says that there is no such instance or rule.
var ErrNotFound = errors.New("not found")

// ErrDeleted says that an operator removed the instance of a process.
var ErrDeleted = errors.New("an operator removed it")

// InstanceKey names an instance. Ids are unique within a service.
type InstanceKey struct {
	Service discovery.Name
	ID      string
}

// KeyOf gives the key of an instance; without a namespace it is in "default".
func KeyOf(in discovery.Instance) InstanceKey {
	if in.Namespace == "" {
		in.Namespace = discovery.DefaultNamespace
	}
	return InstanceKey{nameOf(in), in.ID}
}

// StateChange is what a lease says of an instance.
type StateChange struct {
	Service discovery.Name
	ID      string
	State   discovery.State // up, suspect or unhealthy
}

// record is an instance on its way into the store.
type record struct {
	in    discovery.Instance
	ttl   uint32 // ms
	keep  bool   // keep ttl and health of the instance that is replaced
	owned bool   // its process asks: what an operator deleted stays deleted
	value []byte
}

// PutInstances registers instances or replaces them, all or none, and returns once they are on disk. One that
// is the same already writes nothing. An instance that is replaced keeps its ttl and its health. The error
// wraps [discovery.ErrInvalid] for an instance that cannot be taken. The revision is that after the write.
func (c *Catalog) PutInstances(ctx context.Context, ins []discovery.Instance) (discovery.Revision, error) {
	return c.put(ctx, ins, record{keep: true})
}

// PutLeased is [Catalog.PutInstances] for instances that live only as long as they are renewed: the ttl is
// stored with them, so that their leases begin anew after a restart. With ttl 0 they stay until deleted. A
// registration is a sign of life, so what was unhealthy is up again; what was suspect the lease has to say, so that a
// process which connects again writes nothing, and one that flaps is not told as up each time.
func (c *Catalog) PutLeased(ctx context.Context, ins []discovery.Instance, ttl time.Duration) (discovery.Revision, error) {
	return c.lease(ctx, ins, ttl, false)
}

// PutOwned is [Catalog.PutLeased] for a process that registers its own instances. The error wraps [ErrDeleted], and none
// is written, if an operator removed one of them: see [Catalog.Deleted].
func (c *Catalog) PutOwned(ctx context.Context, ins []discovery.Instance, ttl time.Duration) (discovery.Revision, error) {
	return c.lease(ctx, ins, ttl, true)
}

func (c *Catalog) lease(ctx context.Context, ins []discovery.Instance, ttl time.Duration, owned bool) (discovery.Revision, error) {
	ms := ttl.Milliseconds()
	if ms < 0 || ms > math.MaxUint32 || ttl > 0 && ms == 0 {
		return discovery.Revision{}, discovery.Invalid("ttl", ttl.String(), "want 1ms to 1193h, or 0 for none")
	}
	return c.put(ctx, ins, record{ttl: uint32(ms), owned: owned})
}

// put writes the instances in the manner of like.
func (c *Catalog) put(ctx context.Context, ins []discovery.Instance, like record) (discovery.Revision, error) {
	records := make([]record, len(ins))
	for i, in := range ins {
		r, err := newRecord(in, like)
		if err != nil {
			return discovery.Revision{}, err
		}
		records[i] = r
	}
	return c.write(ctx, func(d *draft, b *store.Batch) (uint64, error) { return d.putInstances(b, records) })
}

// write gives the revision of a write that went well. That of one which nobody waited for is not looked at: it may
// still be under way.
func (c *Catalog) write(ctx context.Context, op func(*draft, *store.Batch) (uint64, error)) (discovery.Revision, error) {
	var at uint64
	err := c.do(ctx, func(d *draft, b *store.Batch) (err error) {
		at, err = op(d, b)
		return err
	})
	if err != nil {
		return discovery.Revision{}, err
	}
	return c.at(at), nil
}

func newRecord(in discovery.Instance, like record) (record, error) {
	in, err := Normalize(in)
	if err != nil {
		return record{}, err
	}
	in.Labels = maps.Clone(in.Labels)
	value, err := encodeInstance(in, like.ttl)
	if err != nil {
		return record{}, fmt.Errorf("instance %q: %w: %w", in.ID, discovery.ErrInvalid, err)
	}
	if len(value) > MaxInstance {
		return record{}, discovery.Invalid("id", in.ID, strconv.Itoa(len(value))+" bytes in all, want at most 8192")
	}
	return record{in, like.ttl, like.keep, like.owned, value}, nil
}

// putInstances checks everything before it changes anything.
func (d *draft) putInstances(b *store.Batch, records []record) (uint64, error) {
	changes := make(map[InstanceKey]record, len(records))
	added := make(map[discovery.Name]int)
	for _, r := range records {
		key := KeyOf(r.in)
		old := d.service(key.Service).instance(key.ID)
		if r.owned && d.service(key.Service).deleted(key.ID, r.in.Process) {
			return 0, fmt.Errorf("instance%s: %w", nameKeys([]InstanceKey{key}), ErrDeleted)
		}
		if _, twice := changes[key]; old == nil && !twice {
			added[key.Service]++
		}
		if r.keep && old != nil {
			r.ttl = old.ttl
			binary.BigEndian.PutUint32(r.value[8:], r.ttl)
		}
		changes[key] = r
	}
	for name, n := range added {
		if s := d.service(name); s != nil && len(s.instances)+n > MaxInstances || n > MaxInstances {
			return 0, discovery.Invalid("service", name.String(), "it has 10000 instances, and no more are taken")
		}
	}
	maps.DeleteFunc(changes, func(key InstanceKey, r record) bool { return d.service(key.Service).instance(key.ID).same(r) })
	if len(changes) == 0 {
		return d.revision, nil
	}
	revision := d.next(b)
	for key, r := range changes {
		d.put(key, r, revision)
		setRevision(r.value, revision)
		b.Put(instanceKey(key.Service, key.ID), r.value)
	}
	return revision, nil
}

func (d *draft) put(key InstanceKey, r record, revision uint64) {
	s := d.edit(key.Service)
	in := &instance{Instance: r.in, written: r.in.State, health: discovery.Up, ttl: r.ttl, revision: revision}
	if old := s.instance(key.ID); old != nil && (r.keep || r.ttl > 0 && old.health == discovery.Suspect) {
		in = in.with(old.health, revision)
	}
	s.put(in)
}

// same reports whether the record would change nothing. in may be nil.
func (in *instance) same(r record) bool {
	if in == nil {
		return false
	}
	a, b := in.Instance, r.in
	a.State = in.written
	labels := maps.Equal(a.Labels, b.Labels)
	a.Labels, b.Labels = nil, nil
	healthy := r.keep || in.health == discovery.Up || r.ttl > 0 && in.health == discovery.Suspect
	return labels && healthy && in.ttl == r.ttl && sameFields(a, b)
}

// sameFields compares instances without labels. Ready is never stored.
func sameFields(a, b discovery.Instance) bool {
	return a.ID == b.ID && a.Service == b.Service && a.Namespace == b.Namespace && a.Process == b.Process &&
		a.Address == b.Address && a.Protocol == b.Protocol && a.HTTP2 == b.HTTP2 && a.TLS == b.TLS &&
		a.Weight == b.Weight && a.Locality == b.Locality && a.State == b.State
}

// with gives the instance with another health. A written state that takes it out of service wins over the
// lease's word.
func (in *instance) with(health discovery.State, revision uint64) *instance {
	c := *in
	c.health, c.revision = health, revision
	c.State = c.written
	if c.written == discovery.Up {
		c.State = health
	}
	return &c
}

// DeleteInstances removes instances and returns once that is on disk. Keys that are not there are passed over;
// if none is there the error is [ErrNotFound]. With the reason [discovery.Expired] only instances that are
// unhealthy at that moment go: one that came back in the meantime stays.
func (c *Catalog) DeleteInstances(ctx context.Context, keys []InstanceKey, reason discovery.Reason) (discovery.Revision, error) {
	return c.write(ctx, func(d *draft, b *store.Batch) (uint64, error) { return d.deleteInstances(b, keys, reason) })
}

func (d *draft) deleteInstances(b *store.Batch, keys []InstanceKey, reason discovery.Reason) (uint64, error) {
	there := slices.DeleteFunc(slices.Clone(keys), func(key InstanceKey) bool {
		in := d.service(key.Service).instance(key.ID)
		return in == nil || reason == discovery.Expired && in.health != discovery.Unhealthy
	})
	if len(there) == 0 {
		return 0, fmt.Errorf("instance%s: %w", nameKeys(keys), ErrNotFound)
	}
	revision := d.next(b)
	for _, key := range there {
		d.edit(key.Service).remove(key.ID, reason, revision)
		b.Delete(instanceKey(key.Service, key.ID))
	}
	return revision, nil
}

func nameKeys(keys []InstanceKey) string {
	if len(keys) != 1 {
		return "s"
	}
	return fmt.Sprintf(" %q of service %s", keys[0].ID, keys[0].Service)
}

// SetStates changes what leases say of instances, in memory only: after a restart every instance is up until
// its lease says otherwise. An instance that is not there, or in that state already, is passed over. It waits
// for a write under way, but not for a disk of its own. The revision is that after the change.
func (c *Catalog) SetStates(changes []StateChange) discovery.Revision {
	c.writing.Lock()
	d := newDraft(c)
	if d.revision >= d.ceiling {
		c.log.Error("catalog: states are frozen, because the store takes no new revisions")
	} else if d.setStates(changes) {
		c.publish(d)
	}
	c.writing.Unlock()
	c.notifier.wake()
	return c.at(d.revision)
}

func (d *draft) setStates(changes []StateChange) (changed bool) {
	for _, ch := range changes {
		in := d.service(ch.Service).instance(ch.ID)
		if in == nil || in.health == ch.State || !isHealth(ch.State) {
			continue
		}
		if !changed {
			d.revision++
			changed = true
		}
		d.edit(ch.Service).put(in.with(ch.State, d.revision))
	}
	return changed
}

func isHealth(s discovery.State) bool {
	return s == discovery.Up || s == discovery.Suspect || s == discovery.Unhealthy
}

// next takes the next revision for a write, and sets more of them aside when few are left.
func (d *draft) next(b *store.Batch) uint64 {
	d.revision++
	d.reserve(b)
	return d.revision
}

func (d *draft) reserve(b *store.Batch) {
	if d.revision+revisionStep/2 > d.ceiling {
		d.ceiling = d.revision + revisionStep
		b.Put(ceilingKey, binary.BigEndian.AppendUint64(nil, d.ceiling))
	}
}

// Leased is an instance with a ttl.
type Leased struct {
	InstanceKey
	TTL time.Duration
}

// Leased lists the instances that have a ttl, sorted, so that leases can begin anew after a start.
func (c *Catalog) Leased() []Leased {
	var out []Leased
	for _, s := range c.snapshot(nil) {
		for _, in := range s.instances {
			if in.ttl > 0 {
				out = append(out, Leased{InstanceKey{s.name, in.ID}, time.Duration(in.ttl) * time.Millisecond})
			}
		}
	}
	return out
}
