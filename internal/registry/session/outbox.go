package session

import (
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/rule"
)

// maxUnacked is how many bytes of updates a process may have unacknowledged before it is sent more: below the
// flow-control window, so that answers still pass. It is also how much may be on its way at all before a Send could wait.
const maxUnacked = 48 << 10

// maxRefusals bounds the refusals that wait to be sent.
const maxRefusals = 10_000

// maxNacks and maxReason bound what is kept of a process's complaints about the rules of one service.
const (
	maxNacks  = 100
	maxReason = 1024
)

// outbox is what a session still has to say: answers, and the names of the services that are out of date.
type outbox struct {
	mu       sync.Mutex
	closed   bool
	speaking bool // somebody sends, and goes on until nothing is left
	queued   bool // waits for a pusher
	hello    *weftv1.Welcome
	answer   *weftv1.Result    // nil: none waits
	settled  []*weftv1.Settled // at most maxSettles
	subs     map[discovery.Name]*subscription
	dirty    []discovery.Name // in the order of their marks, each once
	awaited  []*subscription  // somebody waits for their acknowledgement, each once
	unacked  int              // bytes of updates
	said     uint64           // bytes sent in all
	heard    uint64           // of those, how many have arrived for certain
	busy     bool             // something is being sent
	hushed   sync.Cond        // speaking has become false
	late     *time.Timer      // runs while something is dirty or being sent; each piece that is taken starts it anew
	ticking  bool
}

// subscription is one service that the process uses.
type subscription struct {
	interest *interest
	sent     discovery.Revision
	acked    discovery.Revision
	dirty    bool
	awaited  bool
	inflight []flight // oldest first
	nacks    []rule.Nack
}

// flight is an update that was not acknowledged yet.
type flight struct {
	revision uint64
	bytes    int
	said     uint64 // bytes sent in all with its end
}

func (o *outbox) init(slow func()) {
	o.subs = make(map[discovery.Name]*subscription)
	o.hushed.L = &o.mu
	o.late = time.AfterFunc(time.Hour, slow)
	o.late.Stop()
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.late.Stop()
}

// clock keeps the timer running while the process lets something wait. It runs under mu.
func (o *outbox) clock(progress bool) {
	waits := !o.closed && (o.busy || len(o.dirty) > 0)
	switch {
	case !waits:
		if o.ticking {
			o.late.Stop()
		}
	case progress || !o.ticking:
		o.late.Reset(patience)
	}
	o.ticking = waits
}

// begin takes the right to speak; false if somebody has it, who will see what is new, or the session is over.
func (o *outbox) begin() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.speaking || o.closed {
		return false
	}
	o.speaking = true
	return true
}

// finish gives the right to speak back; false if there is something to say.
func (o *outbox) finish() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.closed && (o.answers() || len(o.dirty) > 0 && o.unacked < maxUnacked || o.pressing()) {
		return false
	}
	o.hush()
	return true
}

// hush runs under mu.
func (o *outbox) hush() {
	o.speaking = false
	o.hushed.Broadcast()
}

// failed gives the right to speak back when the session is over.
func (o *outbox) failed() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hush()
}

// awaitHush waits until nobody speaks any more. The outbox is closed.
func (o *outbox) awaitHush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.speaking {
		o.hushed.Wait()
	}
}

// answers reports whether something other than an update waits. It runs under mu.
func (o *outbox) answers() bool { return o.hello != nil || o.answer != nil || len(o.settled) > 0 }

// fits reports whether so many bytes more find room at once. It runs under mu.
func (o *outbox) fits(bytes int) bool { return o.said-o.heard+uint64(bytes) <= maxUnacked }

// hurry notes that somebody waits for the acknowledgement of what is sent, or will be. It runs under mu.
func (o *outbox) hurry(sub *subscription) {
	if !sub.awaited {
		sub.awaited = true
		o.awaited = append(o.awaited, sub)
	}
}

// pressing reports whether something that was sent is awaited. It runs under mu.
func (o *outbox) pressing() bool {
	return slices.ContainsFunc(o.awaited, func(sub *subscription) bool { return len(sub.inflight) > 0 })
}

