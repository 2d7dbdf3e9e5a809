package store

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"
)

// What is kept for those who watch.
const (
	maxCommits     = 8192
	maxCommitBytes = 4 << 20
	writeOverhead  = 64 // of a Write in memory, besides key and value
	watchChunk     = 64 // commits told before it is looked again whether the watcher keeps up
)

// feed is the revision of a store, and its last commits for those who watch. Both kinds of store have one.
type feed struct {
	maxCommits, maxBytes int // changed by tests before the first use

	mu       sync.Mutex
	revision uint64
	floor    uint64 // what was committed up to it is not kept
	commits  []told // by ascending revision
	bytes    int
	watched  bool // nothing is kept before somebody has asked for it
	closed   bool
	news     chan struct{} // closed when there is something new; nil while nobody waits
}

type told struct {
	revision uint64
	writes   []Write
	bytes    int
}

func newFeed(revision uint64) *feed {
	return &feed{maxCommits: maxCommits, maxBytes: maxCommitBytes, revision: revision, floor: revision}
}

// Revision implements [Store].
func (f *feed) Revision() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.revision
}

// after gives the revision of the store once the writes are committed, or refuses one that is too low.
func (f *feed) after(writes []Write) (uint64, error) {
	now := f.Revision()
	next := now
	for _, w := range writes {
		if w.Revision != 0 && w.Revision < now {
			return 0, fmt.Errorf("key %q: revision %d: want at least %d, that of an earlier commit", w.Key, w.Revision, now)
		}
		next = max(next, w.Revision)
	}
	return next, nil
}

// publish tells what is on disk.
func (f *feed) publish(revision uint64, writes []Write) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if revision <= f.revision {
		return
	}
	f.revision = revision
	if !f.watched {
		f.floor = revision
		return
	}
	c := told{revision: revision, writes: slices.Clone(writes)}
	for _, w := range writes {
		c.bytes += writeOverhead + len(w.Key) + len(w.Value)
	}
	f.commits = append(f.commits, c)
	f.bytes += c.bytes
	for len(f.commits) > f.maxCommits || f.bytes > f.maxBytes {
		f.floor = f.commits[0].revision
		f.bytes -= f.commits[0].bytes
		f.commits[0] = told{} // the array stays until append moves on
		f.commits = f.commits[1:]
	}
	f.wake()
}

// close ends every Watch.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	f.wake()
}

func (f *feed) wake() {
	if f.news != nil {
		close(f.news)
		f.news = nil
	}
}

// Watch implements [Store].
func (f *feed) Watch(ctx context.Context, after uint64, fn func([]Write) error) error {
	for {
		commits, news, err := f.next(after)
		if err != nil {
			return err
		}
		for _, c := range commits {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := fn(c.writes); err != nil {
				return err
			}
			after = c.revision
		}
		if len(commits) > 0 {
			continue // perhaps there are more
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// next gives the first commits after a revision, or what to wait for.
func (f *feed) next(after uint64) ([]told, <-chan struct{}, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watched = true
	switch {
	case f.closed:
		return nil, nil, ErrClosed
	case after < f.floor:
		return nil, nil, ErrCompacted
	}
	from := sort.Search(len(f.commits), func(i int) bool { return f.commits[i].revision > after })
	if from < len(f.commits) {
		return slices.Clone(f.commits[from:min(len(f.commits), from+watchChunk)]), nil, nil
	}
	if f.news == nil {
		f.news = make(chan struct{})
	}
	return nil, f.news, nil
}
