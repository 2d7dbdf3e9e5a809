package weft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/internal/httpweft"
	"github.com/weftmesh/weft/internal/plan"
	"github.com/weftmesh/weft/rule"
	"github.com/weftmesh/weft/telemetry"
)

// services are the callees in use, by the name they were dialled with. A service is watched from its first use until the
// mesh is closed.
type services struct {
	engine    *engine.Engine
	cfg       plan.Config
	namespace string // of the caller
	source    discovery.Source
	rules     []rule.Source
	ctx       context.Context // ends when the mesh is closed
	cancel    context.CancelFunc
	watches   sync.WaitGroup

	byDialled sync.Map // string → *engine.Service

	mu       sync.Mutex // taken before an engine.Service's own; guards what follows
	byFull   map[discovery.Name]*watch
	isClosed bool
}

// maxServices bounds the names a process can dial, which may come from its own callers.
const maxServices = 10_000

var (
	errClosed          = &engine.Refusal{Reason: engine.Closed, Err: errors.New("the mesh is closed")}
	errTooManyServices = errors.New("more than 10000 services were dialled by this process: are service names made from user input?")
)

func newServices(e *engine.Engine, cfg plan.Config, c config) *services {
	s := &services{engine: e, cfg: cfg, namespace: cfg.Caller.Namespace, source: discovery.Merge(c.sources...), byFull: map[discovery.Name]*watch{}}
	for _, src := range c.sources {
		if rs, ok := src.(rule.Source); ok {
			s.rules = append(s.rules, rs)
		}
	}
	if len(c.rules) > 0 {
		s.rules = append(s.rules, fixedRules(c.rules))
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// close ends all watches and waits for them.
func (s *services) close() {
	s.mu.Lock()
	s.isClosed = true
	s.mu.Unlock()
	s.cancel()
	s.watches.Wait()
}

// ServiceForHost finds the service that the host of a URL names; ours is false for hosts that name none.
func (s *services) ServiceForHost(host string) (svc *engine.Service, ours bool, err error) {
	name, ours := httpweft.IsOurs(host)
	if !ours {
		return nil, false, nil
	}
	if service, _, _ := strings.Cut(name, "."); !discovery.IsLabel(service) { // other aliases are gRPC targets only
		return nil, true, fmt.Errorf("host %q: %w: want a DNS label", host, discovery.ErrInvalid)
	}
	svc, err = s.Service(name)
	return svc, true, err
}

// Service finds a service by the name it is dialled with, "product" or "product.shop", and begins to watch it at its first
// use. It does not wait for its plan.
func (s *services) Service(dialled string) (*engine.Service, error) {
	if svc, ok := s.byDialled.Load(dialled); ok {
		return svc.(*engine.Service), nil
	}
	name, err := discovery.ParseName(dialled, s.namespace)
	if err != nil {
		return nil, err
	}
	svc, err := s.resolve(dialled, name)
	if err != nil {
		return nil, err
	}
	known, _ := s.byDialled.LoadOrStore(dialled, svc)
	return known.(*engine.Service), nil
}

// resolve looks a short name up in the caller's namespace and then in "default"; a full name is what it says.
func (s *services) resolve(dialled string, name discovery.Name) (*engine.Service, error) {
	first, err := s.full(name)
	if err != nil || dialled != name.Service || name.Namespace == discovery.DefaultNamespace {
		return first, err
	}
	second, err := s.full(discovery.Name{Service: name.Service, Namespace: discovery.DefaultNamespace})
	if err != nil {
		return nil, err
	}
	short := s.engine.NewService(name.String())
	short.Recorders = first.Recorders
	l := &lookup[*engine.Plan]{publish: short.Publish, missing: func(p *engine.Plan) bool { return p.Missing }}
	first.Listen(func(p *engine.Plan) { l.update(0, p) })
	second.Listen(func(p *engine.Plan) { l.update(1, p) })
	return short, nil
}

// watchInstances calls apply with the snapshots of a service, found as [services.Service] finds it, until ctx ends.
func (s *services) watchInstances(ctx context.Context, dialled string, apply func(discovery.Snapshot)) error {
	name, err := discovery.ParseName(dialled, s.namespace)
	if err != nil {
		return err
	}
	if dialled != name.Service || name.Namespace == discovery.DefaultNamespace {
		return s.watchTarget(ctx, name, apply)
	}
	l := &lookup[discovery.Snapshot]{publish: apply, missing: func(s discovery.Snapshot) bool { return s.Missing }}
	var errs [2]error
	var watches sync.WaitGroup
	for i, namespace := range []string{name.Namespace, discovery.DefaultNamespace} {
		watches.Go(func() {
			full := discovery.Name{Service: name.Service, Namespace: namespace}
			errs[i] = s.watchTarget(ctx, full, func(s discovery.Snapshot) { l.update(i, s) })
		})
	}
	watches.Wait()
	return errors.Join(errs[:]...)
}

// lookup decides what a short name stands for: the service of the caller's namespace, else that of "default", and
// publishes what is known of it. What it resolved to is kept until that service is deleted, as a flip would change the
// identity that callers expect.
type lookup[T any] struct {
	publish func(T)
	missing func(T) bool

	mu    sync.Mutex
	known [2]bool
	what  [2]T // of the caller's namespace and of "default"
	taken int  // the place it stands for, plus one; 0: none yet
}

func (l *lookup[T]) update(i int, what T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[i], l.what[i] = true, what
	before := l.taken
	if before > 0 && l.missing(l.what[before-1]) {
		l.taken = 0
	}
	for j := 0; l.taken == 0 && j < 2 && l.known[j]; j++ {
		if !l.missing(l.what[j]) {
			l.taken = j + 1
		}
	}
	switch {
	case l.taken == i+1 || l.taken != 0 && l.taken != before:
		l.publish(l.what[l.taken-1])
	case l.taken == 0 && l.known[0] && l.known[1]:
		l.publish(l.what[0]) // neither exists
	}
}

// full returns the service of a full name, watched.
func (s *services) full(name discovery.Name) (*engine.Service, error) {
	w, err := s.watched(name)
	if err != nil {
		return nil, err
	}
	return w.service, nil
}

// target returns what a full name stands for when it is no alias.
func (s *services) target(name discovery.Name) (*engine.Service, error) {
	w, err := s.watched(name)
	if err != nil {
		return nil, err
	}
	return w.own, nil
}

func (s *services) watched(name discovery.Name) (*watch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.byFull[name]; w != nil {
		return w, nil
	}
	switch {
	case s.isClosed:
		return nil, errClosed
	case len(s.byFull) >= maxServices:
		return nil, errTooManyServices
	}
	svc := s.engine.NewService(name.String())
	for p := range engine.NumProtocols {
		svc.Recorders[p] = plan.Recorder(s.cfg, telemetry.Outbound, p, name.String())
	}
	w := s.watch(name, svc)
	s.byFull[name] = w
	return w, nil
}

// watch begins to keep the plan of a service up to date.
func (s *services) watch(name discovery.Name, svc *engine.Service) *watch {
	w := &watch{service: svc, own: s.engine.NewService(name.String()), target: s.target, builder: plan.NewBuilder(s.cfg, name), rules: make([][]rule.Rule, len(s.rules)), waiting: len(s.rules) + 1}
	s.run(func() error {
		return s.source.Watch(s.ctx, name.String(), w.instances)
	}, name)
	for i, src := range s.rules {
		s.run(func() error {
			err := src.WatchRules(s.ctx, []string{name.String()}, func(rules []rule.Rule) []rule.Nack { return w.setRules(i, rules) })
			w.noMoreRules(i)
			return err
		}, name)
	}
	return w
}

// run starts a watch and logs why it ended, unless the mesh was closed.
func (s *services) run(watch func() error, name discovery.Name) {
	s.watches.Go(func() {
		if err := watch(); err != nil && s.ctx.Err() == nil {
			s.cfg.Log.Error("weft: watching a service failed; it stays as it is", "service", name.String(), "error", err)
		}
	})
}

// watch is the current knowledge of one service, from which its plans are made. The first plan is made when the
// instances and the rules of every source are known.
type watch struct {
	service *engine.Service // as it is called: of an alias, what that stands for
	own     *engine.Service // of the name itself
	target  func(discovery.Name) (*engine.Service, error)

	mu      sync.Mutex // taken before a service's own, and before a hop's
	hop     *hop       // nil unless the name is an alias
	builder *plan.Builder
	guard   discovery.Guard
	view    discovery.View
	rules   [][]rule.Rule // by source; nil: not known yet
	hasView bool
	waiting int // how many answers the first plan still waits for
}

func (w *watch) instances(s discovery.Snapshot) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.view = w.guard.Apply(s)
	w.follow(s.Alias)
	if !w.hasView {
		w.hasView = true
		w.waiting--
	}
	w.publish()
}

func (w *watch) setRules(source int, rules []rule.Rule) []rule.Nack {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rules[source] == nil {
		w.waiting--
	}
	w.rules[source] = append([]rule.Rule{}, rules...)
	return about(rules, w.publish())
}

// about leaves the nacks of these rules: a source is told of its own.
func about(rules []rule.Rule, nacks []rule.Nack) []rule.Nack {
	return slices.DeleteFunc(nacks, func(n rule.Nack) bool {
		return !slices.ContainsFunc(rules, func(r rule.Rule) bool { return r.Key() == rule.Key{Kind: n.Kind, Namespace: n.Namespace, Name: n.Name} })
	})
}

// noMoreRules lets a source that will never answer count as one without rules.
func (w *watch) noMoreRules(source int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rules[source] == nil {
		w.rules[source] = []rule.Rule{}
		w.waiting--
		w.publish()
	}
}

// publish makes a plan of what is known, and publishes it unless something is still waited for. The nacks are those of all
// rules.
func (w *watch) publish() []rule.Nack {
	var rules []rule.Rule
	for _, r := range w.rules {
		rules = append(rules, r...)
	}
	p, nacks := w.builder.Build(w.view, rules)
	if p != nil && w.waiting == 0 {
		w.own.Publish(p)
		if w.hop == nil {
			w.service.Publish(p)
		}
	}
	return nacks
}

// fixedRules is the source of rules that the program set itself.
type fixedRules []rule.Rule

func (f fixedRules) WatchRules(ctx context.Context, _ []string, apply func([]rule.Rule) []rule.Nack) error {
	apply(f)
	<-ctx.Done()
	return ctx.Err()
}
