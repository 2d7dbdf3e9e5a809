package access

import "time"

// look is how often it is looked whether a token has expired: a wall clock that is set, or a host that slept, delays
// the end of its sessions by no more.
const look = 5 * time.Second

// OnRevoke calls fn with the id of each token that is revoked or expires, once and within 5 s. fn must not block.
func (t *Tokens) OnRevoke(fn func(id string)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.revoked = append(t.revoked, fn)
}

func (t *Tokens) tell(id string) {
	t.mu.RLock()
	listeners := t.revoked
	t.mu.RUnlock()
	for _, fn := range listeners {
		fn(id)
	}
}

// poke makes expire look anew.
func (t *Tokens) poke() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// expire tells of tokens as they expire, until Close.
func (t *Tokens) expire() {
	defer close(t.stopped)
	for {
		ids, wait := t.due(time.Now())
		for _, id := range ids {
			t.tell(id)
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-t.wake:
		case <-t.stop:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// due gives the tokens that expired and were not told of, and how long to wait for the next.
func (t *Tokens) due(now time.Time) (ids []string, wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	wait = look
	for id, m := range t.made {
		switch {
		case m.told || m.ExpiresAt.IsZero():
		case m.expired(now):
			m.told = true
			ids = append(ids, id)
		default:
			wait = min(wait, m.ExpiresAt.Sub(now))
		}
	}
	return ids, wait
}
