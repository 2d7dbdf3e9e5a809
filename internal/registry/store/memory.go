package store

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// Memory is a store that forgets everything when it goes, for tests. The zero value is not usable: use
// [NewMemory].
type Memory struct {
	*feed // Revision and Watch

	epoch uint64

	mu       sync.Mutex // before the feed's
	data     map[string]Write
	families map[string]bool
	closed   bool
}

// NewMemory makes an empty store in memory.
func NewMemory() *Memory {
	return &Memory{feed: newFeed(0), epoch: newEpoch(), data: make(map[string]Write), families: make(map[string]bool)}
}

func newEpoch() uint64 { return rand.Uint64() | 1 } // never 0

// Epoch implements [Store].
func (m *Memory) Epoch() uint64 { return m.epoch }

// Range implements [Store].
func (m *Memory) Range(prefix string, fn func(Entry) error) error {
	entries, err := m.entries(prefix)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := fn(Entry(e)); err != nil {
			return err
		}
	}
	return nil
}

func (m *Memory) entries(prefix string) (found []Write, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, ErrClosed
	}
	for key, w := range m.data {
		if strings.HasPrefix(key, prefix) {
			found = append(found, w)
		}
	}
	slices.SortFunc(found, byKey)
	return found, nil
}

func byKey(a, b Write) int { return strings.Compare(a.Key, b.Key) }

// Commit implements [Store].
func (m *Memory) Commit(writes []Write) error {
	if err := check(writes); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return ErrClosed
	}
	revision, err := m.after(writes)
	if err != nil {
		return err
	}
	families, err := m.withFamilies(writes)
	if err != nil {
		return err
	}
	m.families = families
	for _, w := range writes {
		if w.Value == nil {
			delete(m.data, w.Key)
		} else {
			w.Value = slices.Clone(w.Value)
			m.data[w.Key] = w
		}
	}
	m.publish(revision, writes)
	return nil
}

// withFamilies gives the families once the writes are made, which a store on disk bounds.
func (m *Memory) withFamilies(writes []Write) (map[string]bool, error) {
	families := m.families
	for _, w := range writes {
		name := familyOf(w.Key)
		if families[name] {
			continue
		}
		if len(families) >= maxFamilies {
			return nil, errFamilies(w.Key)
		}
		families = maps.Clone(families)
		families[name] = true
	}
	return families, nil
}

// Close implements [Store]. What was committed stays readable by a [Memory.Reopen].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	m.feed.close()
	return nil
}

// Reopen is what a restart is to a store on disk: it gives a store with the same epoch and content.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{feed: newFeed(m.Revision()), epoch: m.epoch, data: maps.Clone(m.data), families: maps.Clone(m.families)}
}
