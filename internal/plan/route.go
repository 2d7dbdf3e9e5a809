package plan

import (
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/rule"
)

func compileRoute(w *build, r rule.Rule) error {
	spec := r.Spec.(*rule.Route)
	cfg := w.route
	cfg.Subsets = spec.Subsets
	for _, e := range spec.Rules {
		cfg.Rules = append(cfg.Rules, routeRule(e))
	}
	if _, err := routing.New(cfg, nil, nil); err != nil {
		return err
	}
	w.route, w.plan.RouteRule = cfg, ruleRef(r)
	return nil
}

// ruleRef names a rule in errors and records: name@revision.
func ruleRef(r rule.Rule) string {
	if r.Revision == "" {
		return r.Name
	}
	return r.Name + "@" + r.Revision
}

func routeRule(e rule.RouteRule) routing.Rule {
	out := routing.Rule{Match: matches(e.Match), Timeout: e.Timeout, WhenEmpty: routing.Rest}
	if e.WhenEmpty == rule.Fail {
		out.WhenEmpty = routing.Fail
	}
	if e.StickyBy != nil {
		out.StickyBy = routing.Sticky{Header: e.StickyBy.Header, Cookie: e.StickyBy.Cookie}
	}
	for _, d := range e.Split {
		out.Split = append(out.Split, routing.Share{Subset: d.Subset, Weight: d.Weight})
	}
	return out
}

func matches(list []rule.Match) []routing.Match {
	var out []routing.Match
	for _, m := range list {
		out = append(out, routing.Match{Headers: stringMatches(m.Headers), Cookies: stringMatches(m.Cookies), Query: stringMatches(m.Query),
			Path: stringMatch(m.Path), Method: stringMatch(m.Method), Caller: callerMatch(m.Caller)})
	}
	return out
}

func stringMatches(ms map[string]rule.StringMatch) map[string]routing.StringMatch {
	if len(ms) == 0 {
		return nil
	}
	out := make(map[string]routing.StringMatch, len(ms))
	for name, m := range ms {
		out[name] = *stringMatch(&m)
	}
	return out
}

func stringMatch(m *rule.StringMatch) *routing.StringMatch {
	if m == nil {
		return nil
	}
	return &routing.StringMatch{Exact: m.Exact, Prefix: m.Prefix, Regex: m.Regex, Present: m.Present, In: m.In, Not: stringMatch(m.Not)}
}

func callerMatch(m *rule.CallerMatch) *routing.CallerMatch {
	if m == nil {
		return nil
	}
	return &routing.CallerMatch{Service: m.Service, Namespace: m.Namespace, Labels: m.Labels}
}
