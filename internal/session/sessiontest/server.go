// Package sessiontest is a small in-memory server of sessions, for tests of what talks to one. It says what a test
// tells it to say and remembers what it heard; it runs inside a testing/synctest bubble.
//
//	server := sessiontest.New(7) // of epoch 7
//	server.Start()
//	defer server.Stop()
//	s := session.New(session.Config{Endpoint: server.Endpoint, Dial: server.Dial})
//	server.Push(&weftv1.Update{Service: "product.shop", Revision: 1, Snapshot: true})
package sessiontest

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/session"
)

// RenewEveryMs is what the server asks for.
const RenewEveryMs = 5000

// maxHeard bounds what is remembered of what was heard.
const maxHeard = 10_000

type stream = grpc.BidiStreamingServer[weftv1.ConnectRequest, weftv1.ConnectResponse]

// Server is the server. Set its fields before Start.
type Server struct {
	weftv1.UnimplementedSessionServiceServer

	Options []grpc.ServerOption
	Secure  bool                                   // Endpoint asks for TLS
	Pin     [32]byte                               // that Endpoint gives
	Token   string                                 // that Endpoint gives
	Want    string                                 // the token that is accepted; "" accepts any
	Refuse  func(*weftv1.Instance) *weftv1.Refusal // nil, or its result, accepts
	Silent  bool                                   // no Result is sent
	Mute    bool                                   // no Welcome is sent
	Full    time.Duration                          // if set, every session is refused with this hint
	Settle  func(*weftv1.Settle) *weftv1.Settled   // nil, or its result, does not answer
	Answer  func(*weftv1.Interest) *weftv1.Update  // nil: the last snapshot of the service, if one was pushed

	mu        sync.Mutex
	epoch     uint64
	server    *grpc.Server
	listener  *bufconn.Listener
	running   sync.WaitGroup
	dials     int
	heard     []*weftv1.ConnectRequest
	instances map[string]*weftv1.Instance
	latest    map[string]*weftv1.Update
	open      map[*conn]bool
}

// conn is one session.
type conn struct {
	stream
	sending sync.Mutex
	wants   map[string]bool // guarded by the server's mutex
}

func (c *conn) send(m *weftv1.ConnectResponse) {
	c.sending.Lock()
	defer c.sending.Unlock()
	_ = c.Send(m) // a client that has gone hears nothing
}

// New makes a server that is not started.
func New(epoch uint64) *Server {
	return &Server{
		epoch: epoch, instances: map[string]*weftv1.Instance{}, latest: map[string]*weftv1.Update{}, open: map[*conn]bool{},
	}
}

// Start makes it reachable.
func (s *Server) Start() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listener = bufconn.Listen(1 << 20)
	s.server = grpc.NewServer(s.Options...)
	weftv1.RegisterSessionServiceServer(s.server, s)
	s.running.Go(func() { _ = s.server.Serve(s.listener) })
}

// Stop ends all sessions and makes it unreachable.
func (s *Server) Stop() {
	s.mu.Lock()
	server := s.server
	s.server, s.listener = nil, nil
	s.mu.Unlock()
	if server != nil {
		server.Stop()
	}
	s.running.Wait()
}

// Reset forgets everything and takes another epoch, as a new data directory does. Call it while stopped.
func (s *Server) Reset(epoch uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epoch = epoch
	clear(s.instances)
	clear(s.latest)
}

// Endpoint is a session.Config's.
func (s *Server) Endpoint(context.Context) (session.Endpoint, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return session.Endpoint{Target: "registry:7070", Pin: s.Pin, Token: s.Token, Insecure: !s.Secure}, nil
}

// SetToken changes the token that Endpoint gives.
func (s *Server) SetToken(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Token = token
}

// Dial is a session.Config's.
func (s *Server) Dial(ctx context.Context, _ string) (net.Conn, error) {
	s.mu.Lock()
	s.dials++
	listener := s.listener
	s.mu.Unlock()
	if listener == nil {
		return nil, errors.New("connection refused")
	}
	return listener.DialContext(ctx)
}

// Dials says how often Dial was called.
func (s *Server) Dials() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dials
}

// Push keeps the update, if it is a snapshot, and sends it to the sessions that are subscribed. Its epoch is the
// server's unless it has one.
func (s *Server) Push(u *weftv1.Update) {
	s.mu.Lock()
	if u.Epoch == 0 {
		u.Epoch = s.epoch
	}
	if u.Snapshot {
		s.latest[u.Service] = u
	}
	var to []*conn
	for c := range s.open {
		if c.wants[u.Service] {
			to = append(to, c)
		}
	}
	s.mu.Unlock()
	for _, c := range to {
		c.send(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Update{Update: u}})
	}
}

