package session

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// Bounds of what waits for acknowledgements.
const (
	maxSettles  = 8   // of one session
	maxSettled  = 100 // services of one Settle
	maxSettling = time.Minute
	maxAwaited  = 1 << 20 // sessions that are waited for, counted once for each who waits
)

// Progress says how many of the live clients that use some services have applied a revision of them.
type Progress struct {
	Live  int
	Acked int
}

// Complete reports whether the share, 0 to 1, has applied it.
func (p Progress) Complete(share float64) bool { return float64(p.Acked) >= share*float64(p.Live) }

// Await asks the clients that use one of the services to acknowledge at once. It returns when the share (0 to 1) of them
// has acknowledged the revision, or with what was reached when ctx ended. A client that leaves no longer counts. A name
// with the service "*" stands for all of its namespace. A service whose own last change is older need not be acknowledged beyond that, and a
// revision of another epoch stands for the present one. When more than a
// million acknowledgements are awaited already, it returns at once with what there is.
func (s *Server) Await(ctx context.Context, services []discovery.Name, revision discovery.Revision, share float64) Progress {
	a := &await{cat: s.cat.At, services: services, revision: revision, share: share, complete: make(chan struct{}), seen: make(map[*session]bool)}
	if s.addAwait(a) {
		select {
		case <-a.complete:
		case <-ctx.Done():
		}
	}
	return s.endAwait(a)
}

// await is one call of Await. All of it is guarded by the server's mu.
type await struct {
	cat      func(discovery.Name) discovery.Revision
	services []discovery.Name
	revision discovery.Revision
	share    float64
	seen     map[*session]bool // the sessions that use the services, and whether they have acknowledged
	acked    int
	complete chan struct{}
	closed   bool
}

// addAwait reports whether there is something to wait for, and room.
func (s *Server) addAwait(a *await) bool {
	s.awaiting.Add(1) // before it looks
	s.mu.Lock()
	defer s.mu.Unlock()
	var late []*session
	for ss := range s.live {
		s.update(a, ss)
		if acked, uses := a.seen[ss]; uses && !acked && ss.outbox.ask() {
			late = append(late, ss)
		}
	}
	s.pushers.add(late...)
	if a.check(); a.closed || s.awaited > maxAwaited {
		return false
	}
	for _, name := range a.services {
		if s.awaits[name] == nil {
			s.awaits[name] = make(map[*await]struct{})
		}
		s.awaits[name][a] = struct{}{}
	}
	return true
}

func (s *Server) endAwait(a *await) Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range a.services {
		if delete(s.awaits[name], a); len(s.awaits[name]) == 0 {
			delete(s.awaits, name)
		}
	}
	s.awaited -= len(a.seen)
	s.awaiting.Add(-1)
	return Progress{Live: len(a.seen), Acked: a.acked}
}

// acked says that a session has acknowledged something of a service.
func (s *Server) acked(ss *session, name discovery.Name) {
	if s.awaiting.Load() == 0 { // as nearly always; who begins to wait looks at every session himself
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look(ss, name)
}

// look tells those who wait what has become of a session that uses or used a service. It runs under mu.
func (s *Server) look(ss *session, name discovery.Name) {
	if len(s.awaits) == 0 {
		return
	}
	for _, n := range []discovery.Name{name, {Service: rule.AllServices, Namespace: name.Namespace}} {
		for a := range s.awaits[n] {
			s.update(a, ss)
			a.check()
		}
	}
}

// update counts one session. It runs under mu.
func (s *Server) update(a *await, ss *session) {
	before, counted := a.seen[ss]
	uses, acked := false, true
	if !ss.dropped {
		uses, acked = ss.outbox.reached(a)
	}
	if before {
		a.acked--
	}
	switch {
	case uses:
		a.seen[ss] = acked
		if acked {
			a.acked++
		}
	default:
		delete(a.seen, ss)
	}
	if _, counts := a.seen[ss]; counts != counted {
		if counts {
			s.awaited++
		} else {
			s.awaited--
		}
	}
}

// check runs under the server's mu.
func (a *await) check() {
	if !a.closed && (Progress{len(a.seen), a.acked}).Complete(a.share) {
		a.closed = true
		close(a.complete)
	}
}

// reached reports whether the process uses one of the services of a, and has acknowledged what a awaits of all that it uses.
// It is asked to hurry with the others.
func (o *outbox) reached(a *await) (uses, acked bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	acked = true
	count := func(name discovery.Name, sub *subscription) {
		uses = true
		want := a.cat(name)
		if want.Epoch == a.revision.Epoch && a.revision.Number < want.Number {
			want = a.revision
		}
		if sub.acked.Epoch != want.Epoch || sub.acked.Number < want.Number {
			acked = false
			o.hurry(sub)
		}
	}
	for _, name := range a.services {
		if name.Service != rule.AllServices {
			if sub := o.subs[name]; sub != nil {
				count(name, sub)
			}
			continue
		}
		for n, sub := range o.subs {
			if n.Namespace == name.Namespace {
				count(n, sub)
			}
		}
	}
	return uses, acked
}

// settle answers when the processes that use some services have applied their present revision.
func (ss *session) settle(m *weftv1.Settle) error {
	if len(m.GetServices()) > maxSettled {
		return status.Errorf(codes.InvalidArgument, "settle: %d services: want at most %d", len(m.GetServices()), maxSettled)
	}
	var names []discovery.Name
	for _, service := range m.GetServices() {
		name, err := discovery.ParseName(service, "")
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		names = append(names, name)
	}
	timeout := min(time.Duration(m.GetTimeoutMs())*time.Millisecond, maxSettling)
	if ss.settles.Add(1) > maxSettles {
		timeout = 0
	}
	revision := ss.srv.cat.Revision()
	if timeout == 0 {
		ended, cancel := context.WithCancel(ss.stream.Context())
		cancel()
		return ss.settled(ended, m.GetSeq(), names, revision)
	}
	ss.ops.Go(func() {
		ctx, cancel := context.WithTimeout(ss.stream.Context(), timeout)
		defer cancel()
		if err := ss.settled(ctx, m.GetSeq(), names, revision); err != nil {
			ss.end(err)
		}
	})
	return nil
}

func (ss *session) settled(ctx context.Context, seq uint64, names []discovery.Name, revision discovery.Revision) error {
	p := ss.srv.Await(ctx, names, revision, 1)
	ss.settles.Add(-1)
	if !ss.outbox.settle(&weftv1.Settled{Seq: seq, Live: uint32(p.Live), Acked: uint32(p.Acked)}) {
		return errRefusals
	}
	ss.speak()
	return nil
}
