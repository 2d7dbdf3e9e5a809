package access

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// The lockout: so many wrong tokens within a window lock an address for a while, which doubles with each lock until the
// address was quiet for forgiven.
const (
	maxWrong     = 10
	wrongWindow  = time.Minute
	firstLock    = 30 * time.Second
	longestLock  = 10 * time.Minute
	forgiven     = time.Hour
	maxAddresses = 10_000
)

// Locked says that an address made too many wrong guesses.
type Locked struct{ RetryAfter time.Duration }

// Error implements error.
func (e *Locked) Error() string {
	return fmt.Sprintf("too many wrong tokens came from this address; try again in %s", (e.RetryAfter + time.Second - 1).Truncate(time.Second))
}

// address is from where guesses are counted together: an IPv4 address, or the /64 of an IPv6 one, as whoever has one
// has them all. What is no address is one of its own.
type address struct {
	prefix   netip.Prefix
	loopback bool
}

func addressOf(from string) address {
	ip, err := netip.ParseAddr(from)
	if err != nil {
		return address{}
	}
	ip = ip.Unmap().WithZone("")
	bits := 64
	if ip.Is4() {
		bits = 32
	}
	prefix, _ := ip.Prefix(bits) // fails only if there are not so many bits
	return address{prefix, ip.IsLoopback()}
}

// offender is an address that sent wrong tokens.
type offender struct {
	wrong int       // since the window began
	since time.Time // the beginning of the window
	until time.Time // the end of the last lock
	next  time.Duration
}

// guesses counts wrong tokens. The zero value is ready.
type guesses struct {
	mu   sync.Mutex
	from map[address]*offender
}

// locked gives for how long the address is still refused; 0: it is not.
func (g *guesses) locked(a address, now time.Time) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if o := g.from[a]; o != nil {
		return max(0, o.until.Sub(now))
	}
	return 0
}

// wrong counts a wrong token.
func (g *guesses) wrong(a address, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	o := g.offender(a, now)
	if now.Sub(o.since) > wrongWindow {
		o.wrong, o.since = 0, now
	}
	if o.wrong++; o.wrong < maxWrong {
		return
	}
	o.until = now.Add(o.next)
	o.next = min(2*o.next, longestLock)
	o.wrong, o.since = 0, o.until
}

// offender gives the entry of an address, a new one if there is none or its past is forgiven.
func (g *guesses) offender(a address, now time.Time) *offender {
	o := g.from[a]
	if o == nil || o.idle(now) {
		if g.from == nil {
			g.from = make(map[address]*offender)
		}
		if o == nil && len(g.from) >= maxAddresses {
			g.evict(now)
		}
		o = &offender{since: now, next: firstLock}
		g.from[a] = o
	}
	return o
}

// idle reports whether nothing is held against the address any more.
func (o *offender) idle(now time.Time) bool {
	return now.Sub(o.since) > wrongWindow && now.Sub(o.until) > forgiven
}

// evict makes room: it looks at a few entries, which a map gives in random order, and drops the first that is idle, else
// the one that is free soonest. Who owns thousands of addresses needs no lock to expire, so nothing better is worth a
// second index.
func (g *guesses) evict(now time.Time) {
	var victim address
	var least *offender
	seen := 0
	for a, o := range g.from {
		if least == nil || o.idle(now) || o.until.Before(least.until) {
			victim, least = a, o
		}
		if seen++; seen == 32 || o.idle(now) {
			break
		}
	}
	delete(g.from, victim)
}
