package catalog

import (
	"context"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
)

// Audit is the log in which the changes of a context with an [audit.Actor] are written.
func (c *Catalog) Audit() *audit.Log { return c.audit }

// Do commits writes of keys that are not the catalog's, such as the tokens', in one queue with its own, and gives the
// revision that they got. Keys of another room start with its prefix: "a/" are the audit log's, "t/" and
// "revoked/" the tokens'.
func (c *Catalog) Do(ctx context.Context, op func(*store.Batch) error) (discovery.Revision, error) {
	return c.write(ctx, func(d *draft, b *store.Batch) (uint64, error) {
		revision, ceiling := d.revision, d.ceiling
		d.next(b)
		if err := op(b); err != nil {
			d.revision, d.ceiling = revision, ceiling // nothing of it is written, the ceiling neither
			return 0, err
		}
		return d.revision, nil
	})
}

// Waiting is how many writes wait for their turn.
func (c *Catalog) Waiting() int { return c.committer.Waiting() }

// do runs a write on the committer's goroutine, against the draft of its group.
func (c *Catalog) do(ctx context.Context, op func(*draft, *store.Batch) error) error {
	return c.committer.Do(ctx, func(b *store.Batch) error { return op(c.draft, b) })
}

// write gives the revision of a write that went well. That of one which nobody waited for is not looked at: it may
// still be under way.
func (c *Catalog) write(ctx context.Context, op func(*draft, *store.Batch) (uint64, error)) (discovery.Revision, error) {
	var at uint64
	err := c.do(ctx, func(d *draft, b *store.Batch) (err error) {
		at, err = op(d, b)
		return err
	})
	if err != nil {
		return discovery.Revision{}, err
	}
	return c.at(at), nil
}

// auditor appends what one operation changes to the audit log, if somebody is to be named.
type auditor struct {
	c     *Catalog
	b     *store.Batch
	actor audit.Actor
	named bool
	at    uint64
}

func (c *Catalog) auditor(ctx context.Context, b *store.Batch, at uint64) auditor {
	actor, named := audit.Of(ctx)
	return auditor{c, b, actor, named, at}
}

func (a auditor) add(action, kind, namespace, target, detail string) {
	if !a.named {
		return
	}
	a.c.audit.Append(a.b, audit.Entry{
		Actor:     a.actor,
		Action:    action,
		Kind:      kind,
		Namespace: namespace,
		Target:    target,
		Revision:  a.c.at(a.at).String(),
		Detail:    detail,
	})
}

func (a auditor) instance(action string, key InstanceKey, detail string) {
	a.add(action, KindInstance, key.Service.Namespace, key.Service.Service+"/"+key.ID, detail)
}
