// Package session is the server end of the one stream that every SDK process has with the registry: it registers
// the process's instances, keeps them alive, and pushes what changes at the services that the process uses.
//
//	srv := session.New(cat, leases, session.Options{Authorize: authorize, Log: log})
//	g := grpc.NewServer(session.ServerOptions()...)
//	srv.Register(g)
//	…
//	srv.Close(ctx)                         // ends every session and waits for it
//
// Nothing queues up for a slow process: a session remembers only which services are out of date, and sends their
// latest state when the process has acknowledged enough of what it was sent before.
package session

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/rule"
)

// window is the size of gRPC's flow-control windows. That they are fixed turns off its bandwidth estimation,
// which costs a ping for each burst; it takes both.
const window = 64 << 10

// ServerOptions gives the options that a gRPC server of sessions must have. Credentials come on top; its other services, if
// it has any, must speak protobuf.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.InTapHandle(cancellable),
		grpc.ReadBufferSize(2 << 10), // most sessions are idle; a buffer for each would be most of the memory
		grpc.WriteBufferSize(8 << 10),
		grpc.MaxConcurrentStreams(100),
		grpc.MaxRecvMsgSize(1 << 20),
		grpc.MaxHeaderListSize(16 << 10),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}

// Options are what a [Server] may be given.
type Options struct {
	// Authorize says what the bearer token of a session, "" if there is none, allows; from is the client's address without
	// the port. Its error is told to the client, with the code Unauthenticated unless it is a gRPC status or an
	// [access.Locked]. nil lets everybody do everything.
	Authorize func(ctx context.Context, token, from string) (access.Grant, error)
	// Log gets what operators want to know; nil for nothing.
	Log *slog.Logger
	// Version is the server's, as told to clients.
	Version string

	TTL           time.Duration // of the instances of a session; 0: [lease.SessionTTL]
	MaxSessions   int           // in all; 0: 20,000
	MaxPerAddress int           // sessions of one client address; 0: 5,000
	MaxAge        time.Duration // ± 10 %, after which a session is asked to connect again; 0: 30 min, negative: never
}

func (o Options) complete() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	o.TTL = cmp.Or(o.TTL, lease.SessionTTL)
	o.MaxSessions = cmp.Or(o.MaxSessions, 20_000)
	o.MaxPerAddress = cmp.Or(o.MaxPerAddress, 5_000)
	o.MaxAge = cmp.Or(o.MaxAge, 30*time.Minute)
	return o
}

// Server serves sessions. It is made by [New].
type Server struct {
	weftv1.UnimplementedSessionServiceServer

	cat         *catalog.Catalog
	leases      *lease.Leases
	opt         Options
	pushers     pushers
	unsubscribe func()
	may         func(access.Grant, discovery.Name) bool // register: the grant's own word
	wg          sync.WaitGroup                          // the handlers of sessions, and what they start

	// mu comes before the mu of a session, and that before those of its parts and of the catalog.
	mu        sync.Mutex
	closed    bool
	live      map[*session]struct{}
	addresses map[string]int      // how many sessions each has
	revoked   uint64              // how often a token was
	sessions  map[string]*session // those that said who they are, by process
	interests map[discovery.Name]*interest
	claims    map[catalog.InstanceKey]*session // who is registering what: it is claimed from before it is looked at until it is written
	awaits    map[discovery.Name]map[*await]struct{}
	awaited   int          // entries of all awaits
	awaiting  atomic.Int32 // how many there are; changed without mu

	pushes, pushBytes, evictions atomic.Uint64
}

// Traffic is what a server has sent since it was made.
type Traffic struct {
	Pushes    uint64 // messages of updates
	PushBytes uint64
	Evictions uint64 // sessions that were ended because they did not take their updates
}

// Traffic says what was sent so far.
func (s *Server) Traffic() Traffic {
	return Traffic{s.pushes.Load(), s.pushBytes.Load(), s.evictions.Load()}
}

// New makes a server and subscribes it to the catalog. Close it before the catalog and the leases.
func New(cat *catalog.Catalog, leases *lease.Leases, opt Options) *Server {
	s := &Server{
		cat:       cat,
		leases:    leases,
		opt:       opt.complete(),
		may:       access.Grant.MayRegister,
		live:      make(map[*session]struct{}),
		addresses: make(map[string]int),
		sessions:  make(map[string]*session),
		interests: make(map[discovery.Name]*interest),
		claims:    make(map[catalog.InstanceKey]*session),
		awaits:    make(map[discovery.Name]map[*await]struct{}),
	}
	s.pushers.start()
	s.unsubscribe = cat.Subscribe(s.changed)
	return s
}

// Register puts the service into a gRPC server, which must have [ServerOptions].
func (s *Server) Register(r grpc.ServiceRegistrar) { weftv1.RegisterSessionServiceServer(r, s) }

