package grpcweft

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/balancer"

	weftbalancer "github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
)

// picker asks the attempt of each call where it goes. A fanout has one for all its life and publishes it again to
// make waiting calls ask again.
type picker struct {
	table   atomic.Pointer[table] // set before the picker is first published
	waiters atomic.Bool           // a call waits for a publication
	reports sync.Pool             // of *report
}

// table is the endpoints of one update. It is immutable; what changes is in the children.
type table struct {
	service string
	slots   map[*weftbalancer.Stats]*child
}

// Pick implements balancer.Picker. It does not block.
func (p *picker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	t, _ := info.Ctx.Value(tryKey{}).(*try)
	if service := p.table.Load().service; t == nil || t.attempt.Call().Dialled() != service {
		return balancer.PickResult{}, misuse("a call of %s reached the balancer without having begun in its interceptor", service)
	}
	t.asked, t.sent, t.received, t.trailer = true, false, false, nil
	ep, err := p.choose(t)
	if err == engine.ErrNotReady {
		// A connection may have become ready before it could be known that somebody waits: look again.
		p.waiters.Store(true)
		ep, err = p.choose(t)
	}
	if err != nil {
		return balancer.PickResult{}, t.unavailable(err)
	}
	return balancer.PickResult{SubConn: t.slots[ep.Stats].state.Load().conn, Done: p.report(t)}, nil
}

func (p *picker) choose(t *try) (*weftbalancer.Endpoint, error) {
	t.slots, t.waitable, t.lastErr = p.table.Load().slots, false, nil
	return t.attempt.Select(t)
}

// unavailable translates an error of Select. For the one of balancer every call waits; any other error lets calls
// that wait for readiness wait and the rest fail. The interceptor turns a refusal into a typed error.
func (t *try) unavailable(err error) error {
	if err != engine.ErrNotReady {
		return errors.New(err.Error()) // not wrapped: grpc would end every call if it found a status in it
	}
	if t.waitable || t.lastErr == nil {
		return balancer.ErrNoSubConnAvailable
	}
	return fmt.Errorf("no endpoint can be reached: %v", t.lastErr)
}

// report tells a try how its stream ended. grpc wants a function; keeping it with its report, and the report in a
// pool, saves making one for each call.
type report struct {
	try  *try
	done func(balancer.DoneInfo)
}

func (p *picker) report(t *try) func(balancer.DoneInfo) {
	r, _ := p.reports.Get().(*report)
	if r == nil {
		r = new(report)
		r.done = func(info balancer.DoneInfo) {
			t := r.try
			r.try = nil
			p.reports.Put(r)
			t.done(info)
		}
	}
	r.try = t
	return r.done
}
