package server

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// The states of a store, as its last commits have shown.
const (
	storeOK     = "ok"
	storeFull   = "full"   // writes are refused until there is space; reading and pushing go on
	storeBroken = "broken" // nothing more is acknowledged until the server is restarted
)

// watched is a store that remembers how its commits ended.
type watched struct {
	store.Store
	log     *slog.Logger
	metrics *commitMetrics
	state   atomic.Pointer[string]
}

func watch(st store.Store, log *slog.Logger) *watched {
	return &watched{Store: st, log: log, metrics: newCommitMetrics()}
}

// State is one of the three.
func (w *watched) State() string {
	if s := w.state.Load(); s != nil {
		return *s
	}
	return storeOK
}

// Commit implements [store.Store].
func (w *watched) Commit(writes []store.Write) error {
	start := time.Now()
	err := w.Store.Commit(writes)
	switch {
	case err == nil:
		w.metrics.observe(time.Since(start), len(writes))
		w.become(storeOK)
	case errors.Is(err, store.ErrFull):
		w.become(storeFull)
	case errors.Is(err, store.ErrBroken), errors.Is(err, store.ErrCorrupt):
		w.become(storeBroken)
	}
	return err
}

// become logs changes, but no way leads back from broken. One goroutine commits.
func (w *watched) become(state string) {
	old := w.State()
	if old == state || old == storeBroken {
		return
	}
	w.state.Store(&state)
	if state == storeOK {
		w.log.Info("the store takes writes again")
		return
	}
	w.log.Error("the store refuses writes", "state", state)
}

// ready says why requests should go elsewhere. With a full disk most still succeed: it is no reason.
func (r *rooms) ready() error {
	switch {
	case r.stopping.Load():
		return errors.New("the server is stopping")
	case r.store.State() == storeBroken:
		return store.ErrBroken
	}
	return nil
}

// Alive returns once the loop that commits writes has answered, or with the error of ctx. A supervisor restarts a server
// that does not answer; one whose disk is full or broken does, as a restart would not mend it.
func (s *Server) Alive(ctx context.Context) error {
	r := s.rooms.Load()
	if r == nil {
		return nil // being replaced, which has bounds of its own
	}
	_, err := r.catalog.Do(ctx, func(*store.Batch) error { return nil })
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
