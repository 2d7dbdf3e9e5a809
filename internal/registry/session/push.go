package session

import "sync"

// pushers are the goroutines that bring updates to all sessions. A session waits for them at most once, so the queue
// is bounded by the sessions.
type pushers struct {
	wg sync.WaitGroup

	mu     sync.Mutex
	some   sync.Cond // there is something in the queue, or the end
	queue  []*session
	closed bool
}

// pushing is how many goroutines push: more than the processors a server is likely to spare would not be faster.
const pushing = 2

func (p *pushers) start() {
	p.some.L = &p.mu
	for range pushing {
		p.wg.Go(p.run)
	}
}

// stop ends the goroutines and waits for them.
func (p *pushers) stop() {
	p.mu.Lock()
	p.closed = true
	p.queue = nil
	p.mu.Unlock()
	p.some.Broadcast()
	p.wg.Wait()
}

// add queues sessions that have something to say. Each was marked as queued before.
func (p *pushers) add(sessions ...*session) {
	if len(sessions) == 0 {
		return
	}
	p.mu.Lock()
	if !p.closed {
		p.queue = append(p.queue, sessions...)
	}
	p.mu.Unlock()
	if len(sessions) == 1 {
		p.some.Signal()
	} else {
		p.some.Broadcast()
	}
}

func (p *pushers) run() {
	for {
		ss := p.take()
		if ss == nil {
			return
		}
		ss.outbox.unqueued()
		ss.speak()
	}
}

// take waits for a session; nil says that it is over.
func (p *pushers) take() *session {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) == 0 && !p.closed {
		p.some.Wait()
	}
	if p.closed {
		return nil
	}
	ss := p.queue[0]
	p.queue[0] = nil
	p.queue = p.queue[1:]
	return ss
}

// speak says what waits to be said, in the order welcome, answers, updates, pleas to hurry, unless somebody else is at it, who then
// goes on with it. It never waits for the process: what may not find room at once is left to a goroutine of its own,
// which lives until the process has read it or the session is over.
func (ss *session) speak() {
	if !ss.outbox.begin() {
		return
	}
	for {
		w, ok := ss.next()
		if !ok {
			return
		}
		if !w.fits {
			ss.srv.wg.Go(func() { ss.insist(w) })
			return
		}
		if !ss.say(w) {
			return
		}
	}
}

// insist is speak for what waits for room, beginning with w.
func (ss *session) insist(w word) {
	for ok := true; ok; {
		if ok = ss.say(w); ok {
			w, ok = ss.next()
		}
	}
}

// word is what a session says next.
type word struct {
	messages []any
	fits     bool // there is room for it
}

// next takes what to say; false if there is nothing, and then somebody else may speak.
func (ss *session) next() (w word, ok bool) {
	for {
		if w, ok = ss.outbox.takeAnswer(); ok {
			return w, true
		}
		in, known, some := ss.outbox.takeDirty()
		if !some {
			if w, ok = ss.outbox.takeHurry(); ok {
				return w, true
			}
			if ss.outbox.finish() {
				return word{}, false
			}
			continue // something came meanwhile
		}
		u, err := in.update(ss.srv.cat, known)
		if err != nil {
			ss.end(err)
		}
		if w, ok = ss.outbox.sending(in.name, known, u); ok {
			return w, true
		}
	}
}

// say sends; false if the session is over.
func (ss *session) say(w word) bool {
	for _, m := range w.messages {
		if err := ss.stream.SendMsg(m); err != nil {
			ss.end(err)
			ss.outbox.failed()
			return false
		}
		if f, ok := m.(*frame); ok {
			ss.srv.pushes.Add(1)
			ss.srv.pushBytes.Add(uint64(f.size()))
		}
		ss.outbox.progress()
	}
	ss.outbox.sent()
	return true
}