// takeHurry gives the word that asks for acknowledgements, if one is awaited and its update was sent.
func (o *outbox) takeHurry() (w word, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !o.pressing() {
		return w, false
	}
	o.awaited = slices.DeleteFunc(o.awaited, func(sub *subscription) bool {
		sub.awaited = len(sub.inflight) == 0
		return !sub.awaited
	})
	m := &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Hurry{Hurry: &weftv1.Hurry{}}}
	w = word{messages: []any{m}, fits: o.fits(proto.Size(m))}
	o.said += uint64(proto.Size(m))
	o.busy = true
	o.clock(true)
	return w, true
}

// unqueued says that a pusher has taken the session.
func (o *outbox) unqueued() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queued = false
}

// progress says that a message was taken: a process that is slow is not one that stands still.
func (o *outbox) progress() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clock(true)
}

// sent says that what was being sent has left.
func (o *outbox) sent() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = false
	o.clock(true)
}

func (o *outbox) welcome(w *weftv1.Welcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hello = w
}

// result merges an answer into the one that waits; false if too much waits.
func (o *outbox) result(seq uint64, refusals []*weftv1.Refusal) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.answer == nil {
		o.answer = &weftv1.Result{}
	}
	o.answer.Seq = max(o.answer.Seq, seq)
	o.answer.Refusals = append(o.answer.Refusals, refusals...)
	return len(o.answer.Refusals) <= maxRefusals
}

// settle queues the answer to a Settle; false if too many wait.
func (o *outbox) settle(m *weftv1.Settled) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.settled = append(o.settled, m)
	return len(o.settled) <= maxRefusals
}

// takeAnswer gives what is to be said before any update.
func (o *outbox) takeAnswer() (w word, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.answers() || o.closed {
		return w, false
	}
	var all []*weftv1.ConnectResponse
	if o.hello != nil {
		all = append(all, &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Welcome{Welcome: o.hello}})
	}
	if o.answer != nil {
		all = append(all, &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Result{Result: o.answer}})
	}
	for _, s := range o.settled {
		all = append(all, &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Settled{Settled: s}})
	}
	o.hello, o.answer, o.settled = nil, nil, nil
	bytes := 0
	for _, m := range all {
		w.messages = append(w.messages, m)
		bytes += proto.Size(m)
	}
	w.fits = o.fits(bytes)
	o.said += uint64(bytes)
	if !w.fits { // else it leaves at once
		o.busy = true
		o.clock(true)
	}
	return w, true
}

// subscribe goes on from what the process knows; false if it has too many subscriptions.
func (o *outbox) subscribe(in *interest, known discovery.Revision) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	sub := o.subs[in.name]
	if sub == nil {
		if len(o.subs) >= maxSubscriptions {
			return false
		}
		sub = &subscription{}
		o.subs[in.name] = sub
	}
	sub.interest, sub.sent, sub.acked = in, known, known
	return true
}

// unsubscribe forgets a service and hands its interest to leave, without holding mu.
func (o *outbox) unsubscribe(name discovery.Name, leave func(*interest)) {
	if sub := o.remove(name); sub != nil {
		leave(sub.interest)
	}
}

func (o *outbox) remove(name discovery.Name) *subscription {
	o.mu.Lock()
	defer o.mu.Unlock()
	sub := o.subs[name]
	if sub == nil {
		return nil
	}
	delete(o.subs, name)
	o.awaited = slices.DeleteFunc(o.awaited, func(s *subscription) bool { return s == sub })
	o.dirty = slices.DeleteFunc(o.dirty, func(n discovery.Name) bool { return n == name })
	for _, f := range sub.inflight {
		o.unacked -= f.bytes
	}
	o.clock(true)
	return sub
}

// interests lists what is subscribed.
func (o *outbox) interests() []*interest {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]*interest, 0, len(o.subs))
	for _, sub := range o.subs {
		out = append(out, sub.interest)
	}
	return out
}

