package session

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

// subscription is one service that the process wants to know of.
type subscription struct {
	known Revision // what was applied last
	nacks []*weftv1.Nack
	apply func(*weftv1.Update) []*weftv1.Nack
}

// Subscribe asks for the updates of a service from the known revision on, now and after every reconnect. apply gets
// them in order, one at a time over all services, and returns the rules it could not use; it must not wait for
// anything else of the session. After it returns, the update is acknowledged within half a second. An update that is
// no snapshot goes on from what was applied last, or from known.
//
// There is one subscription a service: a second replaces the first. cancel ends it; an apply that runs at that moment
// may still be under way when it returns.
func (s *Session) Subscribe(service string, known Revision, apply func(*weftv1.Update) []*weftv1.Nack) (cancel func()) {
	sub := &subscription{known: known, apply: apply}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[service] != nil {
		s.unsubscribe(service)
	}
	s.subs[service] = sub
	if l := s.link; l != nil {
		if l.dropped[service] {
			// Updates for the old subscription may be on their way, and go on from another state than known:
			// only a snapshot is safe.
			sub.known = Revision{}
		}
		l.subscribe[service] = true
		nudge(l.wake)
	}
	return func() { s.cancel(service, sub) }
}

func (s *Session) cancel(service string, sub *subscription) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[service] == sub {
		s.unsubscribe(service)
	}
}

func (s *Session) unsubscribe(service string) {
	delete(s.subs, service)
	l := s.link
	if l == nil {
		return
	}
	delete(l.acks, service)
	delete(l.synced, service)
	if l.subscribe[service] { // not said yet
		delete(l.subscribe, service)
		return
	}
	l.unsubscribe[service] = true
	l.dropped[service] = true
	nudge(l.wake)
}

// Nack replaces the rules of the service that could not be used and tells the registry, for what is found out after
// apply has returned.
func (s *Session) Nack(service string, nacks []*weftv1.Nack) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subs[service]
	if sub == nil {
		return
	}
	sub.nacks = nacks
	s.acknowledge(service, sub)
}

// join puts the pieces of an update together; it returns nil until the last has come. Only the reader uses it.
func (l *link) join(u *weftv1.Update) (whole *weftv1.Update, size int, err error) {
	l.pieceBytes += proto.Size(u)
	switch p := l.pieces; {
	case l.pieceBytes > maxUpdate:
		return nil, 0, fmt.Errorf("update of %s: more than %d bytes", u.GetService(), maxUpdate)
	case p == nil:
		l.pieces = u
	case p.GetService() != u.GetService() || p.GetEpoch() != u.GetEpoch() || p.GetRevision() != u.GetRevision():
		return nil, 0, fmt.Errorf("update of %s at %d: comes between the pieces of %s at %d", u.GetService(), u.GetRevision(), p.GetService(), p.GetRevision())
	default:
		p.Removals = append(p.Removals, u.Removals...)
		p.Instances = append(p.Instances, u.Instances...)
		p.Rules = append(p.Rules, u.Rules...)
	}
	if u.GetMore() {
		return nil, 0, nil
	}
	whole, size = l.pieces, l.pieceBytes
	l.pieces, l.pieceBytes = nil, 0
	whole.More = false
	return whole, size, nil
}

// updated applies an update.
func (s *Session) updated(l *link, u *weftv1.Update, size int) error {
	service, at := u.GetService(), Revision{u.GetEpoch(), u.GetRevision()}
	whole := u.GetSnapshot() || u.GetMissing()
	s.mu.Lock()
	sub := s.subs[service]
	if sub == nil || !whole && sub.known == (Revision{}) && l.dropped[service] {
		s.mu.Unlock()
		return nil // of a subscription that was ended
	}
	if !whole && sub.known.Epoch != at.Epoch {
		known := sub.known
		sub.known = Revision{}
		s.mu.Unlock()
		return fmt.Errorf("update of %s to revision %v is no snapshot but goes on from %v: asking for all of it", service, at, known)
	}
	s.mu.Unlock()

	nacks := sub.apply(u)

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.subs[service] == sub {
		sub.known, sub.nacks = at, nacks
		s.acknowledge(service, sub)
		// The server holds back other services while much is not acknowledged, which must not slow down a start.
		// The updates after the first go to many processes at the same time, so those wait.
		if size >= large && !l.synced[service] {
			l.ackNow = true
			nudge(l.wake)
		}
		l.synced[service] = true
		if u.GetUrgent() {
			nudge(l.ackUrgent)
		}
	}
	return nil
}

// acknowledge queues an acknowledgement; those of one service merge.
func (s *Session) acknowledge(service string, sub *subscription) {
	if s.link != nil && sub.known != (Revision{}) {
		s.link.acks[service] = true
		nudge(s.link.ackSoon)
	}
}

// ackNow makes take say the acknowledgements that are due.
func (s *Session) ackNow(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l.ackNow = true
	nudge(l.wake)
}

func (s *Session) takeAcks(l *link) (say []*weftv1.ConnectRequest) {
	for _, service := range slices.Sorted(maps.Keys(l.acks)) {
		sub := s.subs[service]
		ack := &weftv1.Ack{Service: service, Epoch: sub.known.Epoch, Revision: sub.known.Number, Nacks: sub.nacks[:min(len(sub.nacks), maxNacks)]}
		say = append(say, &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Ack{Ack: ack}})
	}
	clear(l.acks)
	l.ackNow = false
	return say
}
