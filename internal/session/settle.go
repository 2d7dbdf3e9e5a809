package session

import (
	"context"
	"errors"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

// ErrNoSession is returned by what needs a session at the moment, when there is none.
var ErrNoSession = errors.New("there is no session with the registry")

// Settling is how far the processes that use some services are.
type Settling struct {
	Live  int // processes that use one of the services
	Acked int // of those, the ones that have applied the revision of the moment when it was asked
}

// settling is a question that was not answered yet. Its fields are read after done.
type settling struct {
	done   chan struct{}
	result Settling
	err    error
}

// Settle waits until every live process that uses one of the services (full names) has applied their present revision, or
// until ctx ends, and then returns what was reached last. Without a session, or when it breaks meanwhile, the error is
// [ErrNoSession]: nobody could say.
func (s *Session) Settle(ctx context.Context, services ...string) (Settling, error) {
	q := &settling{done: make(chan struct{})}
	l, seq, err := s.ask(ctx, q, services)
	if err != nil {
		return Settling{}, err
	}
	select {
	case <-q.done:
		return q.result, q.err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(l.settles, seq)
		return Settling{}, ctx.Err()
	}
}

// settleGrace is by how much the server answers before ctx ends, so that the answer still comes in time.
const settleGrace = 100 * time.Millisecond

func (s *Session) ask(ctx context.Context, q *settling, services []string) (*link, uint64, error) {
	timeout := time.Minute
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(deadline)-settleGrace, 0))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.link
	if l == nil {
		return nil, 0, ErrNoSession
	}
	l.seq++
	l.settles[l.seq] = q
	l.settle = append(l.settle, &weftv1.Settle{Seq: l.seq, Services: services, TimeoutMs: uint32(timeout.Milliseconds())})
	nudge(l.wake)
	return l, l.seq, nil
}

func (s *Session) settled(l *link, m *weftv1.Settled) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := l.settles[m.GetSeq()]; q != nil {
		delete(l.settles, m.GetSeq())
		q.result = Settling{Live: int(m.GetLive()), Acked: int(m.GetAcked())}
		close(q.done)
	}
}

// unsettle ends the questions of a link that is over. It runs under the session's mutex.
func (l *link) unsettle() {
	for seq, q := range l.settles {
		delete(l.settles, seq)
		q.err = ErrNoSession
		close(q.done)
	}
}
