package catalog

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"sync"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/store"
	"github.com/weftmesh/weft/rule"
)

// ErrTooOld says that a watch cannot go on from a revision without a gap: read everything again.
var ErrTooOld = errors.New("the changes since that revision are not kept any more")

// The kinds of an [Event].
const (
	KindInstance = "instance"
	KindRule     = "rule"
	KindAlias    = "alias"
)

// Event is one change.
type Event struct {
	Revision discovery.Revision
	Kind     string           // instance, rule or alias
	Removed  discovery.Reason // why it is gone; "" if it was put. Of rules and aliases: deleted
	Service  discovery.Name   // of the instance; of a rule, what it governs; of an alias, its own name
	Left     discovery.Name   // the service that a rule governed, or an alias stood for, until then; zero: the same, or none
	ID       string           // of the instance
	Instance *discovery.Instance
	Rule     *rule.Rule
	Key      rule.Key // of the rule
	Alias    *Alias   // of one that is gone, as it was
}

// The bounds of the events that are kept.
const (
	maxEvents     = 10_000
	maxEventBytes = 32 << 20 // of rules in them; each counts eventRule times its text
	eventRule     = 4
)

// Watch calls fn with the events of each revision after the one given, one revision after the other, until ctx ends or fn
// fails; it returns that error, or [store.ErrClosed] once the catalog is closed. A change of health is an event too. It
// keeps the last 10,000 events (fewer, if there are large rules among them): its error is [ErrTooOld] if they do not
// reach back to the revision, or if fn is so slow that they no longer do. The zero revision starts with what comes next.
// What the events lead to must not be changed.
func (c *Catalog) Watch(ctx context.Context, after discovery.Revision, fn func([]Event) error) error {
	if after.IsZero() {
		after = c.Revision()
	}
	if after.Epoch != c.epoch || after.Number > c.Revision().Number {
		return fmt.Errorf("revision %s: %w", after, ErrTooOld)
	}
	for {
		events, more, err := c.events.after(after.Number)
		if err != nil {
			return fmt.Errorf("revision %s: %w", after, err)
		}
		for _, same := range byRevision(events) {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(c.public(same)); err != nil {
				return err
			}
			after.Number = same[0].revision
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		case <-c.notifier.done:
			return store.ErrClosed
		}
	}
}

// byRevision cuts events where the revision changes.
func byRevision(events []event) (out [][]event) {
	for len(events) > 0 {
		n := 1
		for n < len(events) && events[n].revision == events[0].revision {
			n++
		}
		out, events = append(out, events[:n:n]), events[n:]
	}
	return out
}

func (c *Catalog) public(events []event) []Event {
	out := make([]Event, len(events))
	for i, e := range events {
		out[i] = e.public(c)
	}
	return out
}

// event is one change as it is kept: an instance, a rule or an alias.
type event struct {
	revision uint64
	removed  discovery.Reason
	service  discovery.Name
	left     discovery.Name
	instance *instance
	document *document
	alias    *alias
}

func (e *event) public(c *Catalog) Event {
	out := Event{Revision: c.at(e.revision), Removed: e.removed, Service: e.service, Left: e.left}
	switch {
	case e.instance != nil:
		out.Kind, out.ID = KindInstance, e.instance.id()
		if e.removed == "" {
			in := e.instance.public(e.service)
			out.Instance = &in
		}
	case e.document != nil:
		out.Kind, out.Key = KindRule, e.document.key
		if e.removed == "" {
			out.Rule = &e.document.rule
		}
	default:
		out.Kind = KindAlias
		a := c.alias(e.service, e.alias)
		a.Revision = out.Revision
		out.Alias = &a
	}
	return out
}

func (e *event) bytes() int {
	if e.document == nil {
		return 0
	}
	return eventRule * len(e.document.json)
}

// events keeps the last changes, in the order of their revisions.
type events struct {
	mu    sync.Mutex
	ring  []event // event i is at i modulo maxEvents
	first int     // the oldest that is kept
	next  int     // the number of events there ever were
	bytes int
	floor uint64        // the last revision of which an event is not kept
	more  chan struct{} // closed when there are more
}

func (k *events) at(i int) *event { return &k.ring[i%maxEvents] }

// add takes the changes of a draft; wake tells those who wait for them.
func (k *events) add(changes []event) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range changes {
		if k.next-k.first == maxEvents {
			k.drop()
		}
		if len(k.ring) < maxEvents {
			k.ring = append(k.ring, e)
		} else {
			*k.at(k.next) = e
		}
		k.next++
		k.bytes += e.bytes()
	}
	for k.bytes > maxEventBytes {
		k.drop()
	}
}

// drop lets go of the oldest event. It runs under mu.
func (k *events) drop() {
	e := k.at(k.first)
	k.floor = e.revision
	k.bytes -= e.bytes()
	*e = event{}
	k.first++
}

func (k *events) wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.more != nil {
		close(k.more)
		k.more = nil
	}
}

// after gives events after a revision, the next 1,000 and all others of the last one's revision; if there are none, a
// channel that is closed when there may be.
func (k *events) after(revision uint64) ([]event, <-chan struct{}, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if revision < k.floor {
		return nil, nil, ErrTooOld
	}
	start := k.first + sort.Search(k.next-k.first, func(i int) bool { return k.at(k.first+i).revision > revision })
	if start == k.next {
		if k.more == nil {
			k.more = make(chan struct{})
		}
		return nil, k.more, nil
	}
	var out []event
	for i := start; i < k.next && (len(out) < 1000 || k.at(i).revision == out[len(out)-1].revision); i++ {
		out = append(out, *k.at(i))
	}
	return out, nil, nil
}
