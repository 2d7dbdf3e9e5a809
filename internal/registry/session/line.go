package session

import (
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

// maxUnderWay bounds the registrations of a session that are under way. The next one waits, and with it all that the
// process says: an SDK has fewer, as it sends 64 instances at a time and each once.
const maxUnderWay = 32

// maxIDs bounds the instances that one message is about.
const maxIDs = 2 * maxOwned

// line is the registrations and deregistrations of a session that are under way. They run at the same time, so that
// waiting for the disk for one does not hold up the next; those that concern one id run one after the other, and the answers
// come in order.
type line struct {
	once  sync.Once
	room  chan struct{} // holds one for each that is under way
	mu    sync.Mutex
	first []*errand          // in the order in which they came
	last  map[string]*errand // by id: the last that concerns it
}

// errand is one of them.
type errand struct {
	seq      uint64
	ids      []string
	done     chan struct{} // closed when it was run
	answered bool
	refusals []*weftv1.Refusal
}

// enqueue runs do, without waiting for its end, after all that concerns one of the ids, and answers with the refusals that
// it gives to done.
func (ss *session) enqueue(seq uint64, ids []string, do func(done func([]*weftv1.Refusal))) error {
	if len(ids) > maxIDs {
		return status.Errorf(codes.InvalidArgument, "%d instances in one message: want at most %d", len(ids), maxIDs)
	}
	l := &ss.line
	l.once.Do(func() { l.room, l.last = make(chan struct{}, maxUnderWay), make(map[string]*errand) })
	select {
	case l.room <- struct{}{}:
	case <-ss.stream.Context().Done():
		return ss.stream.Context().Err()
	}
	e := &errand{seq: seq, ids: ids, done: make(chan struct{})}
	before := l.add(e)
	ss.ops.Add(1)
	run := func() {
		do(func(refusals []*weftv1.Refusal) {
			defer ss.ops.Done()
			e.refusals = refusals
			if !ss.answer(l.finish(e)) {
				ss.end(errRefusals)
			}
			ss.speak()
		})
	}
	if len(before) == 0 {
		run()
		return nil
	}
	ss.ops.Go(func() {
		for _, b := range before {
			<-b.done
		}
		run()
	})
	return nil
}

// add puts an errand into the line and gives those that it has to wait for.
func (l *line) add(e *errand) (before []*errand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.first = append(l.first, e)
	for _, id := range e.ids {
		if b := l.last[id]; b != nil && b != e {
			before = append(before, b)
		}
		l.last[id] = e
	}
	return before
}

// finish gives what can be answered now.
func (l *line) finish(e *errand) (answers []*errand) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(e.done)
	e.answered = true
	for _, id := range e.ids {
		if l.last[id] == e {
			delete(l.last, id)
		}
	}
	n := 0
	for n < len(l.first) && l.first[n].answered {
		n++
		<-l.room
	}
	answers, l.first = l.first[:n], l.first[n:]
	return answers
}

// answer queues results; false if too much waits, as of a process that registers without reading the answers.
func (ss *session) answer(errands []*errand) bool {
	ok := true
	for _, e := range errands {
		ok = ss.outbox.result(e.seq, e.refusals) && ok
	}
	return ok
}

func idsOf(m *weftv1.Register) []string {
	ids := make([]string, len(m.GetInstances()))
	for i, in := range m.GetInstances() {
		ids[i] = in.GetId()
	}
	return ids
}
