package catalog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/audit"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// Change is a transaction over rules.
type Change struct {
	Puts    []rule.Rule
	Deletes []rule.Key
	// If guards rules: each must have the revision given; the zero revision means that it must not exist.
	If map[rule.Key]discovery.Revision
	// By is who makes the change; "" is the actor of the context.
	By string
	// Action is what the audit log calls the puts; "" is "put".
	Action string
	// DryRun checks and answers, but changes nothing.
	DryRun bool
}

// Outcome says what a put did.
type Outcome string

// The outcomes.
const (
	Created    Outcome = "created"
	Configured Outcome = "configured" // replaced
	Unchanged  Outcome = "unchanged"  // the same already; nothing was written
)

// Applied answers a [Change].
type Applied struct {
	Revision discovery.Revision // of the catalog, after the change
	Rules    []AppliedRule      // one for each put, in their order
	Deleted  []rule.Rule        // as they were, one for each delete
}

// AppliedRule is one rule as it is stored now; of a dry run, as it would be, at the revision it would get if
// nothing else changed.
type AppliedRule struct {
	Rule    rule.Rule
	Outcome Outcome
}

// Conflict says that a service has an enforced rule of the kind already, and the kind allows one.
type Conflict struct {
	Rule    rule.Key // the refused one
	First   rule.Key // the one that is there, or comes earlier in the same change
	Service string   // "*" competes only with "*"
}

// Error implements error.
func (e *Conflict) Error() string {
	return fmt.Sprintf("rule %s: service %q has an enforced %s already, %s; only one is allowed: change or delete that one",
		e.Rule, e.Service, e.Rule.Kind, e.First)
}

// Precondition says that a guard of a [Change] does not hold.
type Precondition struct {
	Rule    rule.Key
	Want    discovery.Revision // zero: it was not to exist
	Current discovery.Revision // zero: it does not exist
}

// Error implements error.
func (e *Precondition) Error() string {
	switch {
	case e.Want.IsZero():
		return fmt.Sprintf("rule %s exists already, at revision %s", e.Rule, e.Current)
	case e.Current.IsZero():
		return fmt.Sprintf("rule %s is not at revision %s: it does not exist", e.Rule, e.Want)
	}
	return fmt.Sprintf("rule %s is not at revision %s but at %s: read it again", e.Rule, e.Want, e.Current)
}

// ApplyRules writes and deletes rules, all or nothing, and returns once that is on disk. A rule that is the same
// already writes nothing. The error is a [*Conflict], a [*Precondition], [ErrNotFound] for a delete of what is
// not there, or that of the rule's Validate.
func (c *Catalog) ApplyRules(ctx context.Context, ch Change) (Applied, error) {
	for _, r := range ch.Puts {
		if err := r.Validate(); err != nil {
			return Applied{}, err
		}
	}
	ch.Puts = slices.Clone(ch.Puts)
	if actor, ok := audit.Of(ctx); ok && ch.By == "" {
		ch.By = actor.Who
	}
	ch.Action = cmp.Or(ch.Action, "put")
	t := transaction{Change: ch, ctx: ctx, now: time.Now(), puts: make(map[rule.Key]rule.Rule, len(ch.Puts))}
	if err := t.distinct(); err != nil {
		return Applied{}, err
	}
	err := c.do(ctx, t.run)
	if err != nil {
		return Applied{}, err
	}
	return t.applied, nil
}

// transaction is a [Change] under way.
type transaction struct {
	Change
	ctx     context.Context // names the actor
	now     time.Time
	puts    map[rule.Key]rule.Rule
	deletes map[rule.Key]bool
	applied Applied
}

// distinct refuses a change that names a rule twice: the order would decide.
func (t *transaction) distinct() error {
	t.deletes = make(map[rule.Key]bool, len(t.Deletes))
	for i, r := range t.Puts {
		t.Puts[i].Namespace = r.Key().Namespace
		if _, twice := t.puts[r.Key()]; twice {
			return fmt.Errorf("rule %s: %w: it is given twice in one change", r.Key(), discovery.ErrInvalid)
		}
		t.puts[r.Key()] = t.Puts[i]
	}
	for _, key := range t.Deletes {
		if _, put := t.puts[key]; put || t.deletes[key] {
			return fmt.Errorf("rule %s: %w: it is given twice in one change", key, discovery.ErrInvalid)
		}
		t.deletes[key] = true
	}
	return nil
}

// run checks everything before it changes anything.
func (t *transaction) run(d *draft, b *store.Batch) error {
	if err := t.guards(d); err != nil {
		return err
	}
	for _, r := range t.Puts {
		if err := d.notAlias(discovery.Name{Service: r.Service, Namespace: r.Namespace}); err != nil {
			return fmt.Errorf("rule %s: %w", r.Key(), err)
		}
	}
	if err := t.conflicts(d); err != nil {
		return err
	}
	docs, err := t.prepare(d)
	if err != nil {
		return err
	}
	changes, err := t.changes(d, docs)
	if err != nil {
		return err
	}
	if err := d.roomForRules(changes); err != nil {
		return err
	}
	if t.DryRun || len(changes) == 0 {
		t.applied.Revision = d.c.at(d.revision)
		return nil
	}
	t.write(d, b, changes)
	return nil
}

// ruleChange is what is written for one rule.
type ruleChange struct {
	key     rule.Key
	doc     *document // nil: deleted
	outcome Outcome
	version []byte // for the history
}

