package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
)

const (
	window       = 64 << 10 // static on both levels: grpc-go then measures no bandwidth with pings
	buffer       = 4 << 10
	maxUpdate    = 96 << 20 // bytes of an update with all its pieces: 10,000 instances of 8 KiB, and rules
	large        = 16 << 10 // bytes of an update that is acknowledged at once when it is a subscription's first
	ackAfter     = 100 * time.Millisecond
	ackSpread    = 400 * time.Millisecond // many clients must not acknowledge one push at the same instant
	urgentSpread = 20 * time.Millisecond  // somebody waits for these
	defaultRenew = 5 * time.Second
	maxRenew     = time.Minute

	// What goes into one message, so that it stays below the 1 MiB that the server reads.
	batchSize = 64   // instances, of 8 KiB
	namesSize = 1000 // services, of 127 characters
	maxNacks  = 100  // rules, with a reason of 1 KiB
)

// errMoveOn is a server that ended the session without an error, as it does now and then so that load spreads again.
var errMoveOn = errors.New("the server asked to connect again")

var errLate = fmt.Errorf("no answer within %v", connectTimeout)

// link is one connection. Its maps are what has still to be said on it, guarded by the session's mutex.
type link struct {
	target        string
	serverVersion string
	stream        grpc.BidiStreamingClient[weftv1.ConnectRequest, weftv1.ConnectResponse]
	renewEvery    time.Duration
	wake          chan struct{} // of capacity 1: there is something to say
	ackSoon       chan struct{} // of capacity 1: there is something to acknowledge
	ackUrgent     chan struct{} // of capacity 1: at once

	subscribe   map[string]bool
	unsubscribe map[string]bool
	dropped     map[string]bool // unsubscribed on this link: updates of the old subscription may still come
	synced      map[string]bool // had an update on this link
	register    map[string]*Registration
	deregister  map[string]*Registration
	later       map[string]*Registration // to be said again at the next renewal
	acks        map[string]bool
	ackNow      bool
	settle      []*weftv1.Settle
	settles     map[uint64]*settling // that are not answered
	seq         uint64
	unanswered  []batch

	pieces     *weftv1.Update // of the reader: an update of which not all has come
	pieceBytes int
}

// connect makes a connection and serves it to its end. It returns how long the connection lived.
func (s *Session) connect(endpoint Endpoint) (lived time.Duration, err error) {
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	late := time.AfterFunc(connectTimeout, func() { cancel(errLate) })
	defer late.Stop()

	var cause atomic.Pointer[error] // the error below gRPC's, unflattened
	conn, err := s.dial(endpoint, func(err error) { cause.Store(&err) })
	if err != nil {
		return 0, fmt.Errorf("registry %s: %w", endpoint.Target, err)
	}
	defer conn.Close()
	l, err := s.open(metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+endpoint.Token), conn)
	if err == nil && late.Stop() {
		start := time.Now()
		l.target = endpoint.Target
		err = s.serve(ctx, cancel, l)
		lived = time.Since(start)
	}
	switch {
	case cause.Load() != nil && lived == 0:
		err = *cause.Load()
	case errors.Is(context.Cause(ctx), errLate):
		err = errLate
	case errors.Is(err, io.EOF):
		err = errMoveOn
	}
	return lived, fmt.Errorf("registry %s: %w", endpoint.Target, err)
}

func (s *Session) dial(endpoint Endpoint, failed func(error)) (*grpc.ClientConn, error) {
	creds := insecure.NewCredentials()
	if !endpoint.Insecure {
		creds = credentials.NewTLS(pinnedTLS(endpoint.Pin, failed))
	}
	return grpc.NewClient("passthrough:///"+endpoint.Target,
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
			conn, err := s.cfg.Dial(ctx, target)
			if err != nil {
				failed(err)
			}
			return conn, err
		}),
		grpc.WithStaticStreamWindowSize(window), grpc.WithStaticConnWindowSize(window),
		grpc.WithReadBufferSize(buffer), grpc.WithWriteBufferSize(buffer),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithDisableServiceConfig(), grpc.WithDisableRetry(),
	)
}

// open says Hello and waits for the Welcome.
func (s *Session) open(ctx context.Context, conn *grpc.ClientConn) (*link, error) {
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(ctx)
	if err != nil {
		return nil, err
	}
	hello := &weftv1.Hello{Process: s.cfg.Process, Service: s.cfg.Service, Namespace: s.cfg.Namespace, SdkVersion: s.cfg.Version}
	// A failed Send means that the stream ended; Recv says why.
	_ = stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: hello}})
	first, err := stream.Recv()
	if err != nil {
		return nil, withPushback(err, stream.Trailer())
	}
	welcome := first.GetWelcome()
	if welcome == nil {
		return nil, fmt.Errorf("first message is %T: want a Welcome", first.GetMessage())
	}
	return newLink(stream, welcome), nil
}

