package routing

import (
	"fmt"
	"time"

	"github.com/weftmesh/weft/balancer"
)

// Router routes the calls to one service. See the package's documentation.
type Router struct {
	all   *Destination
	rules []compiledRule
}

type compiledRule struct {
	matcher *Matcher
	split   split
	sticky  stickyBy
	timeout time.Duration
}

// New compiles the rules for the endpoints that are up and for those that are only a last resort. The slices are
// kept. An error names the field, its value and the bound.
func New(cfg Config, up, reserve []*balancer.Endpoint) (*Router, error) {
	policy := cfg.Policy
	if policy == nil {
		policy = balancer.LeastRequest()
	}
	destinations := map[string]*Destination{"": newDestination("", policy, up, reserve)}
	for name, labels := range cfg.Subsets {
		if name == "" {
			return nil, fmt.Errorf(`subsets[""]: a subset needs a name`)
		}
		destinations[name] = newDestination(name, policy, withLabels(up, labels), withLabels(reserve, labels))
	}
	r := &Router{all: destinations[""], rules: make([]compiledRule, len(cfg.Rules))}
	for i, rule := range cfg.Rules {
		if err := r.rules[i].compile(rule, cfg.Key, destinations); err != nil {
			return nil, fmt.Errorf("rules[%d].%w", i, err)
		}
	}
	return r, nil
}

func (c *compiledRule) compile(rule Rule, key string, destinations map[string]*Destination) (err error) {
	if rule.Timeout < 0 {
		return fmt.Errorf("timeout: %v is negative", rule.Timeout)
	}
	c.timeout = rule.Timeout
	if c.matcher, err = CompileMatch(rule.Match); err != nil {
		return err
	}
	if c.sticky, err = compileSticky(rule.StickyBy, key); err != nil {
		return err
	}
	c.split, err = compileSplit(rule.Split, rule.WhenEmpty, destinations)
	return err
}

// All returns the destination of calls that no rule matches: all instances. It is never nil and may be empty.
func (r *Router) All() *Destination { return r.all }

// Route finds the rule and draws the destination of a call. It allocates nothing.
func (r *Router) Route(req *Request, rnd *balancer.Rand) Result {
	for i := range r.rules {
		if r.rules[i].matcher.Matches(req) {
			return r.rules[i].route(i, req, rnd)
		}
	}
	return Result{Rule: -1, Destination: r.all.orNil(), Bucket: -1}
}

func (c *compiledRule) route(index int, req *Request, rnd *balancer.Rand) Result {
	result := Result{Rule: index, Timeout: c.timeout, Bucket: -1}
	if !c.sticky.set() {
		c.split.draw(&result, rnd)
		return result
	}
	value := c.sticky.value(req)
	if value == "" {
		result.NoStickyValue = true
		c.split.draw(&result, rnd)
		return result
	}
	c.split.place(&result, c.sticky.salt.Add(value))
	return result
}
