package catalog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// ErrNotFound says that there is no such instance, rule or alias.
var ErrNotFound = errors.New("not found")

// ErrDeleted says that an operator removed the instance of a process.
var ErrDeleted = errors.New("an operator removed it")

// ErrTaken says that a process would take over an instance that is not its own, was registered by REST and is up.
var ErrTaken = errors.New("it was registered by REST and is up")

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
	return InstanceKey{discovery.Name{Service: in.Service, Namespace: in.Namespace}, in.ID}
}

// StateChange is what a lease says of an instance.
type StateChange struct {
	Service discovery.Name
	ID      string
	State   discovery.State // up, suspect or unhealthy
}

// manner is how instances are registered.
type manner struct {
	terms Terms
	keep  bool // keep terms and health of the instance that is replaced
	owned bool // its process asks: an operator's word stands
}

// record is an instance on its way into the store.
type record struct {
	manner
	key   InstanceKey
	in    *instance
	old   *instance // what it replaces, nil if nothing; known once it is admitted
	value []byte
}

// PutInstances registers instances or replaces them, all or none, and returns once they are on disk. One that
// is the same already writes nothing. An instance that is replaced keeps its terms and its health; what was ordered
// about it is forgotten. The error wraps [discovery.ErrInvalid] for an instance that cannot be taken, or is a [*Refused].
// The revision is that after the write.
func (c *Catalog) PutInstances(ctx context.Context, ins []discovery.Instance) (discovery.Revision, error) {
	return c.put(ctx, ins, manner{keep: true})
}

// PutTerms is [Catalog.PutInstances] with terms, which are stored with the instances, so that leases and checks begin
// anew after a restart. A registration is a sign of life, so what its lease called unhealthy is up again; what is suspect
// the lease has to say, so that a process which connects again writes nothing, and one that flaps is not told as up each
// time. What a check found stays if the check is the same.
func (c *Catalog) PutTerms(ctx context.Context, ins []discovery.Instance, t Terms) (discovery.Revision, error) {
	return c.put(ctx, ins, manner{terms: t})
}

// PutLeased is [Catalog.PutTerms] with nothing but a ttl.
func (c *Catalog) PutLeased(ctx context.Context, ins []discovery.Instance, ttl time.Duration) (discovery.Revision, error) {
	return c.PutTerms(ctx, ins, Terms{TTL: ttl})
}

// PutOwned is [Catalog.PutLeased] for a process that registers its own instances: what an operator ordered about them
// stands. The error is a [*Refused], and none is written, if an operator removed one of them ([ErrDeleted], see
// [Catalog.Deleted]), or if one of another process, or of none, was registered by REST and is up ([ErrTaken]). Whether
// another process that registered it in a session still lives is the session's to know.
func (c *Catalog) PutOwned(ctx context.Context, ins []discovery.Instance, ttl time.Duration) (discovery.Revision, error) {
	return c.put(ctx, ins, manner{terms: Terms{TTL: ttl}, owned: true})
}

func (c *Catalog) put(ctx context.Context, ins []discovery.Instance, m manner) (_ discovery.Revision, err error) {
	if m.terms, err = m.terms.normalize(); err != nil {
		return discovery.Revision{}, err
	}
	records := make([]record, len(ins))
	for i, in := range ins {
		if records[i], err = newRecord(in, m); err != nil {
			return discovery.Revision{}, err
		}
	}
	return c.write(ctx, func(d *draft, b *store.Batch) (uint64, error) {
		records := lastOfEach(records)
		if _, refused := d.admit(records); len(refused) > 0 {
			return 0, refused[0]
		}
		return d.putInstances(ctx, b, records)
	})
}

// Registration is an instance of a session that was checked and encoded. It is made by [NewRegistration], for one
// [Catalog.Submit].
type Registration struct{ record record }

// NewRegistration checks an instance as [Catalog.PutOwned] does. Its error wraps [discovery.ErrInvalid].
func NewRegistration(in discovery.Instance, ttl time.Duration) (Registration, error) {
	terms, err := Terms{TTL: ttl}.normalize()
	if err != nil {
		return Registration{}, err
	}
	r, err := newRecord(in, manner{terms: terms, owned: true})
	return Registration{r}, err
}

// Key names the instance.
func (r Registration) Key() InstanceKey { return r.record.key }

// Process is the one that the instance says it belongs to.
func (r Registration) Process() string { return r.record.in.process() }

