package catalog

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
)

// ErrInUse says that a name is taken: a service and an alias never share one.
var ErrInUse = errors.New("the name is in use")

// Alias is another name of a service. Its users are told where it leads; the target knows nothing of it.
type Alias struct {
	Name     discovery.Name     // Service is 1 to 63 printable ASCII characters without space . / ? # %
	Target   discovery.Name     // a service, which need not exist yet; never an alias
	Revision discovery.Revision // of its last change
}

// alias is what the service of its name holds.
type alias struct {
	target   discovery.Name
	revision uint64
}

func (c *Catalog) alias(name discovery.Name, a *alias) Alias {
	return Alias{name, a.target, c.at(a.revision)}
}

// PutAlias writes an alias and returns once it is on disk. One that is the same already writes nothing. A name that an
// instance or rule uses as a service, and a target that is an alias, are refused with [ErrInUse]; one alias too many
// with [ErrLimit].
func (c *Catalog) PutAlias(ctx context.Context, a Alias) (Alias, Outcome, error) {
	if err := a.validate(); err != nil {
		return Alias{}, "", err
	}
	var outcome Outcome
	_, err := c.write(ctx, func(d *draft, b *store.Batch) (at uint64, err error) {
		outcome, at, err = d.putAlias(ctx, b, a)
		a.Revision = d.c.at(at)
		return at, err
	})
	if err != nil {
		return Alias{}, "", err
	}
	return a, outcome, nil
}

func (a Alias) validate() error {
	name := a.Name.Service
	switch {
	case name == "" || len(name) > 63 || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("*./?#%", r) }):
		return fmt.Errorf("alias %.140q: %w: want 1 to 63 printable ASCII characters without space * . / ? # %%", name, discovery.ErrInvalid)
	case !discovery.IsLabel(a.Name.Namespace):
		return fmt.Errorf("alias %q: namespace %.140q: %w: want a DNS label", name, a.Name.Namespace, discovery.ErrInvalid)
	case !discovery.IsLabel(a.Target.Service) || !discovery.IsLabel(a.Target.Namespace):
		return fmt.Errorf("alias %q: service %.140q: %w: want a service and a namespace, each a DNS label", name, a.Target, discovery.ErrInvalid)
	case a.Target == a.Name:
		return fmt.Errorf("alias %q: service %q: %w: want another name than its own", name, a.Target, discovery.ErrInvalid)
	}
	return nil
}

func (d *draft) putAlias(ctx context.Context, b *store.Batch, a Alias) (Outcome, uint64, error) {
	s, outcome := d.service(a.Name), Created
	if s != nil && s.alias != nil {
		if s.alias.target == a.Target {
			return Unchanged, s.alias.revision, nil
		}
		outcome = Configured
	}
	if err := d.admitAlias(s, outcome, a); err != nil {
		return "", 0, err
	}
	revision := d.next(b)
	d.setAlias(a.Name, &alias{a.Target, revision}, revision)
	b.Put(aliasKey(a.Name), []byte(a.Target.String()))
	d.c.auditor(ctx, b, revision).add("put", "alias", a.Name.Namespace, a.Name.Service, a.Target.String())
	return outcome, revision, nil
}

func (d *draft) admitAlias(s *service, outcome Outcome, a Alias) error {
	target := d.service(a.Target)
	switch {
	case !s.missing():
		return fmt.Errorf("alias %q: %w: it is a service", a.Name, ErrInUse)
	case target != nil && target.alias != nil:
		return fmt.Errorf("alias %q: service %q: %w: it is an alias of %q, and an alias leads to a service", a.Name, a.Target, ErrInUse, target.alias.target)
	case d.targeted(a.Name) > 0:
		return fmt.Errorf("alias %q: %w: another alias leads to it as a service", a.Name, ErrInUse)
	case outcome == Created && d.totals.aliases >= d.c.limits.aliases:
		return fmt.Errorf("alias %q: %w", a.Name, limited("aliases", d.c.limits.aliases))
	}
	return nil
}

// notAlias refuses a name that is an alias to what would make it a service.
func (d *draft) notAlias(name discovery.Name) error {
	if s := d.service(name); s != nil && s.alias != nil {
		return fmt.Errorf("service %q: %w: it is an alias of %q; delete the alias or use that name", name, ErrInUse, s.alias.target)
	}
	return nil
}

// DeleteAlias removes an alias; the error wraps [ErrNotFound] if there is none.
func (c *Catalog) DeleteAlias(ctx context.Context, name discovery.Name) (discovery.Revision, error) {
	return c.write(ctx, func(d *draft, b *store.Batch) (uint64, error) {
		if s := d.service(name); s == nil || s.alias == nil {
			return 0, fmt.Errorf("alias %q: %w", name, ErrNotFound)
		}
		revision := d.next(b)
		d.setAlias(name, nil, revision)
		b.Delete(aliasKey(name))
		d.c.auditor(ctx, b, revision).add("delete", "alias", name.Namespace, name.Service, "")
		return revision, nil
	})
}

// setAlias writes an alias into memory; nil takes it out.
func (d *draft) setAlias(name discovery.Name, a *alias, revision uint64) {
	e := event{revision: revision, service: name, alias: a}
	d.change(name, func(s *service) {
		if s.alias != nil {
			d.targets[s.alias.target]--
		}
		if a == nil {
			e.alias, e.removed = s.alias, discovery.Deleted
		} else {
			d.targets[a.target]++
		}
		if (s.alias == nil) != (a == nil) {
			s.ruled = revision // the rules for all services do not concern an alias
		}
		s.alias, s.revision = a, revision
	})
	d.events = append(d.events, e)
}

// targeted counts the aliases that lead to a name.
func (d *draft) targeted(name discovery.Name) int { return d.c.targets[name] + d.targets[name] }

// Alias gives one alias.
func (c *Catalog) Alias(name discovery.Name) (Alias, bool) {
	s, _ := c.lookup(name)
	if s.alias == nil {
		return Alias{}, false
	}
	return c.alias(name, s.alias), true
}

// Aliases lists the aliases of a namespace ("": of all), sorted by namespace and name.
func (c *Catalog) Aliases(namespace string) ([]Alias, discovery.Revision) {
	found, revision := c.snapshotAt(inNamespace(namespace))
	var out []Alias
	for _, s := range found {
		if s.alias != nil {
			out = append(out, c.alias(s.name, s.alias))
		}
	}
	return out, revision
}
