package store

import (
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
)

// Memory is a store that forgets everything when it goes, for tests. The zero value is not usable: use
// [NewMemory].
type Memory struct {
	epoch uint64

	mu     sync.Mutex
	data   map[string]Write
	closed bool
}

// NewMemory makes an empty store in memory.
func NewMemory() *Memory {
	return &Memory{epoch: newEpoch(), data: make(map[string]Write)}
}

func newEpoch() uint64 { return rand.Uint64() | 1 } // never 0

// Epoch implements [Store].
func (m *Memory) Epoch() uint64 { return m.epoch }

// Revision implements [Store].
func (m *Memory) Revision() uint64 { return 0 }

// Watch implements [Store].
func (m *Memory) Watch(context.Context, uint64, func([]Write) error) error { return ErrCompacted }

// Range implements [Store].
func (m *Memory) Range(prefix string, fn func(Entry) error) error {
	m.mu.Lock()
	data, closed := maps.Clone(m.data), m.closed
	m.mu.Unlock()
	if closed {
		return ErrClosed
	}
	for _, key := range slices.Sorted(maps.Keys(data)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if err := fn(Entry{Key: key, Value: data[key].Value, Revision: data[key].Revision}); err != nil {
			return err
		}
	}
	return nil
}

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
	for _, w := range writes {
		if w.Value == nil {
			delete(m.data, w.Key)
		} else {
			w.Value = slices.Clone(w.Value)
			m.data[w.Key] = w
		}
	}
	return nil
}

// Close implements [Store]. What was committed stays readable by a [Memory.Reopen].
func (m *Memory) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.closed = true
	return nil
}

// Reopen is what a restart is to a store on disk: it gives a store with the same epoch and content.
func (m *Memory) Reopen() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{epoch: m.epoch, data: maps.Clone(m.data)}
}
