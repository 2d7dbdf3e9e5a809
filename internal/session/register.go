package session

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

// registerPatience is how long Register waits for an answer before it returns a pending registration.
const registerPatience = 2 * time.Second

// Refusal is the registry's answer to an instance that it does not take.
type Refusal struct {
	ID      string
	Code    string // invalid, forbidden, deleted
	Message string
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the registry refused instance %s: %s: %s", r.ID, r.Code, r.Message)
}

// Registration is an instance that the session keeps announced. It is safe for concurrent use.
type Registration struct {
	s     *Session
	id    string
	acked chan struct{}
	ack   sync.Once

	// Guarded by the session's mutex.
	want     *weftv1.Instance // replaced, never changed
	good     *weftv1.Instance // what the registry took last; nil: nothing
	version  uint64           // of want
	answered uint64           // the version of the last answer
	refusal  error            // of that answer
	sent     bool             // the registry may know it
	inFlight bool             // said on this link and not answered; at most once, so that an answer needs no more than the id
	closing  bool
	gone     bool
	changed  chan struct{} // closed and replaced with every change
}

// batch is one message that has to be answered.
type batch struct {
	seq      uint64
	closing  bool // a Deregister
	regs     []*Registration
	versions []uint64
	sent     []*weftv1.Instance
}

// Register announces an instance and keeps it announced, over reconnects, until Close. It returns at the first
// acknowledgement. An instance that is refused is an error that wraps a *[Refusal]; without an answer for 2 s the
// registration is returned pending; when ctx ends first it is withdrawn.
func (s *Session) Register(ctx context.Context, in *weftv1.Instance) (*Registration, error) {
	r := &Registration{
		s: s, id: in.GetId(), acked: make(chan struct{}), changed: make(chan struct{}),
		want: proto.CloneOf(in), version: 1,
	}
	if err := s.add(r); err != nil {
		return nil, err
	}
	patience, cancel := context.WithTimeout(ctx, registerPatience)
	defer cancel()
	err := r.wait(patience, func() bool { return r.answered > 0 || r.gone })
	switch {
	case ctx.Err() != nil && err != nil:
		r.withdraw()
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return r, nil
	case err != nil:
		return nil, err
	}
	return r, nil
}

func (s *Session) add(r *Registration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return ErrClosed
	}
	if old := s.regs[r.id]; old != nil && !old.closing {
		return fmt.Errorf("instance id %q: is registered already by this process", r.id)
	} else if old != nil {
		old.finish() // replaced before the registry heard that it was closed
	}
	s.regs[r.id] = r
	r.say()
	return nil
}

// Acked is closed once the registry has acknowledged the instance.
func (r *Registration) Acked() <-chan struct{} { return r.acked }

// Update replaces the instance, which must have the same id, and waits for the answer. If it is refused the instance
// stays as it was; if ctx ends first the update is still under way.
func (r *Registration) Update(ctx context.Context, in *weftv1.Instance) error {
	if in.GetId() != r.id {
		return fmt.Errorf("instance id %q: cannot become %q", r.id, in.GetId())
	}
	r.s.mu.Lock()
	if r.closing || r.gone {
		defer r.s.mu.Unlock()
		return cmp.Or(r.refusal, fmt.Errorf("instance %s is not registered any more", r.id))
	}
	r.version++
	r.want = proto.CloneOf(in)
	version := r.version
	r.say()
	r.s.mu.Unlock()
	return r.wait(ctx, func() bool { return r.answered >= version || r.gone })
}

// Close withdraws the instance and waits for the registry's answer. When ctx ends first, or the session, it returns
// that error; the instance is not announced again, and the registry is told as soon as it is back. Idempotent.
func (r *Registration) Close(ctx context.Context) error {
	r.withdraw()
	err := r.wait(ctx, func() bool { return r.gone })
	if refusal := (*Refusal)(nil); errors.As(err, &refusal) {
		return nil // an instance that was never taken is gone
	}
	return err
}

func (r *Registration) withdraw() {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.closing = true
	if !r.sent {
		r.finish()
	}
	r.say()
}

