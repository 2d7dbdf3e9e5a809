package rest

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/queryparam"
	"golang.org/x/time/rate"
)

// laneName is a budget of requests. Writes, reads and heartbeats have budgets of their own, so that a flood of one
// leaves the others alone: an overloaded server turns away writes while instances go on living.
type laneName string

const (
	heartbeats laneName = "heartbeat"
	writes     laneName = "write"
	reads      laneName = "read"
	waits      laneName = "wait" // beside its own lane, a request with ?wait= is in this one
	noLane     laneName = "none" // probes, and what has a bound of its own
)

// newLanes gives each lane its size. Writes are committed in groups, so that more of them at once are no faster
// than these.
func newLanes() map[laneName]*lane {
	return map[laneName]*lane{
		heartbeats: newLane(512, 4096),
		writes:     newLane(512, 128),
		reads:      newLane(256, 128),
		waits:      newLane(256, 0),
	}
}

// patience is how long a request waits for its turn.
const patience = 5 * time.Second

// lane lets so many requests run and so many wait.
type lane struct {
	places chan struct{}
	queue  int32
	queued atomic.Int32
}

func newLane(running, queue int) *lane {
	return &lane{places: make(chan struct{}, running), queue: int32(queue)}
}

// enter takes a place; false if too many are waiting, or one was not free in time.
func (l *lane) enter(ctx context.Context) bool {
	select {
	case l.places <- struct{}{}:
		return true
	default:
	}
	defer l.queued.Add(-1)
	if l.queued.Add(1) > l.queue {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case l.places <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *lane) leave() { <-l.places }

// admit lets a call begin: it reads the body and takes a place. What it refuses has touched nothing.
func (a *API) admit(c *call, d demand, r *http.Request) *huma.ErrorModel {
	if d.costly {
		if wait := a.costly.take(c.grant.ID + " " + c.from); wait > 0 {
			return busy(c.w, wait, fmt.Sprintf("too many requests of this kind; at most %d a second are answered", costlyRate))
		}
	}
	if encoding := r.Header.Get("Content-Encoding"); encoding != "" {
		const message = "must be absent: send the body as it is"
		return problem(http.StatusUnsupportedMediaType, "content-encoding: "+message, wrong("header.Content-Encoding", message, encoding))
	}
	if !d.stream {
		if p := a.readBody(r); p != nil {
			return p
		}
	}
	leave := func() {}
	if queryparam.Get(r.URL.RawQuery, "wait") != "" {
		if !a.lanes[waits].enter(r.Context()) {
			return overloaded(waits)
		}
		leave = a.lanes[waits].leave
	}
	if l := a.lanes[d.lane]; l != nil {
		if !l.enter(r.Context()) {
			leave()
			return overloaded(d.lane)
		}
		c.place = l.leave
	}
	c.leave = leave
	return nil
}

func overloaded(l laneName) *huma.ErrorModel {
	return problem(http.StatusServiceUnavailable, fmt.Sprintf("the server has too many %s requests under way; try again in a second", l))
}

// busy is 429 with the time after which to try again.
func busy(w http.ResponseWriter, wait time.Duration, why string) *huma.ErrorModel {
	w.Header().Set("Retry-After", seconds(wait))
	return problem(http.StatusTooManyRequests, why)
}

// seconds rounds up, as Retry-After has whole ones.
func seconds(d time.Duration) string { return fmt.Sprint(max(1, int64((d+time.Second-1)/time.Second))) }

// The rates. A stranger is an address whose requests carry no token or a wrong one.
const (
	costlyRate, costlyBurst     = 10, 20
	strangerRate, strangerBurst = 20, 100
	maxMeters                   = 4096
)

// meters keep a token bucket for each of at most maxMeters keys. Whoever comes later shares one.
type meters struct {
	limit rate.Limit
	burst int

	mu     sync.Mutex
	of     map[string]*rate.Limiter
	shared *rate.Limiter
	swept  time.Time
}

func newMeters(perSecond float64, burst int) *meters {
	return &meters{limit: rate.Limit(perSecond), burst: burst, of: map[string]*rate.Limiter{}, shared: rate.NewLimiter(rate.Limit(perSecond), burst)}
}

// take uses up one request of a key; above 0 it is refused, and may be tried again after that time.
func (m *meters) take(key string) time.Duration {
	if m.meter(key).Allow() {
		return 0
	}
	return time.Duration(float64(time.Second) / float64(m.limit))
}

func (m *meters) meter(key string) *rate.Limiter {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.of[key]; l != nil {
		return l
	}
	m.sweep()
	if len(m.of) >= maxMeters {
		return m.shared
	}
	l := rate.NewLimiter(m.limit, m.burst)
	m.of[key] = l
	return l
}

// sweep forgets full buckets, which are as good as new ones. It looks at all of them, hence at most once a second.
func (m *meters) sweep() {
	if len(m.of) < maxMeters || time.Since(m.swept) < time.Second {
		return
	}
	m.swept = time.Now()
	maps.DeleteFunc(m.of, func(_ string, l *rate.Limiter) bool { return l.Tokens() >= float64(m.burst) })
}