// mark says that the service is out of date. It reports whether a pusher has to be asked to speak, which the caller does.
func (o *outbox) mark(name discovery.Name) (ask bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.soil(name)
	ask = len(o.dirty) > 0 && !o.queued && !o.speaking && !o.closed && o.unacked < maxUnacked
	o.queued = o.queued || ask
	return ask
}

// ask reports whether a pusher has to be asked to speak because somebody waits, which the caller does.
func (o *outbox) ask() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	ask := o.pressing() && !o.queued && !o.speaking && !o.closed
	o.queued = o.queued || ask
	return ask
}

// markOwn is mark for who speaks next.
func (o *outbox) markOwn(name discovery.Name) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.soil(name)
}

// soil runs under mu.
func (o *outbox) soil(name discovery.Name) {
	sub := o.subs[name]
	if sub == nil || sub.dirty {
		return
	}
	sub.dirty = true
	o.dirty = append(o.dirty, name)
	o.clock(false)
}

// takeDirty gives the next service to bring up to date and what the process knows of it, if there is room.
func (o *outbox) takeDirty() (in *interest, known discovery.Revision, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.dirty) == 0 || o.unacked >= maxUnacked || o.closed {
		return nil, known, false
	}
	sub := o.subs[o.dirty[0]]
	o.dirty = o.dirty[1:]
	sub.dirty = false
	o.busy = true
	return sub.interest, sub.sent, true
}

// sending counts an update in before it is sent, since the acknowledgement may overtake the return of Send;
// false if there is nothing to send, or the subscription changed meanwhile: then it is marked dirty by that.
func (o *outbox) sending(name discovery.Name, known discovery.Revision, u *update) (w word, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sub := o.subs[name]
	if u == nil || sub == nil || sub.sent != known || o.closed {
		o.busy = false
		o.clock(true)
		return w, false
	}
	w = word{fits: o.fits(u.bytes), messages: make([]any, len(u.pieces))}
	for i, p := range u.pieces {
		w.messages[i] = p
	}
	o.said += uint64(u.bytes)
	o.unacked += u.bytes
	sub.sent = u.revision
	sub.inflight = append(sub.inflight, flight{u.revision.Number, u.bytes, o.said})
	o.clock(true)
	return w, true
}

// acknowledge takes note of what the process has applied; false if it is of an earlier subscription.
func (o *outbox) acknowledge(name discovery.Name, m *weftv1.Ack) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	sub := o.subs[name]
	if sub == nil || m.GetEpoch() != sub.sent.Epoch || m.GetRevision() > sub.sent.Number {
		return false
	}
	sub.acked = discovery.Revision{Epoch: m.GetEpoch(), Number: m.GetRevision()}
	sub.nacks = nacks(m)
	before := o.unacked
	for len(sub.inflight) > 0 && sub.inflight[0].revision <= m.GetRevision() {
		f := sub.inflight[0]
		o.unacked -= f.bytes
		o.heard = max(o.heard, f.said)
		sub.inflight = sub.inflight[1:]
	}
	if len(sub.inflight) == 0 {
		sub.inflight = nil
	}
	o.clock(o.unacked < before)
	return true
}

func nacks(m *weftv1.Ack) (out []rule.Nack) {
	for _, n := range m.GetNacks()[:min(len(m.GetNacks()), maxNacks)] {
		out = append(out, rule.Nack{
			Kind:      rule.Kind(clip(n.GetKind())),
			Namespace: clip(n.GetNamespace()),
			Name:      clip(n.GetName()),
			Revision:  clip(n.GetRevision()),
			Reason:    clip(n.GetReason()),
		})
	}
	return out
}

// clip bounds a text that is kept. The clone frees the message it came in.
func clip(s string) string { return strings.Clone(s[:min(len(s), maxReason)]) }

func (o *outbox) subscriptions() []Subscription {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := make([]Subscription, 0, len(o.subs))
	for name, sub := range o.subs {
		out = append(out, Subscription{Name: name, Sent: sub.sent, Acked: sub.acked, Nacks: sub.nacks})
	}
	slices.SortFunc(out, func(a, b Subscription) int { return strings.Compare(a.Name.String(), b.Name.String()) })
	return out
}