func newLink(stream grpc.BidiStreamingClient[weftv1.ConnectRequest, weftv1.ConnectResponse], welcome *weftv1.Welcome) *link {
	renew := time.Duration(welcome.GetRenewEveryMs()) * time.Millisecond
	if renew <= 0 || renew > maxRenew {
		renew = defaultRenew
	}
	return &link{
		stream: stream, serverVersion: welcome.GetServerVersion(), renewEvery: renew,
		wake: make(chan struct{}, 1), ackSoon: make(chan struct{}, 1), ackUrgent: make(chan struct{}, 1),
		subscribe: map[string]bool{}, unsubscribe: map[string]bool{}, dropped: map[string]bool{}, synced: map[string]bool{},
		register: map[string]*Registration{}, deregister: map[string]*Registration{}, later: map[string]*Registration{},
		acks: map[string]bool{}, settles: map[uint64]*settling{},
	}
}

// serve reads and writes until the connection ends.
func (s *Session) serve(ctx context.Context, cancel context.CancelCauseFunc, l *link) error {
	s.connected(l)
	var writer sync.WaitGroup
	writer.Go(func() { s.write(ctx, l) })
	err := s.read(l)
	s.mu.Lock()
	s.link = nil
	l.unsettle()
	s.mu.Unlock()
	cancel(nil)
	writer.Wait()
	return err
}

func (s *Session) read(l *link) error {
	for {
		m, err := l.stream.Recv()
		if err != nil {
			return err
		}
		switch m := m.GetMessage().(type) {
		case *weftv1.ConnectResponse_Update:
			whole, size, err := l.join(m.Update)
			if err == nil && whole != nil {
				err = s.updated(l, whole, size)
			}
			if err != nil {
				return err
			}
		case *weftv1.ConnectResponse_Result:
			s.answered(l, m.Result)
		case *weftv1.ConnectResponse_Settled:
			s.settled(l, m.Settled)
		case *weftv1.ConnectResponse_Hurry:
			nudge(l.ackUrgent)
		}
	}
}

// write says what has to be said, until a Send fails or ctx ends. A failed Send is no news: the reader hears of it too.
func (s *Session) write(ctx context.Context, l *link) {
	renew := time.NewTicker(l.renewEvery)
	defer renew.Stop()
	var ack <-chan time.Time
	for {
		var say []*weftv1.ConnectRequest
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
			say = s.take(l)
		case <-l.ackSoon:
			if ack == nil {
				ack = time.After(ackAfter + rand.N(ackSpread))
			}
		case <-l.ackUrgent:
			ack = time.After(rand.N(urgentSpread))
		case <-ack:
			ack = nil
			s.ackNow(l)
		case <-renew.C:
			s.again(l)
			say = append(say, &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Renew{Renew: &weftv1.Renew{}}})
		}
		for _, m := range say {
			if l.stream.Send(m) != nil {
				return
			}
		}
	}
}

// sayAll queues everything the process wants on a new link.
func (s *Session) sayAll(l *link) {
	for service := range s.subs {
		l.subscribe[service] = true
	}
	for _, r := range s.regs {
		r.inFlight = false
		r.queue(l)
	}
	nudge(l.wake)
}

// take returns the messages for what is to be said, and remembers what has to be answered.
func (s *Session) take(l *link) (say []*weftv1.ConnectRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for names := range slices.Chunk(slices.Sorted(maps.Keys(l.unsubscribe)), namesSize) {
		say = append(say, &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Unsubscribe{Unsubscribe: &weftv1.Unsubscribe{Services: names}}})
	}
	for names := range slices.Chunk(slices.Sorted(maps.Keys(l.subscribe)), namesSize) {
		var interests []*weftv1.Interest
		for _, name := range names {
			known := s.subs[name].known
			interests = append(interests, &weftv1.Interest{Service: name, Epoch: known.Epoch, Revision: known.Number})
		}
		say = append(say, &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Subscribe{Subscribe: &weftv1.Subscribe{Interests: interests}}})
	}
	clear(l.unsubscribe)
	clear(l.subscribe)
	say = append(say, l.takeRegistrations()...)
	if l.ackNow {
		say = append(say, s.takeAcks(l)...)
	}
	for _, m := range l.settle {
		say = append(say, &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Settle{Settle: m}})
	}
	l.settle = nil
	return say
}

// pushback is a refusal with a time before which the server does not want to be asked again.
type pushback struct {
	error
	wait time.Duration
}

// Unwrap gives what the server said.
func (p *pushback) Unwrap() error { return p.error }

// withPushback reads gRPC's own hint, up to a minute.
func withPushback(err error, trailer metadata.MD) error {
	values := trailer.Get("grpc-retry-pushback-ms")
	if len(values) != 1 {
		return err
	}
	ms, parseErr := strconv.ParseUint(values[0], 10, 31)
	if parseErr != nil {
		return err
	}
	return &pushback{err, min(time.Duration(ms)*time.Millisecond, time.Minute)}
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
