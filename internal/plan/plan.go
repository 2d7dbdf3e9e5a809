// Package plan compiles the rules and endpoints of a service into the immutable plan its calls follow. It is the
// only place where the schema of rules meets the policies that carry them out: [kinds] is the table of which kind is
// compiled by what.
//
// A [Builder] belongs to one service and keeps what was learned about it, so that a push never refills a budget, ends
// an ejection or forgets a latency whose own configuration did not change.
package plan

import (
	"cmp"
	"fmt"
	"log/slog"
	"maps"
	"slices"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/resilience/outlier"
	"github.com/weftmesh/weft/resilience/retry"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/rule"
	"github.com/weftmesh/weft/telemetry"
)

// Config is what the options of the facade come down to: all that is the same for every service of a process.
type Config struct {
	Caller   *routing.Caller    // the process's own service; nil if it has none
	Observer telemetry.Observer // nil: nobody is told
	Log      *slog.Logger       // nil: discarded
}

// Builder makes the plans of one service. It is not safe for concurrent use.
type Builder struct {
	cfg      Config
	name     discovery.Name
	pool     *balancer.Pool
	hosts    map[string]*outlier.Host
	outlier  *outlier.Detector
	budget   *budget.Budget
	policy   balancer.Policy
	recorder [engine.NumProtocols]telemetry.Recorder
	lastGood map[rule.Key]rule.Rule
}

// NewBuilder returns a builder for a service.
func NewBuilder(cfg Config, name discovery.Name) *Builder {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	b := &Builder{cfg: cfg, name: name, hosts: map[string]*outlier.Host{}, outlier: outlier.New(outlier.Default()),
		budget: budget.New(budget.Default()), policy: balancer.LeastRequest(), lastGood: map[rule.Key]rule.Rule{}}
	b.pool = balancer.NewPool(b.attach)
	for p := range engine.NumProtocols {
		b.recorder[p] = Recorder(cfg, telemetry.Outbound, p, name.String())
	}
	return b
}

// Recorder binds the observer of cfg, or returns one that does nothing.
func Recorder(cfg Config, d telemetry.Direction, p engine.Protocol, service string) telemetry.Recorder {
	if cfg.Observer == nil {
		return telemetry.Observers().Bind(telemetry.Binding{})
	}
	b := telemetry.Binding{Direction: d, Protocol: telemetry.Protocol(p.String()), Service: service}
	if d == telemetry.Outbound && cfg.Caller != nil && cfg.Caller.Service != "" {
		b.Caller = discovery.Name{Service: cfg.Caller.Service, Namespace: cfg.Caller.Namespace}.String()
	}
	return cfg.Observer.Bind(b)
}

func (b *Builder) attach(s balancer.Spec) any {
	h := b.outlier.Host()
	b.hosts[s.ID] = h
	return h
}

// build is a plan in the making: what the compilers of the kinds fill in.
type build struct {
	plan   *engine.Plan
	route  routing.Config
	budget budget.Config
}

// kinds is the table of kinds. Each compiler takes a valid rule with its defaults and writes into the build.
var kinds = []struct {
	kind    rule.Kind
	compile func(*build, rule.Rule) error
}{
	{rule.KindRoute, compileRoute},
	{rule.KindRetry, compileRetry},
}

// Build compiles a plan. Rules that cannot be used are named in the nacks; the last good version of each stays in
// force, and the rest applies.
func (b *Builder) Build(view discovery.View, rules []rule.Rule) (*engine.Plan, []rule.Nack) {
	w := &build{
		plan: &engine.Plan{Service: b.name.String(), Revision: revision(view.Revision), Caller: b.cfg.Caller, Budget: b.budget,
			Missing: view.Missing, Retry: engine.RetryPlan{Policy: retry.Policy{Attempts: 3}}},
		route:  routing.Config{Key: b.name.Namespace + "/" + b.name.Service, Policy: b.policy},
		budget: budget.Default(),
	}
	nacks := b.compile(w, rules)
	b.budget.Update(w.budget)
	if err := b.connect(w, view); err != nil { // only a routing config can be at fault, and it was tried by its compiler
		b.cfg.Log.Error("weft: a plan could not be compiled; the previous one stays", "service", b.name.String(), "error", err)
		return nil, nacks
	}
	return w.plan, nacks
}

func revision(r discovery.Revision) string {
	if r.IsZero() {
		return ""
	}
	return r.String()
}

// compile runs the rules through the table.
func (b *Builder) compile(w *build, rules []rule.Rule) (nacks []rule.Nack) {
	chosen, nacks := b.choose(rules)
	good := map[rule.Key]rule.Rule{}
	for _, k := range kinds {
		for _, r := range chosen[k.kind] {
			err := apply(w, k.compile, r)
			if err != nil {
				nacks = append(nacks, nack(r, err.Error()))
				last, ok := b.lastGood[r.Key()]
				if !ok || apply(w, k.compile, last) != nil {
					continue
				}
				r = last
			}
			good[r.Key()] = r
		}
	}
	b.lastGood = good
	return nacks
}

