package weft

import (
	"context"
	"sync"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/engine"
)

// hop makes the plans of a service those of another name for it.
type hop struct {
	to   *engine.Service
	name string // of the target

	mu   sync.Mutex // taken with the target's held, and before that of the service which follows it
	over bool
	stop func()
}

// publish passes a plan of the target on.
func (h *hop) publish(p *engine.Plan) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over {
		h.to.Publish(p)
	}
}

// end makes sure that nothing is passed on any more.
func (h *hop) end() {
	h.stop()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
}

// follow makes calls of the service go where the alias points, or where its own name does if it is none. It is one hop:
// what the target says of being an alias itself does not count. It runs under mu.
func (w *watch) follow(alias string) {
	if w.hop != nil && w.hop.name == alias {
		return
	}
	if w.hop != nil {
		w.hop.end()
		w.hop = nil
	}
	name, err := discovery.ParseName(alias, "")
	if err != nil {
		return // it is no alias
	}
	target, err := w.target(name)
	if err != nil {
		return // the mesh is closed or full, and calls get what the name itself has
	}
	w.hop = &hop{to: w.service, name: alias}
	w.hop.stop = target.Listen(w.hop.publish)
}

// watchTarget calls apply with the snapshots of a service, of an alias with those of what it stands for, until ctx ends.
func (s *services) watchTarget(ctx context.Context, name discovery.Name, apply func(discovery.Snapshot)) error {
	f := &follower{ctx: ctx, source: s.source, apply: apply, stop: func() {}}
	err := s.source.Watch(ctx, name.String(), f.take)
	f.switchTo("")
	f.watches.Wait()
	return err
}

// follower is one watchTarget.
type follower struct {
	ctx     context.Context
	source  discovery.Source
	watches sync.WaitGroup

	mu     sync.Mutex // also makes the calls of apply one at a time
	apply  func(discovery.Snapshot)
	target string // "": the name itself
	turn   int    // counts the changes of target: what an earlier one still delivers does not count
	stop   func() // ends the watch of target
}

// take takes a snapshot of the name itself.
func (f *follower) take(s discovery.Snapshot) {
	turn := f.switchTo(s.Alias)
	if s.Alias == "" {
		f.deliver(turn, s)
	}
}

// switchTo follows another target, if it is another.
func (f *follower) switchTo(target string) (turn int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if target == f.target {
		return f.turn
	}
	f.stop()
	f.turn++
	f.target, f.stop = target, func() {}
	if target != "" {
		ctx, cancel := context.WithCancel(f.ctx)
		turn := f.turn
		f.stop = cancel
		f.watches.Go(func() {
			_ = f.source.Watch(ctx, target, func(s discovery.Snapshot) { f.deliver(turn, s) }) // it ends with ctx, or never answers
		})
	}
	return f.turn
}

func (f *follower) deliver(turn int, s discovery.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if turn == f.turn {
		f.apply(s)
	}
}
