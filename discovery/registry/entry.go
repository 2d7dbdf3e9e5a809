package registry

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session"
	"github.com/weftmesh/weft/rule"
)

// entry is one service that is watched: the one subscription that all its watchers share.
type entry struct {
	source  *Source
	service string
	users   int           // guarded by the source's mutex
	cancel  func()        // of the subscription; guarded by the source's mutex
	due     time.Time     // when the cache may answer
	known   chan struct{} // closed when there is something to deliver

	mu       sync.Mutex // held while watchers are told, so that each is told one thing after the other
	snapshot discovery.Snapshot
	rules    ruleSet
	refused  []rule.Nack // by watchers
	guard    discovery.Guard
	cached   bool // the cache has had something, or is to have it
	watchers []*func(discovery.Snapshot)
	rulers   []*ruleWatcher
}

// acquire returns the entry of a service, subscribing to it if this is its first user. release must follow.
func (s *Source) acquire(name string) (*entry, error) {
	parsed, err := discovery.ParseName(name, s.opts.Namespace)
	if err != nil {
		return nil, err
	}
	service := parsed.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[service]
	if e == nil {
		e = &entry{source: s, service: service, due: time.Now().Add(headStart), known: make(chan struct{})}
		e.snapshot = discovery.Snapshot{Service: service, Stale: true}
		s.entries[service] = e
		e.cancel = s.session.Subscribe(service, e.load(), e.update)
	}
	e.users++
	return e, nil
}

func (s *Source) release(e *entry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.users--
	if e.users == 0 {
		delete(s.entries, e.service)
		e.cancel()
	}
}

// load takes what the cache has, without delivering it, and returns from which revision on updates are wanted.
func (e *entry) load() session.Revision {
	if e.source.saver == nil {
		return session.Revision{}
	}
	state, err := e.source.saver.load(e.service)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.source.log.Warn("the cache of a service cannot be used", "service", e.service, "error", err)
		}
		return session.Revision{}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cached = true
	e.snapshot.Revision, e.snapshot.Instances, e.snapshot.Alias = state.Revision, state.Instances, state.Alias
	e.rules = readRules(ruleSet{}, state.Rules)
	e.guard.Apply(e.snapshot)
	if state.Revision.Number == 0 {
		return session.Revision{}
	}
	// One before what is known: the registry does not answer who knows everything, but an answer is how we learn that
	// the cache is right. Updates are absolute, so the overlap does no harm.
	return session.Revision{Epoch: state.Revision.Epoch, Number: state.Revision.Number - 1}
}

// awaitKnown gives the registry its head start, then delivers what the cache has, if anything.
func (e *entry) awaitKnown(ctx context.Context) {
	wait := time.Until(e.due)
	if e.source.LastError() != nil {
		wait = 0
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-e.known:
	case <-ctx.Done():
	case <-e.source.closed:
	case <-timer.C:
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.cached && e.first() {
			e.tellRules()
			e.tell()
		}
	}
}

// first reports whether nothing was known before, and marks that something is now.
func (e *entry) first() bool {
	if e.isKnown() {
		return false
	}
	close(e.known)
	return true
}

func (e *entry) isKnown() bool {
	select {
	case <-e.known:
		return true
	default:
		return false
	}
}

// update applies an update of the session: rules first.
func (e *entry) update(u *weftv1.Update) []*weftv1.Nack {
	e.mu.Lock()
	defer e.mu.Unlock()
	old, first := e.snapshot, e.first()
	e.snapshot = merge(old, u)
	if u.GetHasRules() {
		e.rules = readRules(e.rules, u.GetRules())
		for _, n := range e.rules.unread {
			e.source.log.Warn("a rule cannot be used; its last good version stays, if there is one", "kind", n.Kind,
				"namespace", n.Namespace, "name", n.Name, "revision", n.Revision, "error", n.Reason)
		}
	}
	if first || u.GetHasRules() {
		e.tellRules()
	}
	if first || u.GetSnapshot() || len(u.GetInstances())+len(u.GetRemovals()) > 0 || old.Stale || old.Missing != e.snapshot.Missing || old.Alias != e.snapshot.Alias {
		e.tell()
	}
	e.save()
	return e.nacks()
}

