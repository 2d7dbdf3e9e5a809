package catalog

import (
	"context"
	"errors"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// ErrTooOld says that a watch cannot go on from a revision without a gap: read everything again.
var ErrTooOld = errors.New("the changes since that revision are not kept any more")

// Event is one change.
type Event struct {
	Revision discovery.Revision
	Kind     string           // instance, rule or alias
	Removed  discovery.Reason // why it is gone; "" if it was put. Of rules and aliases: deleted
	Service  discovery.Name   // of the instance; of a rule, what it governs; of an alias, its own name
	ID       string           // of the instance
	Instance *discovery.Instance
	Rule     *rule.Rule
	Key      rule.Key // of the rule
	Alias    *Alias
}

// Watch calls fn with the events of each revision after the one given, one revision after the other, until ctx ends or fn
// fails; it returns that error. It keeps the last 10,000 events: its error is [ErrTooOld] if they do not reach back
// to the revision, or if fn is so slow that they no longer do. The zero revision starts with what comes next.
func (c *Catalog) Watch(ctx context.Context, after discovery.Revision, fn func([]Event) error) error {
	return errNotBuilt
}
