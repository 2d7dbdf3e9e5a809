// Package call measures whole calls over loopback connections: bare grpc-go and bare net/http against the same calls
// through Weft, on the caller's side, on the callee's, and on both.
//
// Caller and callee share the process, so every number is that of both sides together; what the first case of a list
// costs is the baseline, and the difference is what Weft adds. The baseline does what Weft does as far as its library
// can: it spreads its calls over the same two servers and keeps as many idle connections.
package call

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/bench/engine"
	"github.com/weftmesh/weft/bench/measure"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// A Variant is one way to make the calls. The zero value is the bare library.
type Variant struct {
	Name    string
	Client  bool // the caller goes through Weft
	Server  bool // and so does the callee
	Rules   bool // the caller has a Route (header and path match, sticky split in two subsets) and a Retry
	Timeout bool // the call has a timeout: by rule with Rules, else in the caller's context
	Metrics bool // each side that goes through Weft has Prometheus metrics
}

// Variants are those that are compared, the baseline first.
var Variants = []Variant{
	{Name: "bare"},
	{Name: "bare+timeout", Timeout: true},
	{Name: "client", Client: true},
	{Name: "client+rules", Client: true, Rules: true},
	{Name: "client+metrics", Client: true, Metrics: true},
	{Name: "server", Server: true},
	{Name: "both", Client: true, Server: true},
	{Name: "both+rules", Client: true, Server: true, Rules: true},
	{Name: "both+rules+timeout", Client: true, Server: true, Rules: true, Timeout: true},
	{Name: "both+metrics", Client: true, Server: true, Metrics: true},
	{Name: "both+rules+metrics", Client: true, Server: true, Rules: true, Metrics: true},
}

// World is the running servers and clients behind some cases.
type World struct {
	Cases   []measure.Case
	closers []func() error
}

// Close ends what the world started, in reverse order.
func (w *World) Close() error {
	var errs []error
	for _, v := range slices.Backward(w.closers) {
		errs = append(errs, v())
	}
	w.closers = nil
	return errors.Join(errs...)
}

func (w *World) onClose(f func() error) { w.closers = append(w.closers, f) }

// start makes a world of variants; each of the protocols says how one is brought up.
func start(protocol string, variants []Variant, one func(*World, Variant) (func() error, error)) (*World, error) {
	w := &World{}
	for _, v := range variants {
		do, err := one(w, v)
		if err == nil {
			err = warm(do)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s %s: %w", protocol, v.Name, err), w.Close())
		}
		w.Cases = append(w.Cases, measure.Case{Name: v.Name, Work: measure.Always(do)})
	}
	return w, nil
}

// warm makes first calls until both servers are connected: a connection is made with the first call, or a little later.
func warm(do func() error) error {
	for end := time.Now().Add(200 * time.Millisecond); time.Now().Before(end); {
		if err := do(); err != nil {
			return err
		}
	}
	return nil
}

// servers is how many there are of each variant.
const servers = 2

// caller joins the mesh as the callers of a variant do.
func (w *World) caller(v Variant, p weft.Protocol, addresses []string) (*weft.Mesh, error) {
	var instances []weft.Instance
	for i, a := range addresses {
		instances = append(instances, weft.Instance{Address: a, Protocol: p, Labels: map[string]string{"version": fmt.Sprintf("v%d", i+1)}})
	}
	options := []weft.Option{weft.WithService("web"), weft.WithSource(discovery.Static(map[string][]discovery.Instance{"product": instances}))}
	if v.Rules {
		rules, err := rules(v)
		if err != nil {
			return nil, err
		}
		options = append(options, weft.WithRules(rules...))
	}
	return w.join(v, options...)
}

// callee joins it as their servers do.
func (w *World) callee(v Variant) (*weft.Mesh, error) {
	return w.join(v, weft.WithService("product"), weft.WithSource(discovery.Static(nil)))
}

func (w *World) join(v Variant, options ...weft.Option) (*weft.Mesh, error) {
	if v.Metrics {
		options = append(options, weft.WithRegisterer(prometheus.NewRegistry()))
	}
	m, err := weft.New(append(options, weft.WithCacheDir(""))...)
	if err != nil {
		return nil, err
	}
	w.onClose(func() error { return m.Close(context.Background()) })
	return m, nil
}

// timeout is long enough never to end a call.
const timeout = 10 * time.Second

func rules(v Variant) ([]rule.Rule, error) {
	rules, err := rule.Parse([]byte(engine.Rules))
	for _, r := range rules {
		if spec, ok := r.Spec.(*rule.Retry); ok && v.Timeout {
			spec.Timeout = timeout
		}
	}
	return rules, err
}

// context is what the application makes a call in.
func (v Variant) context() (context.Context, context.CancelFunc) {
	if v.Timeout && !v.Rules {
		return context.WithTimeout(context.Background(), timeout)
	}
	return context.Background(), func() {}
}
