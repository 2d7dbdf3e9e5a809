package session

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

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

// owned are the instances that a session has registered, by id and service.
type owned struct {
	mu  sync.Mutex
	set map[catalog.InstanceKey]struct{}
}

// add takes a key up to the bound.
func (o *owned) add(key catalog.InstanceKey) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, there := o.set[key]; !there && len(o.set) >= maxOwned {
		return false
	}
	if o.set == nil {
		o.set = make(map[catalog.InstanceKey]struct{})
	}
	o.set[key] = struct{}{}
	return true
}

func (o *owned) remove(keys []catalog.InstanceKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		delete(o.set, key)
	}
}

// find gives the keys with an id, one a service.
func (o *owned) find(id string) (keys []catalog.InstanceKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for key := range o.set {
		if key.ID == id {
			keys = append(keys, key)
		}
	}
	return keys
}

// keys lists them, sorted.
func (o *owned) keys() []catalog.InstanceKey {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]catalog.InstanceKey, 0, len(o.set))
	for key := range o.set {
		out = append(out, key)
	}
	slices.SortFunc(out, func(a, b catalog.InstanceKey) int {
		return cmp.Or(strings.Compare(a.Service.String(), b.Service.String()), strings.Compare(a.ID, b.ID))
	})
	return out
}

// register takes the instances that may be registered and refuses the others, each with its reason.
func (ss *session) register(m *weftv1.Register) (refusals []*weftv1.Refusal) {
	var taken []discovery.Instance
	for _, wire := range m.GetInstances() {
		in, code, err := ss.admit(wire)
		if err != nil {
			refusals = append(refusals, refusal(wire.GetId(), code, err))
			continue
		}
		taken = append(taken, in)
	}
	if len(taken) == 0 {
		return refusals
	}
	for _, in := range taken {
		ss.lease.Add(catalog.KeyOf(in)) // before the write: see Add
	}
	_, err := ss.srv.cat.PutOwned(ss.stream.Context(), taken, ss.srv.opt.TTL)
	if errors.Is(err, catalog.ErrDeleted) { // since admit looked: it refuses that one now
		return ss.register(m)
	}
	if err != nil {
		for _, in := range taken {
			refusals = append(refusals, refusal(in.ID, codeOf(err), err))
			if key := catalog.KeyOf(in); !ss.srv.cat.Has(key) {
				ss.give(key) // it never came to be: renew must not miss it
			}
		}
	}
	return refusals
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
		in, ok := ss.srv.cat.Written(key.Service, key.ID)
		return ok && in.Process != ss.hello.GetProcess()
	})
}

// give ends the session's hold of instances.
func (ss *session) give(keys ...catalog.InstanceKey) {
	ss.owned.remove(keys)
	ss.lease.Remove(keys...)
	ss.srv.unclaim(ss, keys)
}

// admit checks one instance.
func (ss *session) admit(wire *weftv1.Instance) (in discovery.Instance, code string, err error) {
	in, err = catalog.Normalize(catalog.FromWire(wire))
	if err != nil {
		return in, codeInvalid, err
	}
	if in.Process != ss.hello.GetProcess() {
		return in, codeForbidden, fmt.Errorf("process %.140q: want that of the session, %q", in.Process, ss.hello.GetProcess())
	}
	key := catalog.KeyOf(in)
	if !ss.mayRegister(key.Service) {
		return in, codeForbidden, fmt.Errorf("service %s: token %q of this session of %s may not register it", key.Service, ss.grant.Name, ss.own())
	}
	if old, ok := ss.srv.cat.Written(key.Service, key.ID); ok {
		if old.Process != in.Process && ss.srv.owner(old.Process) != nil {
			return in, codeForbidden, fmt.Errorf("id %q: another live process has registered it, %q", in.ID, old.Process)
		}
		in.State = keepIsolated(old, in)
	}
	if ss.srv.cat.Deleted(key, in.Process) {
		return in, codeDeleted, fmt.Errorf("id %q: an operator removed this instance; restart the process or put it back by REST", in.ID)
	}
	if other := ss.srv.claim(ss, key); other != "" {
		return in, codeForbidden, fmt.Errorf("id %q: another live process is registering it, %q", in.ID, other)
	}
	if !ss.owned.add(key) {
		ss.give(key)
		return in, codeInvalid, fmt.Errorf("id %q: want at most %d instances in a process", in.ID, maxOwned)
	}
	return in, "", nil
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

// keepIsolated gives the state to register: an operator's word outlasts the reconnects of the process.
func keepIsolated(old, in discovery.Instance) discovery.State {
	if old.State == discovery.Isolated && old.Process == in.Process && in.State != discovery.Draining {
		return discovery.Isolated
	}
	return in.State
}

func refusal(id, code string, err error) *weftv1.Refusal {
	return &weftv1.Refusal{Id: id, Code: code, Message: err.Error()}
}

func codeOf(err error) string {
	if errors.Is(err, discovery.ErrInvalid) {
		return codeInvalid
	}
	return codeUnavailable
}

// deregister removes instances of the process. One that is not there is removed already.
func (ss *session) deregister(m *weftv1.Deregister) (refusals []*weftv1.Refusal) {
	var keys []catalog.InstanceKey
	for _, id := range m.GetIds() {
		keys = append(keys, ss.find(id)...)
	}
	if len(keys) == 0 {
		return nil
	}
	_, err := ss.srv.cat.DeleteInstances(ss.stream.Context(), keys, discovery.Deregistered)
	if err != nil && !errors.Is(err, catalog.ErrNotFound) {
		for _, key := range keys {
			refusals = append(refusals, refusal(key.ID, codeUnavailable, err))
		}
		return refusals
	}
	ss.give(keys...)
	return nil
}

// find gives the instances of the process with an id: those that it registered in this session, or else, after a
// reconnect, in an earlier one under its own service.
func (ss *session) find(id string) []catalog.InstanceKey {
	if keys := ss.owned.find(id); len(keys) > 0 {
		return ss.mine(keys)
	}
	own := ss.own()
	if in, ok := ss.srv.cat.Written(own, id); ok && in.Process == ss.hello.GetProcess() {
		return []catalog.InstanceKey{{Service: own, ID: id}}
	}
	return nil
}
