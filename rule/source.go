package rule

import "context"

// Source delivers rules. A discovery source may implement it too.
type Source interface {
	// WatchRules calls apply with all rules that name one of the services (full names, "product.shop") or
	// "*", first as soon as they are known and again after every change, one call at a time, until ctx ends.
	// What apply returns are the rules it could not use, which a source reports to where they came from.
	WatchRules(ctx context.Context, services []string, apply func([]Rule) []Nack) error
}

// Nack is a rule that was refused, and why.
type Nack struct {
	Kind      Kind
	Namespace string
	Name      string
	Revision  string
	Reason    string
}