func (e *entry) tell() {
	for _, apply := range slices.Clone(e.watchers) {
		(*apply)(e.snapshot)
	}
}

func (e *entry) tellRules() {
	e.refused = nil
	for _, w := range slices.Clone(e.rulers) {
		e.refused = append(e.refused, w.set(e.service, e.snapshot.Revision.Epoch, e.rules)...)
	}
}

// nacks are all rules of the service that stand refused.
func (e *entry) nacks() []*weftv1.Nack {
	return wireNacks(slices.Concat(e.rules.unread, e.refused))
}

// save queues the state for the cache: what is believed of it, so that an empty push does not empty the cache either.
func (e *entry) save() {
	if e.source.saver == nil {
		return
	}
	view := e.guard.Apply(e.snapshot)
	state := discovery.Cached{
		Service: e.service, Revision: e.snapshot.Revision, Instances: view.Instances, Rules: e.rules.texts(), SavedAt: time.Now(),
		Alias: e.snapshot.Alias,
	}
	if len(view.Instances)+len(view.Kept) != len(e.snapshot.Instances) {
		state.Instances = slices.Concat(view.Instances, view.Kept)
		slices.SortFunc(state.Instances, byID)
		state.Revision = discovery.Revision{} // it is the state of none, so that all of it is asked for
	}
	if len(e.rules.unread) > 0 { // a newer program may be able to read them: it has to be sent them again
		state.Revision = discovery.Revision{}
	}
	if e.cached || len(state.Instances)+len(state.Rules)+len(state.Alias) > 0 { // names that do not exist make no files
		e.cached = true
		e.source.saver.put(state)
	}
}

// Watch implements discovery.Source. A service without a namespace is looked for in the options' one. apply must not
// wait for anything else of the source, such as a registration.
func (s *Source) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
	e, err := s.acquire(service)
	if err != nil {
		return err
	}
	defer s.release(e)
	e.addWatcher(&apply)
	defer e.removeWatcher(&apply)
	e.awaitKnown(ctx)
	return s.wait(ctx)
}

// WatchRules implements rule.Source. apply must not wait for anything else of the source.
func (s *Source) WatchRules(ctx context.Context, services []string, apply func([]rule.Rule) []rule.Nack) error {
	entries := map[*entry]bool{}
	for _, service := range services {
		e, err := s.acquire(service)
		if err != nil {
			s.releaseAll(entries)
			return err
		}
		if entries[e] {
			s.release(e)
		}
		entries[e] = true
	}
	defer s.releaseAll(entries)
	w := &ruleWatcher{apply: apply, wants: len(entries), parts: map[string][]rule.Rule{}}
	if len(entries) == 0 {
		apply(nil)
	}
	for e := range entries {
		e.addRuler(w)
		defer e.removeRuler(w)
	}
	for e := range entries {
		e.awaitKnown(ctx)
	}
	return s.wait(ctx)
}

func (s *Source) releaseAll(entries map[*entry]bool) {
	for e := range entries {
		s.release(e)
	}
}

func (s *Source) wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closed:
		return ErrClosed
	}
}

func (e *entry) addWatcher(apply *func(discovery.Snapshot)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watchers = append(e.watchers, apply)
	if e.isKnown() {
		(*apply)(e.snapshot)
	}
}

// removeWatcher also waits for a delivery under way, so that there is none after Watch has returned.
func (e *entry) removeWatcher(apply *func(discovery.Snapshot)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.watchers = slices.DeleteFunc(e.watchers, func(w *func(discovery.Snapshot)) bool { return w == apply })
}

func (e *entry) addRuler(w *ruleWatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rulers = append(e.rulers, w)
	if !e.isKnown() {
		return
	}
	if refused := w.set(e.service, e.snapshot.Revision.Epoch, e.rules); len(refused) > 0 {
		e.refused = append(e.refused, refused...)
		e.source.session.Nack(e.service, e.nacks())
	}
}

func (e *entry) removeRuler(w *ruleWatcher) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.rulers = slices.DeleteFunc(e.rulers, func(o *ruleWatcher) bool { return o == w })
}
