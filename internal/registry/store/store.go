// Package store keeps the registry's keys and values on disk: [Open] a data directory, [Memory] for tests.
//
// A store is written in transactions, and what is committed has reached the disk. Many writers share
// transactions through a [Committer]:
//
//	st, err := store.Open("weft-data")
//	…
//	c := store.NewCommitter(st, nil)
//	err = c.Do(ctx, func(b *store.Batch) error {
//		b.Put("i/shop/product/p1", value)
//		return nil
//	})                                   // nil: the value survives kill -9
//	err = errors.Join(c.Close(), st.Close())
//
// Reading happens once, at the start: the registry answers from its memory (package catalog).
package store

import (
	"context"
	"errors"
)

// Store is a durable ordered map from text to bytes, in which each value has the revision of its last change.
type Store interface {
	// Epoch is a random number, chosen when the store was created and kept with it. It is never 0.
	Epoch() uint64
	// Revision is the highest one that was ever committed; 0 in an empty store.
	Revision() uint64
	// Range calls fn for every key that starts with prefix, in order and as of one moment, and stops at its first
	// error. The value is valid during the call only.
	Range(prefix string, fn func(Entry) error) error
	// Watch calls fn with the writes of every commit after the revision, one commit after the other, until ctx ends
	// or fn fails; it returns that error. Its error is ErrCompacted if it cannot go on from there without a gap.
	Watch(ctx context.Context, after uint64, fn func([]Write) error) error
	// Commit applies all writes or none, in order. When it returns nil they are on disk. It may be called
	// from one goroutine at a time. Its error is ErrFull if nothing was written for want of space; after any
	// other error it cannot be known whether the writes are there after a restart, and every later call
	// fails with ErrBroken.
	Commit(writes []Write) error
	Close() error
}

// Write is one change of a transaction. A nil Value deletes the key. The revision is the writer's to give; it must not
// be below that of an earlier commit.
type Write struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Entry is a key that is there.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64 // of its last change
}

// The errors that a caller tells apart.
var (
	// ErrFull says that the disk is full. Nothing was written; a later write may succeed.
	ErrFull = errors.New("no space left in the data directory; free some space")
	// ErrBroken says that an earlier write failed at the disk, so that nothing more is acknowledged.
	ErrBroken = errors.New("an earlier write to the store failed; nothing more is written until the server is restarted")
	// ErrInUse says that another process has the data directory open.
	ErrInUse = errors.New("is in use by another process; stop it or choose another --data-dir")
	// ErrCorrupt says that the store's file cannot be read.
	ErrCorrupt = errors.New("is damaged; restore it from a copy, or move it away to start empty")
	// ErrCompacted says that what followed a revision is not known any more: read everything again.
	ErrCompacted = errors.New("the changes since that revision are not kept any more")
	// ErrBusy says that more writes wait than will be done soon.
	ErrBusy = errors.New("too many writes are waiting; try again in a second")
	// ErrClosed says that the store or the committer was closed.
	ErrClosed = errors.New("the store is closed")
)
