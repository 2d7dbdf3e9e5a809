package prom

import (
	"maps"
	"sync"
	"sync/atomic"
)

const overflow = "overflow"

// series hands out the cells of one metric until its bound. Those of one recorder are found in its [table].
type series[K comparable, C any] struct {
	left     atomic.Int64
	overflow func() C // made at the first use, so that a metric that never overflows does not show it
}

func (s *series[K, C]) init(limit int, overflow func() C) {
	s.left.Store(int64(limit) - 1) // one is overflow
	s.overflow = sync.OnceValue(overflow)
}

// take reports whether there is room for one more, and takes it.
func (s *series[K, C]) take() bool {
	for n := s.left.Load(); n > 0; n = s.left.Load() {
		if s.left.CompareAndSwap(n, n-1) {
			return true
		}
	}
	return false
}

// table remembers the cells of a recorder by what changes from event to event. Readers take no lock and allocate
// nothing: a new key copies the map, which happens at most as often as there are series.
type table[K comparable, C any] struct {
	series  *series[K, C]
	resolve func(K) C
	known   atomic.Pointer[map[K]C]
	mu      sync.Mutex // one writer at a time
}

func (t *table[K, C]) init(s *series[K, C], resolve func(K) C) {
	t.series, t.resolve = s, resolve
	t.known.Store(&map[K]C{})
}

func (t *table[K, C]) get(k K) C {
	if c, ok := (*t.known.Load())[k]; ok {
		return c
	}
	if t.series.left.Load() <= 0 {
		return t.series.overflow() // without a lock, as this may be the case for ever
	}
	return t.add(k)
}

func (t *table[K, C]) add(k K) C {
	t.mu.Lock()
	defer t.mu.Unlock()
	known := *t.known.Load()
	if c, ok := known[k]; ok {
		return c
	}
	if !t.series.take() {
		return t.series.overflow()
	}
	next := maps.Clone(known)
	next[k] = t.resolve(k)
	t.known.Store(&next)
	return next[k]
}
