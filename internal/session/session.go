// Package session is the client end of the one stream that a process has with the registry server. It says who the
// process is, subscribes to services, announces instances and keeps them alive, and puts everything back after a
// reconnect.
//
//	s := session.New(session.Config{Endpoint: endpoint, Process: id}) // connects in the background
//	defer s.Close()
//	cancel := s.Subscribe("product.shop", session.Revision{}, func(u *weftv1.Update) []*weftv1.Nack { … })
//	reg, err := s.Register(ctx, &weftv1.Instance{Id: "…", Service: "product", …})
//
// The state of a session is what the process wants (subscriptions, instances); a connection's state is what of
// that has still to be said. One goroutine reads, one writes what is still to be said, so the memory is bounded by what
// the process wants and nothing queues up while the registry is away.
package session

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	connectTimeout  = 5 * time.Second // from the dial to the Welcome
	baseDelay       = 100 * time.Millisecond
	reconnectSpread = time.Second      // of the first attempt after a connection
	graceful        = time.Second      // a server may end a connection that lived so long without the client waiting
	maxDelay        = 2 * time.Second  // so that a registry is found within 5 s of its appearance
	refusedDelay    = 10 * time.Second // with a pin or a token that was refused and did not change
	steadyAfter     = 5 * time.Second  // a connection that lived so long starts the delays anew
	maxLogged       = 16               // distinct errors that are logged between two connections
)

// ErrClosed is returned by what waits on a session that was closed.
var ErrClosed = errors.New("the session with the registry is closed")

// Endpoint is a registry server to connect to.
type Endpoint struct {
	Target   string            // host:port
	Pin      [sha256.Size]byte // SHA-256 of the server key's SubjectPublicKeyInfo
	Token    string            // bearer token
	Insecure bool              // plaintext, without looking at Pin; for tests
}

// Config says who connects and to what.
type Config struct {
	// Endpoint is called before every attempt to connect, so that a registry which starts later is found.
	// It must end when its ctx does.
	Endpoint func(ctx context.Context) (Endpoint, error)

	Process   string // chosen at random by the process
	Service   string // "" if it has none of its own
	Namespace string
	Version   string // of the SDK

	Log  *slog.Logger                                               // nil: logs nothing
	Dial func(ctx context.Context, target string) (net.Conn, error) // nil: TCP

	Hasty bool // does not spread attempts to connect; the control of a test
}

// State says how a session stands.
type State string

// The states.
const (
	Connecting State = "connecting" // an attempt is under way
	Connected  State = "connected"
	Waiting    State = "waiting" // for the next attempt
	Closed     State = "closed"
)

// Session is the process's session with the registry. It is safe for concurrent use.
type Session struct {
	cfg  Config
	ctx  context.Context // ends with Close
	stop context.CancelFunc
	done chan struct{} // closed when no goroutine is left

	mu      sync.Mutex // never held while a callback runs or a message is sent
	state   State
	lastErr error
	away    bool            // the last attempt to connect failed
	logged  map[string]bool // errors logged since the last connection
	link    *link           // nil unless connected
	subs    map[string]*subscription
	regs    map[string]*Registration
}

// New starts a session. It connects in the background and never waits or fails because a registry is away.
func New(cfg Config) *Session {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, target string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", target)
		}
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &Session{
		cfg: cfg, ctx: ctx, stop: stop, done: make(chan struct{}), state: Connecting,
		logged: map[string]bool{}, subs: map[string]*subscription{}, regs: map[string]*Registration{},
	}
	go s.run()
	return s
}

// Close ends the session and waits until nothing of it runs any more. Instances that are still registered are left
// to the registry, which takes the end of the session as their loss. Idempotent.
func (s *Session) Close() {
	s.stop()
	<-s.done
}

// State says how the session stands.
func (s *Session) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// LastError returns why the last attempt to connect, or the last connection, failed; nil while connected.
func (s *Session) LastError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lastErr
}

// Away reports whether the last attempt to connect failed, so that nobody answers for a while. A connection that just broke
// does not count: the next attempt is due within a second.
func (s *Session) Away() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link == nil && s.away
}

func (s *Session) setState(state State) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

// run keeps the session connected.
func (s *Session) run() {
	defer close(s.done)
	defer s.setState(Closed)
	for failures := 0; s.ctx.Err() == nil; failures++ {
		s.setState(Connecting)
		endpoint, err := s.cfg.Endpoint(s.ctx)
		var lived time.Duration
		if err == nil {
			lived, err = s.connect(endpoint)
		}
		if s.ctx.Err() != nil {
			return
		}
		s.failed(err, lived == 0)
		if lived >= steadyAfter {
			failures = 0
		}
		switch {
		case isRefusal(err):
			s.awaitChange(endpoint)
		case s.cfg.Hasty:
			s.sleep(baseDelay / 10)
		default:
			s.sleep(delay(failures, lived, err))
		}
	}
}

// delay is how long to wait before the next attempt. The clients of a server that dies all lose it at the same moment, so
// the first attempt after a connection is spread over a second; one that the server asks for needs no wait.
func delay(failures int, lived time.Duration, err error) time.Duration {
	if p := (*pushback)(nil); errors.As(err, &p) {
		return p.wait + rand.N(p.wait/4+baseDelay)
	}
	switch {
	case lived >= graceful && errors.Is(err, errMoveOn):
		return 0
	case lived > 0 && failures == 0:
		return rand.N(reconnectSpread)
	}
	return rand.N(min(maxDelay, baseDelay<<min(failures, 8)))
}

// connected and failed log an error once until the next connection, not once an attempt.
func (s *Session) connected(l *link) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.lastErr, s.link = Connected, nil, l
	clear(s.logged)
	s.sayAll(l)
	s.cfg.Log.Info("connected to the registry", "target", l.target, "version", l.serverVersion)
}

func (s *Session) failed(err error, away bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.lastErr, s.away = Waiting, err, away
	if errors.Is(err, errMoveOn) {
		s.cfg.Log.Debug("connecting to the registry again", "error", err)
		return
	}
	if text := err.Error(); !s.logged[text] && len(s.logged) < maxLogged {
		s.logged[text] = true
		level := slog.LevelWarn
		if isRefusal(err) {
			level = slog.LevelError
		}
		s.cfg.Log.Log(s.ctx, level, "no session with the registry; calls go on with what is known", "error", err)
	}
}

// sleep reports whether it was not cut short by Close.
func (s *Session) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// awaitChange waits after a refusal: trying the same again is of little use, but the credentials may be replaced.
func (s *Session) awaitChange(refused Endpoint) {
	for start := time.Now(); time.Since(start) < refusedDelay; {
		if !s.sleep(maxDelay/2 + rand.N(maxDelay/2)) {
			return
		}
		if now, err := s.cfg.Endpoint(s.ctx); err != nil || now != refused {
			return
		}
	}
}

// isRefusal reports whether the server or we ourselves refused the other's identity.
func isRefusal(err error) bool {
	var pin *PinError
	code := status.Code(err)
	return errors.As(err, &pin) || code == codes.Unauthenticated || code == codes.PermissionDenied
}

// Revision is what a process knows of a service; zero is nothing.
type Revision struct {
	Epoch, Number uint64
}

func (r Revision) String() string { return fmt.Sprintf("%x-%d", r.Epoch, r.Number) }
