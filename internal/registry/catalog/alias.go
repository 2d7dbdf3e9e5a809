package catalog

import (
	"context"

	"github.com/weftmesh/weft/discovery"
)

// Alias is another name of a service.
type Alias struct {
	Name     discovery.Name     // Service is 1 to 63 printable ASCII characters without space . / ? # %
	Target   discovery.Name     // a service, which need not exist yet; never an alias
	Revision discovery.Revision // of its last change
}

// PutAlias writes an alias. A name that an instance or rule uses as a service is refused with [ErrInUse].
func (c *Catalog) PutAlias(ctx context.Context, a Alias) (Alias, Outcome, error) {
	return Alias{}, "", errNotBuilt
}

// DeleteAlias removes an alias; the error wraps [ErrNotFound] if there is none.
func (c *Catalog) DeleteAlias(ctx context.Context, name discovery.Name) (discovery.Revision, error) {
	return discovery.Revision{}, errNotBuilt
}

// Alias gives one alias.
func (c *Catalog) Alias(name discovery.Name) (Alias, bool) { return Alias{}, false }

// Aliases lists the aliases of a namespace ("": of all), sorted by namespace and name.
func (c *Catalog) Aliases(namespace string) ([]Alias, discovery.Revision) { return nil, c.Revision() }
