package discovery

import (
	"context"
	"errors"
	"sync"
	"time"
)

// MergeWait is how long the first snapshot of a merged source waits for the slower sources, from the first
// source's answer on.
const MergeWait = time.Second

// Merge is a [Source] that asks several at once. A merged snapshot holds the union of the instances: of those
// with the same ID the one of the first source in order. Its revision is that of the first source that has one;
// it is Missing when every source says so, Stale when any is, and an alias when one says so. A removal counts once no source has the
// instance any more.
//
// The first snapshot is delivered when every source has answered, or [MergeWait] after the first answer; from
// then on each answer delivers one. A source that fails for good is treated as having answered, keeps what it
// last said, and its error is in the one that Watch returns; Watch ends early only when all have failed.
//
// Merge of one source is that source.
func Merge(sources ...Source) Source {
	if len(sources) == 1 {
		return sources[0]
	}
	return SourceFunc(func(ctx context.Context, service string, apply func(Snapshot)) error {
		if len(sources) == 0 {
			return errors.New("merge of no sources: want at least one")
		}
		m := &merger{service: service, apply: apply, parts: make([]*Snapshot, len(sources)), pending: len(sources)}
		return m.run(ctx, sources)
	})
}

// merger is one Watch of a merged source.
type merger struct {
	service string
	apply   func(Snapshot)

	mu      sync.Mutex // also makes the calls of apply one at a time
	parts   []*Snapshot
	pending int  // sources that have neither answered nor failed
	open    bool // the wait for the first snapshot is over
	timer   *time.Timer
}

func (m *merger) run(ctx context.Context, sources []Source) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	errs := make([]error, len(sources))
	var watches sync.WaitGroup
	for i, source := range sources {
		watches.Go(func() {
			err := source.Watch(ctx, m.service, func(s Snapshot) { m.answered(i, &s) })
			if ctx.Err() == nil {
				errs[i] = err
				m.answered(i, nil)
			}
		})
	}
	watches.Wait()
	m.stop()
	return errors.Join(append(errs, context.Cause(ctx))...)
}

// answered takes a source's snapshot, or nil from one that failed.
func (m *merger) answered(i int, s *Snapshot) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts[i] == nil {
		m.pending--
	}
	switch {
	case s != nil:
		m.parts[i] = s
	case m.parts[i] == nil:
		m.parts[i] = &Snapshot{}
	default:
		return // what it last said stays
	}
	if m.pending == 0 {
		m.open = true
	}
	if m.open {
		m.deliver()
	} else if m.timer == nil {
		m.timer = time.AfterFunc(MergeWait, m.waited)
	}
}

func (m *merger) waited() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.open {
		m.open = true
		m.deliver()
	}
}

// stop makes sure that nothing is delivered after Watch has returned.
func (m *merger) stop() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = true
	if m.timer != nil {
		m.timer.Stop()
	}
}

func (m *merger) deliver() {
	merged := Snapshot{Service: m.service, Missing: m.pending == 0}
	seen := map[string]bool{}
	for _, part := range m.parts {
		if part == nil {
			continue
		}
		merged.Missing = merged.Missing && part.Missing
		merged.Stale = merged.Stale || part.Stale
		if merged.Alias == "" {
			merged.Alias = part.Alias
		}
		if merged.Revision.IsZero() {
			merged.Revision = part.Revision
		}
		for _, in := range part.Instances {
			if !seen[in.ID] {
				seen[in.ID] = true
				merged.Instances = append(merged.Instances, in)
			}
		}
	}
	for _, part := range m.parts {
		if part == nil {
			continue
		}
		for _, r := range part.Removed {
			if !seen[r.ID] {
				seen[r.ID] = true
				merged.Removed = append(merged.Removed, r)
			}
		}
	}
	sortByID(merged.Instances)
	m.apply(merged)
}
