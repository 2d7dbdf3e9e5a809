package catalog

import (
	"context"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// Version is one revision of a rule.
type Version struct {
	Revision discovery.Revision
	At       time.Time
	By       string
	Outcome  Outcome   // Created, Configured or Deleted
	Rule     rule.Rule // as it was written; zero if it was deleted
}

// Deleted is the outcome of a version that removed the rule.
const RuleDeleted Outcome = "deleted"

// History gives the versions of a rule, the newest first, at most 100; nil if there never was one.
func (c *Catalog) History(key rule.Key) ([]Version, error) { return nil, errNotBuilt }

// Audit is the log in which the changes of a context with an [audit.Actor] are written.
func (c *Catalog) Audit() *audit.Log { return nil }

// Do commits writes of keys that are not the catalog's, such as the tokens', in one queue with its own, and gives the
// revision that they got. Keys of another room start with its prefix: "t/" are the tokens'.
func (c *Catalog) Do(ctx context.Context, op func(*store.Batch) error) (discovery.Revision, error) {
	return discovery.Revision{}, errNotBuilt
}