// wait returns the last answer once until is true, which is asked under the session's mutex.
func (r *Registration) wait(ctx context.Context, until func() bool) error {
	for {
		r.s.mu.Lock()
		ready, err, changed := until(), r.refusal, r.changed
		r.s.mu.Unlock()
		if ready {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-r.s.done:
			return ErrClosed
		}
	}
}

// finish forgets the registration.
func (r *Registration) finish() {
	r.gone = true
	if r.s.regs[r.id] == r {
		delete(r.s.regs, r.id)
	}
	r.notify()
}

func (r *Registration) notify() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// say queues what the registry does not know yet, unless an answer is awaited: that will say it.
func (r *Registration) say() {
	if r.inFlight || r.gone || r.s.link == nil {
		return
	}
	if r.closing || r.answered < r.version {
		r.queue(r.s.link)
		nudge(r.s.link.wake)
	}
}

// queue puts the registration where take finds it.
func (r *Registration) queue(l *link) {
	delete(l.later, r.id)
	if r.closing {
		delete(l.register, r.id)
		l.deregister[r.id] = r
	} else {
		l.register[r.id] = r
	}
}

// again queues what the registry was not able to do.
func (s *Session) again(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range l.later {
		r.queue(l)
		nudge(l.wake)
	}
}

func (l *link) takeRegistrations() (say []*weftv1.ConnectRequest) {
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(l.register)), batchSize) {
		b := l.newBatch(ids, l.register, false)
		say = append(say, &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: &weftv1.Register{Seq: b.seq, Instances: b.sent}}})
	}
	for ids := range slices.Chunk(slices.Sorted(maps.Keys(l.deregister)), batchSize) {
		b := l.newBatch(ids, l.deregister, true)
		say = append(say, &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Deregister{Deregister: &weftv1.Deregister{Seq: b.seq, Ids: ids}}})
	}
	clear(l.register)
	clear(l.deregister)
	return say
}

func (l *link) newBatch(ids []string, from map[string]*Registration, closing bool) batch {
	l.seq++
	b := batch{seq: l.seq, closing: closing}
	for _, id := range ids {
		r := from[id]
		r.sent, r.inFlight = true, true
		b.regs = append(b.regs, r)
		b.versions = append(b.versions, r.version)
		b.sent = append(b.sent, r.want)
	}
	l.unanswered = append(l.unanswered, b)
	return b
}

// answered takes a result, which answers everything up to its seq.
func (s *Session) answered(l *link, result *weftv1.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	refusals := make(map[string]*weftv1.Refusal, len(result.GetRefusals()))
	for _, r := range result.GetRefusals() {
		refusals[r.GetId()] = r
	}
	for len(l.unanswered) > 0 && l.unanswered[0].seq <= result.GetSeq() {
		b := l.unanswered[0]
		l.unanswered = l.unanswered[1:]
		for i, r := range b.regs {
			r.inFlight = false
			r.answer(l, refusals[r.id], b.closing, b.versions[i], b.sent[i])
		}
	}
}

func (r *Registration) answer(l *link, no *weftv1.Refusal, closing bool, version uint64, sent *weftv1.Instance) {
	switch {
	case r.gone:
		return
	case no.GetCode() == "unavailable":
		l.later[r.id] = r
		return
	case closing:
		r.refusal = nil
		r.finish()
		return
	case no != nil:
		r.refused(&Refusal{ID: r.id, Code: no.GetCode(), Message: no.GetMessage()}, version)
	default:
		r.good, r.answered, r.refusal = sent, version, nil
		r.ack.Do(func() { close(r.acked) })
	}
	r.notify()
	r.say()
}

// refused takes the refusal of a version. One that was taken before stays wanted as it was: the registry still has it,
// or is asked again after the next reconnect. One that never was taken is forgotten.
func (r *Registration) refused(refusal *Refusal, version uint64) {
	r.answered, r.refusal = version, refusal
	if r.good == nil {
		r.finish()
		return
	}
	r.s.cfg.Log.Error("the registry refused an instance", "instance", r.id, "code", refusal.Code, "message", refusal.Message)
	if r.version == version {
		r.want = r.good
	}
}
