package session

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"unique"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

// The codes of a Refusal.
const (
	codeInvalid     = "invalid"     // the instance can never be taken as it is
	codeForbidden   = "forbidden"   // it belongs to somebody else
	codeUnavailable = "unavailable" // try again later
	codeDeleted     = "deleted"     // an operator removed it; only a new process, or the operator, brings it back
)

// maxOwned bounds the instances of one process.
const maxOwned = 1000

// owned are the instances that a session has registered, sorted by id and service.
type owned struct {
	mu   sync.Mutex
	list []holding
}

// holding is one of them, in 24 bytes: there are as many as instances.
type holding struct {
	id      string
	service unique.Handle[discovery.Name]
}

func (h holding) key() catalog.InstanceKey {
	return catalog.InstanceKey{Service: h.service.Value(), ID: h.id}
}

func (h holding) compare(key catalog.InstanceKey) int {
	if c := strings.Compare(h.id, key.ID); c != 0 {
		return c
	}
	name := h.service.Value()
	return cmp.Or(strings.Compare(name.Namespace, key.Service.Namespace), strings.Compare(name.Service, key.Service.Service))
}

// add takes a key up to the bound. The list grows by less than append would let it: it is kept for long.
func (o *owned) add(key catalog.InstanceKey) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	i, there := slices.BinarySearchFunc(o.list, key, holding.compare)
	if there {
		return true
	}
	n := len(o.list)
	if n >= maxOwned {
		return false
	}
	if n == cap(o.list) {
		o.list = append(slices.Grow([]holding(nil), n+max(1, n/16)), o.list...)
	}
	o.list = slices.Insert(o.list, i, holding{key.ID, unique.Make(key.Service)})
	return true
}

func (o *owned) remove(keys []catalog.InstanceKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		if i, there := slices.BinarySearchFunc(o.list, key, holding.compare); there {
			o.list = slices.Delete(o.list, i, i+1)
		}
	}
}

// find gives the keys with an id, one a service.
func (o *owned) find(id string) (keys []catalog.InstanceKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	i, _ := slices.BinarySearchFunc(o.list, id, func(h holding, id string) int { return strings.Compare(h.id, id) })
	for ; i < len(o.list) && o.list[i].id == id; i++ {
		keys = append(keys, o.list[i].key())
	}
	return keys
}

// keys lists them.
func (o *owned) keys() []catalog.InstanceKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]catalog.InstanceKey, len(o.list))
	for i, h := range o.list {
		out[i] = h.key()
	}
	return out
}

// register takes the instances that may be registered and refuses the others, each with its reason. It does not wait:
// done is called when what was taken is on disk.
func (ss *session) register(m *weftv1.Register, done func([]*weftv1.Refusal)) {
	var refusals []*weftv1.Refusal
	taken := make([]catalog.Registration, 0, len(m.GetInstances()))
	keys := make([]catalog.InstanceKey, 0, len(m.GetInstances()))
	for _, wire := range m.GetInstances() {
		r, code, err := ss.admit(wire)
		if err != nil {
			refusals = append(refusals, refusal(wire.GetId(), code, err))
			continue
		}
		taken, keys = append(taken, r), append(keys, r.Key())
	}
	if len(taken) == 0 {
		done(refusals)
		return
	}
	begin := func(keys []catalog.InstanceKey) { ss.lease.Add(keys...) } // after it is known to be taken: until then somebody else may have it
	ss.srv.cat.Submit(ss.stream.Context(), taken, begin, func(refused []*catalog.Refused, err error) {
		refusals = append(refusals, ss.refused(refused)...)
		if err != nil {
			refusals = append(refusals, ss.failed(keys, refused, err)...)
		}
		ss.srv.unclaim(ss, keys)
		done(refusals)
	})
}

// refused gives up what the catalog refused: it was deleted or registered by REST since admit looked, or there is no room.
func (ss *session) refused(refused []*catalog.Refused) (out []*weftv1.Refusal) {
	for _, no := range refused {
		out = append(out, refusal(no.Key.ID, codeOf(no), no))
		ss.give(no.Key)
	}
	return out
}

// failed refuses all that the catalog did not, as the write failed.
func (ss *session) failed(keys []catalog.InstanceKey, refused []*catalog.Refused, err error) (out []*weftv1.Refusal) {
	for _, key := range keys {
		if slices.ContainsFunc(refused, func(no *catalog.Refused) bool { return no.Key == key }) {
			continue
		}
		out = append(out, refusal(key.ID, codeOf(err), err))
		if !ss.srv.cat.Has(key) {
			ss.give(key) // it never came to be: renew must not miss it
		}
	}
	return out
}

// renew keeps the instances of the session alive. A process that was silent for so long that its instances expired, while
// its connection held, is told to connect again: then it registers them anew. What an operator deleted stays deleted.
func (ss *session) renew() error {
	if ss.lease.Renew() {
		return nil
	}
	return status.Error(codes.Unavailable, "an instance expired while the process was silent: connect again")
}