// changes lists what is to be written.
func (t *transaction) changes(d *draft, docs []*document) ([]ruleChange, error) {
	var out []ruleChange
	for _, doc := range docs {
		outcome := Configured
		if d.rule(doc.key) == nil {
			outcome = Created
		}
		out = append(out, ruleChange{key: doc.key, doc: doc, outcome: outcome})
	}
	for _, key := range t.Deletes {
		out = append(out, ruleChange{key: key, outcome: RuleDeleted})
	}
	for i := range out {
		v := storedVersion{At: t.now.UTC().Truncate(time.Millisecond), By: t.By, Outcome: out[i].outcome}
		if out[i].doc != nil {
			v.Rule = out[i].doc.json
		}
		var err error
		if out[i].version, err = json.Marshal(v); err != nil {
			return nil, fmt.Errorf("rule %s: %w", out[i].key, err)
		}
		if n := len(out[i].version); n > maxVersion { // the store would refuse all that is committed with it
			return nil, fmt.Errorf("rule %s: %w: %d bytes in the history, want at most %d", out[i].key, discovery.ErrInvalid, n, maxVersion)
		}
	}
	return out, nil
}

// write makes the changes. Nothing of it can fail, so that an error leaves no trace in the draft.
func (t *transaction) write(d *draft, b *store.Batch, changes []ruleChange) {
	revision := d.next(b)
	log := d.c.auditor(t.ctx, b, revision)
	for _, ch := range changes {
		action := t.Action
		if ch.doc == nil {
			action = "delete"
			d.deleteRule(ch.key, revision)
			b.Delete(ruleKey(ch.key))
		} else {
			d.putRule(ch.doc)
			b.Put(ruleKey(ch.key), ch.doc.json)
		}
		d.recordVersion(b, ch.key, ch.version, revision)
		log.add(action, string(ch.key.Kind), ch.key.Namespace, ch.key.Name, string(ch.outcome))
	}
	d.pruneHistory(b)
	t.applied.Revision = d.c.at(revision)
}

// guards checks If, and that what is to be deleted is there.
func (t *transaction) guards(d *draft) error {
	for _, key := range t.guarded() {
		var current discovery.Revision
		if doc := d.rule(key); doc != nil {
			current = d.c.at(doc.revision)
		}
		if want := t.If[key]; want != current {
			return &Precondition{key, want, current}
		}
	}
	for _, key := range t.Deletes {
		doc := d.rule(key)
		if doc == nil {
			return fmt.Errorf("rule %s: %w", key, ErrNotFound)
		}
		t.applied.Deleted = append(t.applied.Deleted, doc.rule)
	}
	return nil
}

// guarded lists the keys of If in order, so that the same change always fails for the same rule.
func (t *transaction) guarded() []rule.Key {
	return slices.SortedFunc(maps.Keys(t.If), compareKeys)
}

// conflicts looks for a second enforced rule where one is allowed, as things would be after the change.
func (t *transaction) conflicts(d *draft) error {
	for i, r := range t.Puts {
		if !single(r) {
			continue
		}
		name := discovery.Name{Service: r.Service, Namespace: r.Namespace}
		for _, earlier := range t.Puts[:i] {
			if rivals(earlier, r) {
				return &Conflict{r.Key(), earlier.Key(), r.Service}
			}
		}
		s := d.service(name)
		if s == nil {
			continue
		}
		for _, doc := range s.rules {
			if _, put := t.puts[doc.key]; !put && !t.deletes[doc.key] && rivals(doc.rule, r) {
				return &Conflict{r.Key(), doc.key, r.Service}
			}
		}
	}
	return nil
}

// single reports whether r is one of which a service has only one.
func single(r rule.Rule) bool {
	return !rule.Many(r.Kind) && (r.Mode == rule.Enforce || r.Mode == "")
}

func rivals(a, b rule.Rule) bool {
	return single(a) && single(b) && a.Kind == b.Kind && a.Namespace == b.Namespace && a.Service == b.Service
}

// prepare makes the documents that differ from what is stored, and the answers.
func (t *transaction) prepare(d *draft) ([]*document, error) {
	var docs []*document
	for _, r := range t.Puts {
		doc, err := newDocument(r, d.c.at(d.revision+1), t.By, t.now)
		if err != nil {
			return nil, fmt.Errorf("rule %s: %w", r.Key(), err)
		}
		old, outcome := d.rule(doc.key), Configured
		switch {
		case old == nil:
			outcome = Created
		case bytes.Equal(old.bare, doc.bare):
			outcome, doc = Unchanged, old
		}
		t.applied.Rules = append(t.applied.Rules, AppliedRule{doc.rule, outcome})
		if outcome != Unchanged {
			docs = append(docs, doc)
		}
	}
	return docs, nil
}

func (d *draft) putRule(doc *document) {
	e := event{revision: doc.revision, service: doc.service, document: doc}
	if old := d.rule(doc.key); old != nil && old.service != doc.service {
		e.left = old.service
		d.change(old.service, func(s *service) { s.removeRule(doc.key, doc.revision) })
	}
	d.rules[doc.key] = doc
	d.change(doc.service, func(s *service) { s.putRule(doc) })
	d.events = append(d.events, e)
}

func (d *draft) deleteRule(key rule.Key, revision uint64) {
	old := d.rule(key)
	d.change(old.service, func(s *service) { s.removeRule(key, revision) })
	d.rules[key] = nil
	d.events = append(d.events, event{revision: revision, service: old.service, document: old, removed: discovery.Deleted})
}