// choose sorts the rules that concern the service by kind. Of a kind with one document a service the service's own wins
// over one for all; among equals the first by name.
func (b *Builder) choose(rules []rule.Rule) (map[rule.Kind][]rule.Rule, []rule.Nack) {
	chosen := map[rule.Kind][]rule.Rule{}
	var nacks []rule.Nack
	known := map[rule.Kind]bool{}
	for _, k := range kinds {
		known[k.kind] = true
	}
	for _, r := range slices.SortedFunc(slices.Values(rules), func(x, y rule.Rule) int {
		return cmp.Or(cmp.Compare(y.Service, x.Service), cmp.Compare(x.Name, y.Name)) // "*" comes last
	}) {
		if r = r.WithDefaults(); r.Namespace != b.name.Namespace || r.Service != b.name.Service && r.Service != rule.AllServices {
			continue
		}
		first := chosen[r.Kind]
		switch {
		case !known[r.Kind]:
			nacks = append(nacks, nack(r, fmt.Sprintf("kind %q is not supported by this version", r.Kind)))
		case len(first) > 0 && !rule.Many(r.Kind) && first[0].Service == r.Service:
			nacks = append(nacks, nack(r, fmt.Sprintf("%s %q already holds for the service", r.Kind, first[0].Name)))
		case len(first) > 0 && !rule.Many(r.Kind): // one for all, and the service has its own
		default:
			chosen[r.Kind] = append(first, r)
		}
	}
	return chosen, nacks
}

func nack(r rule.Rule, reason string) rule.Nack {
	return rule.Nack{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Revision: r.Revision, Reason: reason}
}

// apply compiles one rule into w, which stays as it was on an error. A panic is an error of that rule alone.
func apply(w *build, compile func(*build, rule.Rule) error, r rule.Rule) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("compiling it panicked: %v", p)
		}
	}()
	if err := r.Validate(); err != nil {
		return err
	}
	plan := *w.plan
	try := *w
	try.plan = &plan
	if err := compile(&try, r); err != nil {
		return err
	}
	*w.plan, w.route, w.budget = plan, try.route, try.budget
	return nil
}

// connect joins rules and endpoints: the pool is brought up to date and the routers are made.
func (b *Builder) connect(w *build, view discovery.View) error {
	endpoints := b.pool.Update(specs(view))
	b.forget(endpoints)
	up, reserve := b.share(view, endpoints)
	for p := range engine.NumProtocols {
		router, err := routing.New(w.route, up[p], reserve[p])
		if err != nil {
			return err
		}
		w.plan.Protocols[p] = engine.ProtocolPlan{Router: router, Endpoints: union(up[p], reserve[p]), Recorder: b.recorder[p]}
	}
	return nil
}

// specs lists the instances that may be called at all.
func specs(view discovery.View) []balancer.Spec {
	list := make([]balancer.Spec, 0, len(view.Instances)+len(view.Kept))
	for in := range all(view) {
		if callable(in.State) {
			list = append(list, balancer.Spec{ID: in.ID, Address: in.Address, Weight: uint32(max(in.Weight, 0)), Labels: in.Labels,
				Region: in.Locality.Region, Zone: in.Locality.Zone, Suspect: in.State == discovery.Suspect, HTTP2: in.HTTP2})
		}
	}
	return list
}

func all(view discovery.View) func(func(discovery.Instance) bool) {
	return func(yield func(discovery.Instance) bool) {
		for _, in := range view.Instances {
			if !yield(in) {
				return
			}
		}
		for _, in := range view.Kept {
			if !yield(in) {
				return
			}
		}
	}
}

func callable(s discovery.State) bool {
	switch s {
	case discovery.Starting, discovery.Draining, discovery.Isolated:
		return false
	}
	return true
}

// forget tells outlier detection which hosts have left the pool.
func (b *Builder) forget(endpoints []*balancer.Endpoint) {
	if len(endpoints) == len(b.hosts) {
		return // attach added every new one, so nothing can be gone
	}
	stay := make(map[string]bool, len(endpoints))
	for _, ep := range endpoints {
		stay[ep.ID] = true
	}
	maps.DeleteFunc(b.hosts, func(id string, h *outlier.Host) bool {
		if !stay[id] {
			b.outlier.Remove(h)
		}
		return !stay[id]
	})
}

type byProtocol [engine.NumProtocols][]*balancer.Endpoint

// share says which endpoints are called and which are a last resort. A suspect one is both: called by those that have
// a working connection, a last resort for the others.
func (b *Builder) share(view discovery.View, endpoints []*balancer.Endpoint) (up, reserve byProtocol) {
	place := make(map[string]discovery.Instance, len(endpoints))
	for in := range all(view) {
		if _, ok := place[in.ID]; !ok {
			place[in.ID] = in
		}
	}
	kept := make(map[string]bool, len(view.Kept))
	for _, in := range view.Kept {
		kept[in.ID] = true
	}
	for _, ep := range endpoints {
		in := place[ep.ID]
		p := protocolOf(in)
		last := kept[ep.ID] || in.State == discovery.Unhealthy
		if !last {
			up[p] = append(up[p], ep)
		}
		if last || ep.Suspect {
			reserve[p] = append(reserve[p], ep)
		}
	}
	return up, reserve
}

func protocolOf(in discovery.Instance) engine.Protocol {
	if in.Protocol == discovery.GRPC {
		return engine.GRPC
	}
	return engine.HTTP
}

// union merges two lists sorted by id.
func union(a, b []*balancer.Endpoint) []*balancer.Endpoint {
	if len(b) == 0 {
		return a
	}
	list := slices.Concat(a, b)
	slices.SortFunc(list, func(x, y *balancer.Endpoint) int { return cmp.Compare(x.ID, y.ID) })
	return slices.Compact(list)
}