// Submit is [Catalog.PutOwned] for those who do not wait, and takes what can be taken. begin is called with what will
// be written, so that leases can begin; then done with those that were refused, and the error of the write of all others.
// Neither may block or ask the catalog for a write, as they run on goroutines that serve all writers. If nothing can
// be written any more, begin is not called, and done on the goroutine of the caller. ctx withdraws the registrations until
// their turn comes.
func (c *Catalog) Submit(ctx context.Context, rs []Registration, begin func([]InstanceKey), done func(refused []*Refused, err error)) {
	records := make([]record, len(rs))
	for i, r := range rs {
		records[i] = r.record
	}
	var refused []*Refused
	c.committer.Submit(ctx, func(b *store.Batch) (err error) {
		taken, no := c.draft.admit(lastOfEach(records))
		refused = no
		begin(keysOf(taken))
		_, err = c.draft.putInstances(ctx, b, taken)
		return err
	}, func(err error) { done(refused, err) })
}

func newRecord(in discovery.Instance, m manner) (r record, err error) {
	if in, err = Normalize(in); err != nil {
		return r, err
	}
	r = record{manner: m, key: KeyOf(in), in: newInstance(in, m.terms, m.owned)}
	if r.value, err = encodeInstance(r.key.Service, r.in); err != nil {
		return r, fmt.Errorf("instance %q: %w: %w", in.ID, discovery.ErrInvalid, err)
	}
	if len(r.value) > MaxInstance {
		return r, discovery.Invalid("id", in.ID, strconv.Itoa(len(r.value))+" bytes in all, want at most 8192")
	}
	return r, nil
}

func keysOf(records []record) []InstanceKey {
	keys := make([]InstanceKey, len(records))
	for i, r := range records {
		keys[i] = r.key
	}
	return keys
}

// putInstances writes records that were admitted.
func (d *draft) putInstances(ctx context.Context, b *store.Batch, records []record) (uint64, error) {
	changed := records[:0]
	for _, r := range records {
		if err := d.replace(&r, r.old); err != nil {
			return 0, err
		}
		if !r.old.same(r.in) {
			changed = append(changed, r)
		}
	}
	if len(changed) == 0 {
		return d.revision, nil
	}
	return d.writeInstances(ctx, b, changed), nil
}

// lastOfEach leaves out records that a later one of the same instance replaces.
func lastOfEach(records []record) []record {
	if len(records) < 2 {
		return records
	}
	last := make(map[InstanceKey]int, len(records))
	for i, r := range records {
		last[r.key] = i
	}
	out := make([]record, 0, len(last))
	for i, r := range records {
		if last[r.key] == i {
			out = append(out, r)
		}
	}
	return out
}

// admit tells the records that can be taken from those that cannot. It changes nothing.
func (d *draft) admit(records []record) (taken []record, refused []*Refused) {
	room := room{d: d}
	taken = records[:0]
	for _, r := range records {
		r.old = d.service(r.key.Service).instance(r.key.ID)
		if err := d.admitOne(r, &room); err != nil {
			refused = append(refused, &Refused{r.key, err})
		} else {
			taken = append(taken, r)
		}
	}
	return taken, refused
}

func (d *draft) admitOne(r record, room *room) error {
	if err := d.notAlias(r.key.Service); err != nil {
		return err
	}
	switch {
	case r.old == nil && r.owned && d.order(r.key).deletes(r.in.process()):
		return ErrDeleted
	case r.old == nil:
		return room.take(r.key.Service)
	case r.owned:
		return r.old.yields(r.in.process())
	}
	return nil
}

// yields reports, with an error, that a process may not have an instance that is there, because it was registered by REST
// and is up.
func (in *instance) yields(process string) error {
	if !in.owned && in.process() != process && in.health == up {
		return ErrTaken
	}
	return nil
}

// replace gives the record what it keeps of the instance that it replaces, and its order. old may be nil.
func (d *draft) replace(r *record, old *instance) (err error) {
	if old != nil {
		if r.keep {
			r.in = r.in.withTerms(old)
			if r.value, err = encodeInstance(r.key.Service, r.in); err != nil {
				return fmt.Errorf("instance %q: %w: %w", r.key.ID, discovery.ErrInvalid, err)
			}
		}
		if !r.keep && r.in.ttl > 0 && old.health == suspect {
			r.in.health = suspect
		}
		r.in.failing = old.failing && sameCheck(old.check(), r.in.check())
	}
	if o := d.order(r.key); o != nil && r.owned && o.Process == r.in.process() {
		r.in = r.in.ordered(o.resting(false))
	}
	return nil
}

