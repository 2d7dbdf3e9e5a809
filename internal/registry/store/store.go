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
//	c.Close()
//	err = st.Close()
//
// Reading happens once, at the start: the registry answers from its memory (package catalog).
//
// [Backup] writes all of a store while it is in use, [SaveBackup] does so into the data directory, and [Restore] makes
// a store of a backup, with a new epoch. A registry.db that was copied back by hand keeps its epoch: nobody can notice
// that its revisions are given out a second time. Restore a backup instead.
package store

import (
	"context"
	"errors"
	"fmt"
)

// Store is a durable ordered map from text to bytes, in which each value has the revision of its last change.
type Store interface {
	// Epoch is a random number, chosen when the store was created and kept with it. It is never 0.
	Epoch() uint64
	// Revision is the highest one that was ever committed; 0 in an empty store.
	Revision() uint64
	// Range calls fn for every key that starts with prefix, in order and as of one moment, and stops at its first
	// error. The value is valid during the call only. fn must not call Commit. Its error wraps ErrCorrupt if the
	// file is found to be damaged, perhaps after some calls of fn: what fn was told is then to be forgotten.
	Range(prefix string, fn func(Entry) error) error
	// Watch calls fn with the writes of every commit after the revision, one commit after the other, until ctx ends
	// or fn fails; it returns that error. A commit that brings no higher revision is bookkeeping and is not told. The
	// writes are on disk, and must not be changed. Its error is ErrCompacted if it cannot go on from there without a
	// gap: up to 8,192 commits and 4 MiB are kept, from the first Watch of an open store on. A slow fn delays nobody else.
	Watch(ctx context.Context, after uint64, fn func([]Write) error) error
	// Commit applies all writes or none, in order. When it returns nil they are on disk. It may be called
	// from one goroutine at a time, and values must not be changed afterwards. Writes beyond a bound are refused, and
	// ErrFull means that nothing was written for want of space. After any other error it cannot be known whether the
	// writes are there after a restart, and every later call fails with ErrBroken.
	Commit(writes []Write) error
	Close() error
}

// Write is one change of a transaction. A nil Value deletes the key. The revision is the writer's to give; it must not
// be below that of an earlier commit. 0 is for bookkeeping that is no change to anybody.
type Write struct {
	Key      string // 1 to 1024 bytes, of which up to 64 before the first "/", which name the key's family
	Value    []byte // at most 1 MiB
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
	ErrCorrupt = errors.New("is damaged")
	// ErrLayout says that the store's file was written by another version.
	ErrLayout = errors.New("has the layout of another version of this server; start that version, or move the file away to start empty")
	// ErrBackup says that what should be a backup is none, or was damaged or cut off.
	ErrBackup = errors.New("this is not a whole backup")
	// ErrCompacted says that what followed a revision is not known any more: read everything again.
	ErrCompacted = errors.New("the changes since that revision are not kept any more")
	// ErrBusy says that more writes wait than will be done soon.
	ErrBusy = errors.New("too many writes are waiting; try again in a second")
	// ErrClosed says that the store or the committer was closed.
	ErrClosed = errors.New("the store is closed")
)

// What bounds a write.
const (
	maxKey      = 1024
	maxValue    = 1 << 20
	maxFamily   = 64 // bytes of a family's name
	maxFamilies = 64
)

// check refuses writes that a store does not hold.
func check(writes []Write) error {
	for _, w := range writes {
		if err := checkWrite(w); err != nil {
			return err
		}
	}
	return nil
}

func checkWrite(w Write) error {
	if len(w.Key) == 0 || len(w.Key) > maxKey {
		return fmt.Errorf("key of %d bytes: want 1 to %d", len(w.Key), maxKey)
	}
	if n := len(familyOf(w.Key)) - 1; n > maxFamily {
		return fmt.Errorf("key %q: %d bytes before the first slash: want at most %d", w.Key, n, maxFamily)
	}
	if len(w.Value) > maxValue {
		return fmt.Errorf("key %q: value of %d bytes: want at most %d", w.Key, len(w.Value), maxValue)
	}
	return nil
}

func errFamilies(key string) error {
	return fmt.Errorf("key %q: a family more than %d", key, maxFamilies)
}
