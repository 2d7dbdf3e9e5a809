package catalog

import (
	"context"
	"errors"

	"github.com/weftmesh/weft/discovery"
)

var errNotBuilt = errors.New("not built yet")

// Order is what an operator says about an instance, over what its process says. It holds until the id is registered by
// another process, or by REST. A nil or empty field leaves what was ordered before.
type Order struct {
	Weight *int
	Labels map[string]string // all labels from now on
	State  discovery.State   // up, draining or isolated
	Reset  bool              // forget what was ordered before first
}

// OrderInstance gives an order and returns once it is on disk, with the instance as callers see it then. The error
// wraps [ErrNotFound] or [discovery.ErrInvalid].
func (c *Catalog) OrderInstance(ctx context.Context, key InstanceKey, o Order) (discovery.Instance, discovery.Revision, error) {
	return discovery.Instance{}, discovery.Revision{}, errNotBuilt
}