// Close comes before the gRPC server's GracefulStop. It ends every session, so that the processes look for another
// server, and waits until nothing of them runs any more, or ctx ends. New sessions are refused. Instances stay registered. It is idempotent.
func (s *Server) Close(ctx context.Context) error {
	s.unsubscribe()
	s.mu.Lock()
	s.closed = true
	for ss := range s.live {
		ss.end(errStopping)
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.pushers.stop() // first, as they may start what wg waits for
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

var (
	errStopping = status.Error(codes.Unavailable, "the registry server is stopping")
	errReplaced = status.Error(codes.Aborted, "another session of the same process took over")
	errSlow     = status.Error(codes.ResourceExhausted, "the session did not take its updates for 10 s")
	errSilent   = status.Error(codes.DeadlineExceeded, "no Hello came within 10 s")
	errRefusals = status.Error(codes.ResourceExhausted, "the session does not read the answers to its registrations")
	errRevoked  = status.Error(codes.Unauthenticated, "the token of the session was revoked")
	errOptions  = status.Error(codes.Internal, "the gRPC server was made without session.ServerOptions")
)

// errAged is told to the client as a session that ended well: it connects again at once.
var errAged = errors.New("the session reached its maximum age")

// Connect serves one session.
func (s *Server) Connect(stream weftv1.SessionService_ConnectServer) error {
	cancel := canceller(stream.Context())
	if cancel == nil {
		return errOptions
	}
	ss := newSession(s, stream, cancel)
	if err := s.begin(ss); err != nil {
		return err
	}
	defer s.wg.Done()
	defer close(ss.done)
	ss.end(ss.receive())
	ss.ops.Wait()
	ss.outbox.awaitHush()
	s.drop(ss)
	ss.log()
	if errors.Is(ss.cause, errAged) {
		return nil
	}
	return ss.cause
}

// enter makes the session the one of its process. An older one ends first: nothing that it was told last may
// overtake what the new one is told.
func (s *Server) enter(ss *session, hello *weftv1.Hello) error {
	old, err := s.replace(ss, hello)
	if old != nil {
		select {
		case <-old.done:
		case <-ss.stream.Context().Done():
		}
	}
	return err
}

func (s *Server) replace(ss *session, hello *weftv1.Hello) (old *session, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || ss.dropped {
		return nil, errStopping
	}
	old = s.sessions[hello.GetProcess()]
	if old != nil && old.grant.ID != ss.grant.ID {
		return nil, status.Errorf(codes.PermissionDenied, "process %q: it has a session that was opened with another token", hello.GetProcess())
	}
	if old != nil {
		old.end(errReplaced)
	}
	ss.hello = hello
	s.sessions[hello.GetProcess()] = ss
	return old, nil
}

// drop forgets a session that is over, and tells the leases of its instances unless a newer session of the
// process answers for them, or it was asked to connect again.
func (s *Server) drop(ss *session) {
	s.mu.Lock()
	ss.dropped = true
	delete(s.live, ss)
	if s.addresses[ss.from]--; s.addresses[ss.from] == 0 {
		delete(s.addresses, ss.from)
	}
	for _, in := range ss.outbox.interests() {
		s.leave(ss, in)
	}
	last := ss.hello != nil && s.sessions[ss.hello.GetProcess()] == ss
	if last {
		delete(s.sessions, ss.hello.GetProcess())
	}
	closed := s.closed
	s.mu.Unlock()
	if last && !closed && !errors.Is(ss.cause, errAged) {
		ss.lease.Lost()
	}
}

// claim makes a session the only one that registers an instance, so that of two processes which do so at the same moment
// one is told. It gives the process that is at it, "" if the claim succeeded. Once it is written, the catalog says
// whose the instance is.
func (s *Server) claim(ss *session, key catalog.InstanceKey) (other string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if holder := s.claims[key]; holder != nil && holder != ss {
		return holder.hello.GetProcess()
	}
	s.claims[key] = ss
	return ""
}

// unclaim ends the claims of a session.
func (s *Server) unclaim(ss *session, keys []catalog.InstanceKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if s.claims[key] == ss {
			delete(s.claims, key)
		}
	}
}

// owner gives the live session of a process, nil if there is none.
func (s *Server) owner(process string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[process]
}

// watch makes the session hear of changes of the service, from the known revision on; false if it is over or has
// too many subscriptions.
func (s *Server) watch(ss *session, name discovery.Name, known discovery.Revision) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ss.dropped {
		return false
	}
	in := s.interests[name]
	if in == nil {
		in = &interest{name: name, sessions: make(map[*session]struct{})}
	}
	if !ss.outbox.subscribe(in, known) {
		return false
	}
	s.interests[name] = in
	in.sessions[ss] = struct{}{}
	s.look(ss, name)
	return true
}

func (s *Server) unwatch(ss *session, in *interest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leave(ss, in)
}

// leave runs under mu.
func (s *Server) leave(ss *session, in *interest) {
	delete(in.sessions, ss)
	if len(in.sessions) == 0 && s.interests[in.name] == in {
		delete(s.interests, in.name)
	}
	s.look(ss, in.name)
}

// changed marks the services out of date in every session that uses them.
func (s *Server) changed(names []discovery.Name) {
	s.pushers.add(s.mark(names)...)
}

// mark gives the sessions that a pusher has to look after.
func (s *Server) mark(names []discovery.Name) (ask []*session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if name.Service != rule.AllServices {
			ask = s.interests[name].mark(ask)
			continue
		}
		for used, in := range s.interests {
			if used.Namespace == name.Namespace {
				ask = in.mark(ask)
			}
		}
	}
	return ask
}

// mark runs under the server's mu. in may be nil.
func (in *interest) mark(ask []*session) []*session {
	if in == nil {
		return ask
	}
	for ss := range in.sessions {
		if ss.outbox.mark(in.name) {
			ask = append(ask, ss)
		}
	}
	return ask
}
