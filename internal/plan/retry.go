package plan

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/resilience/retry"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/rule"
)

func compileRetry(w *build, r rule.Rule) error {
	spec := r.Spec.(*rule.Retry)
	on, err := conditions(spec.On)
	if err != nil {
		return err
	}
	base := engine.RetryPlan{On: on, Policy: retry.Policy{Attempts: spec.Attempts, PerTryTimeout: spec.PerTryTimeout,
		Timeout: spec.Timeout, Base: spec.Backoff.Base, Max: spec.Backoff.Max}}
	methods, err := retryMethods(spec.Methods, base)
	if err != nil {
		return err
	}
	w.plan.Retry, w.plan.RetryMethods, w.plan.RetryRule = base, methods, ruleRef(r)
	w.budget = budget.Config{Percent: *spec.Budget.Percent, PerSecond: *spec.Budget.PerSecond}
	return nil
}

// retryMethods completes each override by what the rule says for all methods.
func retryMethods(list []rule.RetryMethod, base engine.RetryPlan) ([]engine.RetryMethod, error) {
	var out []engine.RetryMethod
	for i, m := range list {
		matcher, err := routing.CompileMatch(matches(m.Match))
		if err != nil {
			return nil, fmt.Errorf("spec.methods[%d]: %w", i, err)
		}
		plan := base
		plan.Idempotent = m.Idempotent
		plan.Attempts = cmp.Or(m.Attempts, plan.Attempts)
		plan.PerTryTimeout = cmp.Or(m.PerTryTimeout, plan.PerTryTimeout)
		plan.Timeout = cmp.Or(m.Timeout, plan.Timeout)
		if m.On != nil {
			if plan.On, err = conditions(m.On); err != nil {
				return nil, fmt.Errorf("spec.methods[%d]: %w", i, err)
			}
		}
		out = append(out, engine.RetryMethod{Match: matcher, RetryPlan: plan})
	}
	return out, nil
}

// conditions compiles the words of a Retry's "on".
func conditions(words []string) (c engine.Conditions, err error) {
	for _, word := range words {
		if !condition(&c, word) {
			return c, fmt.Errorf("spec.on: %q is not a gRPC code, an HTTP code or class, reset or timeout", word)
		}
	}
	return c, nil
}

func condition(c *engine.Conditions, word string) bool {
	switch word {
	case "reset":
		c.Reset = true
		return true
	case "timeout":
		c.Timeout = true
		return true
	}
	if class, ok := strings.CutSuffix(word, "xx"); ok && (class == "4" || class == "5") {
		lo, _ := strconv.Atoi(class + "00")
		c.AddStatus(lo, lo+99)
		return true
	}
	if code, ok := rule.GRPCCode(word); ok {
		c.AddCode(code)
		return true
	}
	if status, err := strconv.Atoi(word); err == nil && status >= 400 && status <= 599 {
		c.AddStatus(status, status)
		return true
	}
	return false
}
