// Package session is the server end of the one stream that every SDK process has with the registry: it registers
// the process's instances, keeps them alive, and pushes what changes at the services that the process uses.
//
//	srv := session.New(cat, leases, session.Options{Authorize: tokens.Check, Log: log})
//	g := grpc.NewServer(session.ServerOptions()...)
//	srv.Register(g)
//	…
//	srv.Close(ctx)                         // ends every session and waits for it
//
// Nothing queues up for a slow process: a session remembers only which services are out of date, and sends their
// latest state when the process has acknowledged enough of what it was sent before.
package session

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/rule"
)

// window is the size of gRPC's flow-control windows. That they are fixed turns off its bandwidth estimation,
// which costs a ping for each burst; it takes both.
const window = 64 << 10

// ServerOptions gives the options that a gRPC server of sessions needs. Credentials come on top.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.StaticStreamWindowSize(window),
		grpc.StaticConnWindowSize(window),
		grpc.ReadBufferSize(4 << 10), // most sessions are idle; a buffer for each would be most of the memory
		grpc.WriteBufferSize(4 << 10),
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
	// Authorize checks the bearer token of a session, "" if there is none; its error is told to the client,
	// with the code Unauthenticated unless it is a gRPC status. nil lets everybody in.
	Authorize func(ctx context.Context, token string) error
	// Log gets what operators want to know; nil for nothing.
	Log *slog.Logger
	// Version is the server's, as told to clients.
	Version string
}

// Server serves sessions. It is made by [New].
type Server struct {
	weftv1.UnimplementedSessionServiceServer

	cat         *catalog.Catalog
	leases      *lease.Leases
	opt         Options
	unsubscribe func()
	wg          sync.WaitGroup // the goroutines of sessions

	// mu comes before the mu of a session.
	mu        sync.Mutex
	closed    bool
	live      map[*session]struct{}
	sessions  map[string]*session // those that said who they are, by process
	interests map[discovery.Name]*interest
	claims    map[catalog.InstanceKey]*session // who registers what, from before it is written
}

// New makes a server and subscribes it to the catalog. Close it before the catalog and the leases.
func New(cat *catalog.Catalog, leases *lease.Leases, opt Options) *Server {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{
		cat:       cat,
		leases:    leases,
		opt:       opt,
		live:      make(map[*session]struct{}),
		sessions:  make(map[string]*session),
		interests: make(map[discovery.Name]*interest),
		claims:    make(map[catalog.InstanceKey]*session),
	}
	s.unsubscribe = cat.Subscribe(s.changed)
	return s
}

// Register puts the service into a gRPC server, which should have [ServerOptions].
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
)

// Connect serves one session.
func (s *Server) Connect(stream weftv1.SessionService_ConnectServer) error {
	if err := s.authorize(stream.Context()); err != nil {
		return err
	}
	ss := newSession(s, stream)
	if !s.begin(ss) {
		return errStopping
	}
	select {
	case <-ss.over:
	case <-stream.Context().Done():
		ss.end(status.FromContextError(stream.Context().Err()).Err())
	}
	s.drop(ss)
	ss.log()
	return ss.cause
}

func (s *Server) authorize(ctx context.Context) error {
	if s.opt.Authorize == nil {
		return nil
	}
	err := s.opt.Authorize(ctx, bearer(ctx))
	if _, ok := status.FromError(err); !ok {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	return err
}

// bearer gives the token of the call, "" if there is none.
func bearer(ctx context.Context) string {
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) != 1 {
		return ""
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return token
}

// begin starts the session's goroutines unless the server is closed.
func (s *Server) begin(ss *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.live[ss] = struct{}{}
	s.wg.Go(ss.receive)
	s.wg.Go(ss.send)
	return true
}

// enter makes the session the one of its process. An older one ends first: nothing that it was told last may
// overtake what the new one is told.
func (s *Server) enter(ss *session, hello *weftv1.Hello) error {
	old, err := s.replace(ss, hello)
	if old != nil {
		select {
		case <-old.received:
		case <-ss.over:
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
	ss.hello = hello
	old = s.sessions[hello.GetProcess()]
	if old != nil {
		old.end(errReplaced)
	}
	s.sessions[hello.GetProcess()] = ss
	return old, nil
}

// drop forgets a session that is over, and tells the leases of its instances unless a newer session of the
// process answers for them.
func (s *Server) drop(ss *session) {
	s.mu.Lock()
	ss.dropped = true
	delete(s.live, ss)
	for _, in := range ss.outbox.interests() {
		s.leave(ss, in)
	}
	last := ss.hello != nil && s.sessions[ss.hello.GetProcess()] == ss
	if last {
		delete(s.sessions, ss.hello.GetProcess())
	}
	closed := s.closed
	s.mu.Unlock()
	keys := ss.owned.keys()
	s.unclaim(ss, keys)
	if last && !closed {
		s.leases.Lost(ss.mine(keys))
	}
}

// claim makes a session the holder of an instance before it is written, so that of two processes which register one id at
// the same moment one is told. It gives the process that holds it already, "" if the claim succeeded. A holder whose
// instance an operator deleted holds nothing any more.
func (s *Server) claim(ss *session, key catalog.InstanceKey) (other string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	holder := s.claims[key]
	if holder != nil && holder != ss && !holder.dropped {
		process := holder.hello.GetProcess()
		if process != ss.hello.GetProcess() && !s.cat.Deleted(key, process) {
			return process
		}
		holder.owned.remove([]catalog.InstanceKey{key})
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

// interest is a service that sessions use.
type interest struct {
	name     discovery.Name
	sessions map[*session]struct{}  // guarded by the server's mu
	last     atomic.Pointer[update] // nearly all sessions need the same
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
}

// changed marks the services out of date in every session that uses them.
func (s *Server) changed(names []discovery.Name) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if name.Service != rule.AllServices {
			s.interests[name].mark()
			continue
		}
		for used, in := range s.interests {
			if used.Namespace == name.Namespace {
				in.mark()
			}
		}
	}
}

// mark runs under the server's mu. in may be nil.
func (in *interest) mark() {
	if in == nil {
		return
	}
	for ss := range in.sessions {
		ss.outbox.mark(in.name)
	}
}

// Client is a process that has a session, as shown to operators.
type Client struct {
	Process    string
	Service    discovery.Name // Service is "" if it has none of its own
	SDKVersion string
	Address    string // of its end of the connection
	Since      time.Time
	Instances  []catalog.InstanceKey // registered in this session, sorted
	Services   []Subscription        // sorted by name
}

// Subscription is one service that a client uses.
type Subscription struct {
	Name  discovery.Name
	Sent  discovery.Revision
	Acked discovery.Revision // what it has applied; it may not have been sent in this session
	Nacks []rule.Nack        // rules that it could not use
}

// Clients lists the live sessions, sorted by service and process.
func (s *Server) Clients() []Client {
	s.mu.Lock()
	live := make([]*session, 0, len(s.sessions))
	for _, ss := range s.sessions {
		live = append(live, ss)
	}
	s.mu.Unlock()
	out := make([]Client, len(live))
	for i, ss := range live {
		out[i] = ss.client()
	}
	slices.SortFunc(out, func(a, b Client) int {
		return strings.Compare(a.Service.Namespace+"/"+a.Service.Service+"/"+a.Process, b.Service.Namespace+"/"+b.Service.Service+"/"+b.Process)
	})
	return out
}
