package registry

import (
	"log/slog"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// saveEvery is the shortest time between two writes of a service's state.
const saveEvery = time.Second

// saver writes states to the cache on its own goroutine; of several states of a service it writes the last.
type saver struct {
	cache *discovery.Cache
	log   *slog.Logger
	wake  chan struct{} // of capacity 1
	stop  chan struct{}
	done  chan struct{}

	failing bool // of the goroutine: the last write failed

	mu      sync.Mutex
	pending map[string]discovery.Cached
}

func newSaver(cache *discovery.Cache, log *slog.Logger) *saver {
	v := &saver{
		cache: cache, log: log, pending: map[string]discovery.Cached{},
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go v.run()
	return v
}

// put queues a state.
func (v *saver) put(state discovery.Cached) {
	v.mu.Lock()
	v.pending[state.Service] = state
	v.mu.Unlock()
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// load returns the last state of the service, written or not.
func (v *saver) load(service string) (discovery.Cached, error) {
	v.mu.Lock()
	state, ok := v.pending[service]
	v.mu.Unlock()
	if ok {
		return state, nil
	}
	return v.cache.Load(service)
}

// close writes what is pending.
func (v *saver) close() {
	close(v.stop)
	<-v.done
}

func (v *saver) run() {
	defer close(v.done)
	defer v.flush()
	for {
		select {
		case <-v.wake:
		case <-v.stop:
			return
		}
		v.flush()
		select {
		case <-time.After(saveEvery):
		case <-v.stop:
			return
		}
	}
}

func (v *saver) flush() {
	v.mu.Lock()
	pending := v.pending
	v.pending = map[string]discovery.Cached{}
	v.mu.Unlock()
	for service, state := range pending {
		err := v.cache.Save(state)
		if err != nil && !v.failing { // once an outage of the disk, not once a second
			v.log.Warn("the state of a service cannot be cached", "service", service, "error", err)
		}
		v.failing = err != nil
	}
}
