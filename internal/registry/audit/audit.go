// Package audit remembers who changed what, when, and from where, in the same transaction as the change.
package audit

import (
	"context"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
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
	Kind      string `json:"kind"`   // instance, alias, token, or the kind of a rule
	Namespace string `json:"namespace,omitempty"`
	Target    string `json:"target"` // such as "product/p1" of an instance, or the name of a rule
	Revision  string `json:"revision,omitempty"`
	Detail    string `json:"detail,omitempty"` // at most 1 KiB
}

// Filter chooses entries; an empty field chooses all.
type Filter struct {
	Before    uint64 // only entries with a lower number; 0: from the newest
	Limit     int    // 0: 1000
	Who       string
	Kind      string
	Namespace string
	Target    string
}

// Log is the audit log of a store. It is made by [Open].
type Log struct{ st store.Store }

// Open goes on with the log of a store.
func Open(st store.Store) (*Log, error) { return &Log{st}, nil }

// Append adds an entry to an operation, which gives it its number; it is called by one operation at a time.
func (l *Log) Append(b *store.Batch, e Entry) {}

// List gives entries, the newest first.
func (l *Log) List(f Filter) ([]Entry, error) { return nil, nil }
