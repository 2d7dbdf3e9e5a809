package session

import (
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/rule"
)

// maxUnacked is how many bytes of updates a process may have unacknowledged before it is sent more: below the
// flow-control window, so that answers still pass.
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
	wake chan struct{} // holds one: there may be something to send

	mu      sync.Mutex
	closed  bool
	hello   *weftv1.Welcome
	answer  *weftv1.Result // nil: none waits
	subs    map[discovery.Name]*subscription
	dirty   []discovery.Name // in the order of their marks, each once
	unacked int              // bytes
	busy    bool             // an update is being sent
	late    *time.Timer      // runs while something is dirty or being sent; each piece that is taken starts it anew
	ticking bool
}

// subscription is one service that the process uses.
type subscription struct {
	interest *interest
	sent     discovery.Revision
	acked    discovery.Revision
	dirty    bool
	inflight []flight // oldest first
	nacks    []rule.Nack
}

// flight is an update that was not acknowledged yet.
type flight struct {
	revision uint64
	bytes    int
}

func (o *outbox) init(slow func()) {
	o.wake = make(chan struct{}, 1)
	o.subs = make(map[discovery.Name]*subscription)
	o.late = time.AfterFunc(time.Hour, slow)
	o.late.Stop()
}

func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.late.Stop()
}

// nudge runs under mu or after it.
func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// clock keeps the timer running while the process lets something wait. It runs under mu.
func (o *outbox) clock(progress bool) {
	waits := !o.closed && (o.busy || len(o.dirty) > 0)
	switch {
	case !waits:
		o.late.Stop()
	case progress || !o.ticking:
		o.late.Reset(patience)
	}
	o.ticking = waits
}

// progress says that a piece of an update was taken: a process that is slow is not one that stands still.
func (o *outbox) progress() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.clock(true)
}

func (o *outbox) welcome(w *weftv1.Welcome) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.hello = w
	o.nudge()
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
	o.nudge()
	return len(o.answer.Refusals) <= maxRefusals
}

// takeAnswer gives the next message that is not an update.
func (o *outbox) takeAnswer() *weftv1.ConnectResponse {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w := o.hello; w != nil {
		o.hello = nil
		return &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Welcome{Welcome: w}}
	}
	if r := o.answer; r != nil {
		o.answer = nil
		return &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Result{Result: r}}
	}
	return nil
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
	o.dirty = slices.DeleteFunc(o.dirty, func(n discovery.Name) bool { return n == name })
	for _, f := range sub.inflight {
		o.unacked -= f.bytes
	}
	o.clock(true)
	o.nudge()
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

// mark says that the service is out of date.
func (o *outbox) mark(name discovery.Name) {
	o.mu.Lock()
	defer o.mu.Unlock()
	sub := o.subs[name]
	if sub == nil || sub.dirty {
		return
	}
	sub.dirty = true
	o.dirty = append(o.dirty, name)
	o.clock(false)
	o.nudge()
}

// takeDirty gives the next service to bring up to date and what the process knows of it, if there is room.
func (o *outbox) takeDirty() (in *interest, known discovery.Revision, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.dirty) == 0 || o.unacked >= maxUnacked {
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
func (o *outbox) sending(name discovery.Name, known discovery.Revision, u *update) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	sub := o.subs[name]
	if u == nil || sub == nil || sub.sent != known {
		o.busy = false
		o.clock(true)
		return false
	}
	sub.sent = u.revision
	sub.inflight = append(sub.inflight, flight{u.revision.Number, u.bytes})
	o.unacked += u.bytes
	o.clock(true)
	return true
}

// sent says that the update has left.
func (o *outbox) sent() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = false
	o.clock(true)
}

// acknowledge takes note of what the process has applied.
func (o *outbox) acknowledge(m *weftv1.Ack) {
	name, err := discovery.ParseName(m.GetService(), "")
	if err != nil {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	sub := o.subs[name]
	if sub == nil || m.GetEpoch() != sub.sent.Epoch || m.GetRevision() > sub.sent.Number {
		return // of an earlier subscription
	}
	sub.acked = discovery.Revision{Epoch: m.GetEpoch(), Number: m.GetRevision()}
	sub.nacks = nacks(m)
	before := o.unacked
	for len(sub.inflight) > 0 && sub.inflight[0].revision <= m.GetRevision() {
		o.unacked -= sub.inflight[0].bytes
		sub.inflight = sub.inflight[1:]
	}
	o.clock(o.unacked < before)
	o.nudge()
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

// update is an update of one service, ready to be sent to any number of sessions.
type update struct {
	from, revision discovery.Revision
	bytes          int
	pieces         []*weftv1.ConnectResponse
}

// update gives the update from a known revision to the latest; nil if there is nothing newer.
func (in *interest) update(cat *catalog.Catalog, known discovery.Revision) *update {
	if u := in.last.Load(); u != nil && u.from == known && u.revision == cat.At(in.name) {
		return u
	}
	u := newUpdate(cat.Update(in.name, known), known)
	if u != nil {
		in.last.Store(u)
	}
	return u
}

// pieceSize is what a message of an update should not exceed much.
const pieceSize = 32 << 10

// newUpdate cuts an update into messages.
func newUpdate(u *weftv1.Update, from discovery.Revision) *update {
	if u == nil {
		return nil
	}
	out := &update{from: from, revision: discovery.Revision{Epoch: u.GetEpoch(), Number: u.GetRevision()}}
	for _, piece := range cut(u) {
		out.bytes += proto.Size(piece)
		out.pieces = append(out.pieces, &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Update{Update: piece}})
	}
	return out
}

// cut spreads the lists of an update over pieces, in the order in which they are applied.
func cut(u *weftv1.Update) []*weftv1.Update {
	if proto.Size(u) <= pieceSize {
		return []*weftv1.Update{u}
	}
	var pieces []*weftv1.Update
	var piece *weftv1.Update
	size := pieceSize
	room := func(n int) *weftv1.Update {
		if size += n; size > pieceSize {
			piece = &weftv1.Update{
				Service: u.Service, Epoch: u.Epoch, Revision: u.Revision,
				Snapshot: u.Snapshot, Missing: u.Missing, HasRules: u.HasRules, More: true,
			}
			pieces = append(pieces, piece)
			size = n
		}
		return piece
	}
	for _, r := range u.Removals {
		p := room(proto.Size(r))
		p.Removals = append(p.Removals, r)
	}
	for _, in := range u.Instances {
		p := room(proto.Size(in))
		p.Instances = append(p.Instances, in)
	}
	for _, r := range u.Rules {
		p := room(len(r))
		p.Rules = append(p.Rules, r)
	}
	pieces[len(pieces)-1].More = false
	return pieces
}