func (d *draft) writeInstances(ctx context.Context, b *store.Batch, records []record) uint64 {
	revision := d.next(b)
	log := d.c.auditor(ctx, b, revision)
	for _, r := range records {
		d.enter(r, revision)
		if o := r.in.order(); o != nil {
			d.setOrder(r.key, o)
		} else {
			d.dropOrder(b, r.key)
		}
		b.Put(instanceKey(r.in.number), r.value)
		log.instance("put", r.key, r.in.address())
	}
	return revision
}

// enter puts a record into memory. A new instance gets the next number.
func (d *draft) enter(r record, revision uint64) {
	r.in.revision = revision
	if r.old != nil {
		r.in.number = r.old.number
	} else {
		d.number++
		r.in.number = d.number
	}
	d.put(r.key.Service, r.in)
}

// DeleteInstances removes instances and returns once that is on disk. Keys that are not there are passed over;
// if none is there the error is [ErrNotFound]. With the reason [discovery.Deleted], that of an operator, the same process
// cannot register it again: see [Catalog.Deleted]. With [discovery.Expired] only instances whose lease says unhealthy at
// that moment go: one that came back in the meantime stays.
func (c *Catalog) DeleteInstances(ctx context.Context, keys []InstanceKey, reason discovery.Reason) (discovery.Revision, error) {
	return c.write(ctx, func(d *draft, b *store.Batch) (uint64, error) {
		there := d.removable(keys, reason)
		if len(there) == 0 {
			return 0, fmt.Errorf("instance%s: %w", nameKeys(keys), ErrNotFound)
		}
		return d.deleteInstances(ctx, b, there, reason), nil
	})
}

func (d *draft) removable(keys []InstanceKey, reason discovery.Reason) []InstanceKey {
	return slices.DeleteFunc(slices.Clone(keys), func(key InstanceKey) bool {
		in := d.service(key.Service).instance(key.ID)
		return in == nil || reason == discovery.Expired && in.health != unhealthy
	})
}

func (d *draft) deleteInstances(ctx context.Context, b *store.Batch, keys []InstanceKey, reason discovery.Reason) uint64 {
	revision := d.next(b)
	log := d.c.auditor(ctx, b, revision)
	for _, key := range keys {
		in := d.service(key.Service).instance(key.ID)
		if in == nil {
			continue // given twice
		}
		d.remove(key.Service, in, reason)
		b.Delete(instanceKey(in.number))
		switch {
		case in.process() == "": // it does not come back by itself
			d.dropOrder(b, key)
		case reason == discovery.Deleted:
			d.storeOrder(b, key, &order{Process: in.process(), Deleted: true, idle: true, revision: revision})
		}
		log.instance("delete", key, string(reason))
	}
	d.pruneOrders(b)
	return revision
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
	return c.inMemory(changes, func(in *instance, s state) *instance { return in.withHealth(s, in.failing) })
}

// inMemory makes changes of health.
func (c *Catalog) inMemory(changes []StateChange, with func(*instance, state) *instance) discovery.Revision {
	c.writing.Lock()
	d := newDraft(c)
	if d.revision >= d.ceiling {
		c.log.Error("catalog: states are frozen, because the store takes no new revisions")
	} else if d.setHealth(changes, with) {
		c.publish(d)
	}
	c.writing.Unlock()
	c.wake()
	return c.at(d.revision)
}

func (d *draft) setHealth(changes []StateChange, with func(*instance, state) *instance) (changed bool) {
	for _, ch := range changes {
		in := d.service(ch.Service).instance(ch.ID)
		s, ok := stateOf(ch.State)
		if in == nil || !ok || s != up && s != suspect && s != unhealthy {
			continue
		}
		next := with(in, s)
		if next.same(in) {
			continue
		}
		if !changed {
			d.revision++
			changed = true
		}
		next.revision = d.revision
		d.put(ch.Service, next)
	}
	return changed
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
		for in := range s.instances.all() {
			if in.ttl > 0 {
				out = append(out, Leased{InstanceKey{s.name, in.id()}, time.Duration(in.ttl) * time.Millisecond})
			}
		}
	}
	return out
}
