// Package audit remembers who changed what, when, and from where, in the same transaction as the change.
//
//	log, err := audit.Open(st)
//	…
//	err = committer.Do(ctx, func(b *store.Batch) error {
//		b.Put(key, value)
//		log.Append(b, audit.Entry{At: now, Actor: actor, Action: "put", Kind: "Route", Target: "product-canary"})
//		return nil
//	})
//	entries, err := log.List(audit.Filter{Who: "alice"}) // the newest first
//
// The newest 100,000 entries are kept.
package audit

import (
	"context"
	"strings"
	"time"
)

// Actor is who makes a change.
type Actor struct {
	Who  string `json:"who"`  // the name of the token
	From string `json:"from"` // the address of the client, without the port
}

type actorKey struct{}

// With gives a context whose changes are the actor's. Changes without an actor, those of sessions and leases, are not
// audited.
func With(ctx context.Context, a Actor) context.Context { return context.WithValue(ctx, actorKey{}, a) }

// Of gives the actor of a context.
func Of(ctx context.Context) (Actor, bool) {
	a, ok := ctx.Value(actorKey{}).(Actor)
	return a, ok
}

// Entry is one change.
type Entry struct {
	Number uint64    `json:"number"` // ascending, without gap but for what was pruned
	At     time.Time `json:"at"`
	Actor
	Action    string `json:"action"` // put, delete, order, rollback, create, revoke, restore, override …
	Kind      string `json:"kind"`   // instance, alias, token, protection, backup, or the kind of a rule
	Namespace string `json:"namespace,omitempty"`
	Target    string `json:"target"` // such as "product/p1" of an instance, or the name of a rule
	Revision  string `json:"revision,omitempty"`
	Detail    string `json:"detail,omitempty"` // at most 1 KiB
}

// Filter chooses entries; an empty field chooses all.
type Filter struct {
	Before    uint64 // only entries with a lower number; 0: from the newest
	Limit     int    // 0 and more than 1000: 1000
	Who       string
	Kind      string // its case does not matter
	Namespace string
	Target    string
}

func (f Filter) match(e Entry) bool {
	return (f.Who == "" || f.Who == e.Who) && (f.Kind == "" || strings.EqualFold(f.Kind, e.Kind)) &&
		(f.Namespace == "" || f.Namespace == e.Namespace) && (f.Target == "" || f.Target == e.Target)
}