// Send sends a message to all sessions, whatever it says.
func (s *Server) Send(m *weftv1.ConnectResponse) {
	s.mu.Lock()
	to := slices.Collect(maps.Keys(s.open))
	s.mu.Unlock()
	for _, c := range to {
		c.send(m)
	}
}

// Heard returns the messages of a type that were received, and forgets all of that type.
func Heard[T any](s *Server, pick func(*weftv1.ConnectRequest) *T) (out []*T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = slices.DeleteFunc(s.heard, func(m *weftv1.ConnectRequest) bool {
		x := pick(m)
		if x != nil {
			out = append(out, x)
		}
		return x != nil
	})
	return out
}

// Instances returns what is registered, by id.
func (s *Server) Instances() map[string]*weftv1.Instance {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.instances)
}

// Connect is one session.
func (s *Server) Connect(st stream) error {
	md, _ := metadata.FromIncomingContext(st.Context())
	if got := md.Get("authorization"); s.Want != "" && !slices.Equal(got, []string{"Bearer " + s.Want}) {
		return status.Error(codes.Unauthenticated, "the token is not known")
	}
	if s.Full > 0 {
		st.SetTrailer(metadata.Pairs("grpc-retry-pushback-ms", strconv.FormatInt(s.Full.Milliseconds(), 10)))
		return status.Error(codes.ResourceExhausted, "full")
	}
	c := &conn{stream: st, wants: map[string]bool{}}
	first, err := st.Recv()
	if err != nil {
		return err
	}
	s.hear(c, first)
	if s.Mute {
		<-st.Context().Done()
		return st.Context().Err()
	}
	s.mu.Lock()
	s.open[c] = true
	epoch := s.epoch
	s.mu.Unlock()
	defer s.closed(c)
	c.send(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Welcome{Welcome: &weftv1.Welcome{Epoch: epoch, RenewEveryMs: RenewEveryMs, ServerVersion: "test"}}})
	for {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		for _, answer := range s.hear(c, m) {
			c.send(answer)
		}
	}
}

func (s *Server) closed(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, c)
}

// hear takes a message and returns the answers.
func (s *Server) hear(c *conn, m *weftv1.ConnectRequest) (answers []*weftv1.ConnectResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.heard = append(s.heard, m); len(s.heard) > maxHeard {
		s.heard = s.heard[maxHeard/2:]
	}
	for _, interest := range m.GetSubscribe().GetInterests() {
		c.wants[interest.Service] = true
		if u := s.answerTo(interest); u != nil {
			answers = append(answers, &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Update{Update: u}})
		}
	}
	for _, service := range m.GetUnsubscribe().GetServices() {
		delete(c.wants, service)
	}
	if register := m.GetRegister(); register != nil && !s.Silent {
		answers = append(answers, s.register(register))
	}
	if deregister := m.GetDeregister(); deregister != nil && !s.Silent {
		for _, id := range deregister.Ids {
			delete(s.instances, id)
		}
		answers = append(answers, result(&weftv1.Result{Seq: deregister.Seq}))
	}
	if settle := m.GetSettle(); settle != nil && s.Settle != nil {
		if answer := s.Settle(settle); answer != nil {
			answer.Seq = settle.Seq
			answers = append(answers, &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Settled{Settled: answer}})
		}
	}
	return answers
}

func (s *Server) answerTo(interest *weftv1.Interest) *weftv1.Update {
	if s.Answer != nil {
		return s.Answer(interest)
	}
	u := s.latest[interest.Service]
	if u != nil && interest.Epoch == u.Epoch && interest.Revision >= u.Revision {
		return nil // it knows everything
	}
	return u
}

func (s *Server) register(m *weftv1.Register) *weftv1.ConnectResponse {
	answer := &weftv1.Result{Seq: m.Seq}
	for _, in := range m.Instances {
		var no *weftv1.Refusal
		if s.Refuse != nil {
			no = s.Refuse(in)
		}
		if no != nil {
			no.Id = in.Id
			answer.Refusals = append(answer.Refusals, no)
		} else {
			s.instances[in.Id] = in
		}
	}
	return result(answer)
}

func result(r *weftv1.Result) *weftv1.ConnectResponse {
	return &weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Result{Result: r}}
}