// mine leaves out what somebody else has put in the place of an instance.
func (ss *session) mine(keys []catalog.InstanceKey) []catalog.InstanceKey {
	return slices.DeleteFunc(keys, func(key catalog.InstanceKey) bool {
		process, ok := ss.srv.cat.Process(key)
		return ok && process != ss.hello.GetProcess()
	})
}

// give ends the session's hold of instances.
func (ss *session) give(keys ...catalog.InstanceKey) {
	ss.owned.remove(keys)
	ss.lease.Remove(keys...)
}

// admit checks one instance and claims it until its registration is over.
func (ss *session) admit(wire *weftv1.Instance) (r catalog.Registration, code string, err error) {
	r, err = catalog.NewRegistration(catalog.FromWire(wire), ss.srv.opt.TTL)
	if err != nil {
		return r, codeInvalid, err
	}
	if r.Process() != ss.hello.GetProcess() {
		return r, codeForbidden, fmt.Errorf("process %.140q: want that of the session, %q", r.Process(), ss.hello.GetProcess())
	}
	key := r.Key()
	if !ss.mayRegister(key.Service) {
		return r, codeForbidden, fmt.Errorf("service %s: token %q of this session of %s may not register it", key.Service, ss.grant.Name, ss.own())
	}
	if other := ss.srv.claim(ss, key); other != "" {
		return r, codeForbidden, fmt.Errorf("id %q: another live process is registering it, %q", key.ID, other)
	}
	if code, err = ss.available(key); err != nil {
		ss.srv.unclaim(ss, []catalog.InstanceKey{key})
	}
	return r, code, err
}

// available takes an instance, which is claimed, unless it is somebody else's or one too many.
func (ss *session) available(key catalog.InstanceKey) (code string, err error) {
	process := ss.hello.GetProcess()
	owner, err := ss.srv.cat.Owner(key, process)
	if owner != "" && owner != process && ss.srv.owner(owner) != nil {
		return codeForbidden, fmt.Errorf("id %q: another live process has registered it, %q", key.ID, owner)
	}
	if err != nil {
		return codeForbidden, fmt.Errorf("id %q: %w", key.ID, err)
	}
	if ss.srv.cat.Deleted(key, process) {
		return codeDeleted, fmt.Errorf("id %q: an operator removed this instance; restart the process or put it back by REST", key.ID)
	}
	if !ss.owned.add(key) {
		return codeInvalid, fmt.Errorf("id %q: want at most %d instances in a process", key.ID, maxOwned)
	}
	return "", nil
}

// own is the service that the process says it is.
func (ss *session) own() discovery.Name {
	return discovery.Name{Service: ss.hello.GetService(), Namespace: ss.hello.GetNamespace()}
}

// mayRegister reports whether the token reaches a service, and the one that the process claims to be.
func (ss *session) mayRegister(service discovery.Name) bool {
	own := ss.own()
	may := func(name discovery.Name) bool { return ss.srv.may(ss.grant, name) }
	return !ss.bound || may(service) && (own.Service == "" || own == service || may(own))
}

func refusal(id, code string, err error) *weftv1.Refusal {
	return &weftv1.Refusal{Id: id, Code: code, Message: err.Error()}
}

func codeOf(err error) string {
	switch {
	case errors.Is(err, discovery.ErrInvalid):
		return codeInvalid
	case errors.Is(err, catalog.ErrDeleted):
		return codeDeleted
	case errors.Is(err, catalog.ErrTaken), errors.Is(err, catalog.ErrInUse):
		return codeForbidden
	}
	return codeUnavailable
}

// deregister removes instances of the process. One that is not there is removed already.
func (ss *session) deregister(m *weftv1.Deregister, done func([]*weftv1.Refusal)) {
	var keys []catalog.InstanceKey
	for _, id := range m.GetIds() {
		keys = append(keys, ss.find(id)...)
	}
	if len(keys) == 0 {
		done(nil)
		return
	}
	ss.ops.Go(func() { done(ss.remove(keys)) })
}

// remove waits for the disk.
func (ss *session) remove(keys []catalog.InstanceKey) (refusals []*weftv1.Refusal) {
	_, err := ss.srv.cat.DeleteInstances(ss.stream.Context(), keys, discovery.Deregistered)
	if err == nil || errors.Is(err, catalog.ErrNotFound) {
		ss.give(keys...)
		return nil
	}
	for _, key := range keys {
		refusals = append(refusals, refusal(key.ID, codeUnavailable, err))
	}
	return refusals
}

// find gives the instances of the process with an id: those that it registered in this session, or else, after a
// reconnect, in an earlier one under its own service.
func (ss *session) find(id string) []catalog.InstanceKey {
	if keys := ss.owned.find(id); len(keys) > 0 {
		return ss.mine(keys)
	}
	own := ss.own()
	key := catalog.InstanceKey{Service: own, ID: id}
	if process, ok := ss.srv.cat.Process(key); ok && process == ss.hello.GetProcess() {
		return []catalog.InstanceKey{key}
	}
	return nil
}
