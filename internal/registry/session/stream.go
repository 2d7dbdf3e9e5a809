package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/lease"
)

// patience is how long a session may keep the server waiting: for its Hello, and for room to send an update.
const patience = 10 * time.Second

// session is one stream. One goroutine receives and one sends, so that a process that does not read can still be
// heard, and both end when the handler returns.
type session struct {
	srv    *Server
	stream weftv1.SessionService_ConnectServer
	since  time.Time
	hello  *weftv1.Hello // set once by Server.replace; nil if the session ended before
	owned  owned
	outbox outbox

	over     chan struct{} // closed by end
	received chan struct{} // closed when receive is over
	once     sync.Once
	cause    error // why it is over; read it after over
	dropped  bool  // guarded by the server's mu
}

func newSession(srv *Server, stream weftv1.SessionService_ConnectServer) *session {
	ss := &session{srv: srv, stream: stream, since: time.Now(), over: make(chan struct{}), received: make(chan struct{})}
	ss.outbox.init(func() { ss.end(errSlow) })
	return ss
}

// end makes Connect return cause; the first cause wins. It does not wait.
func (ss *session) end(cause error) {
	ss.once.Do(func() {
		ss.cause = cause
		ss.outbox.close()
		close(ss.over)
	})
}

// receive handles what the process says, one message after the other.
func (ss *session) receive() {
	defer close(ss.received)
	err := ss.greet()
	for err == nil {
		var m *weftv1.ConnectRequest
		if m, err = ss.stream.Recv(); err == nil {
			err = ss.handle(m)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil // the process closed its end
	}
	ss.end(err)
}

// greet takes the Hello and answers it.
func (ss *session) greet() error {
	timer := time.AfterFunc(patience, func() { ss.end(errSilent) })
	m, err := ss.stream.Recv()
	if timer.Stop(); err != nil {
		return err
	}
	hello := m.GetHello()
	if err := checkHello(hello); err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if hello.Namespace == "" {
		hello.Namespace = discovery.DefaultNamespace
	}
	hello.SdkVersion = clip(hello.SdkVersion)
	ss.outbox.welcome(&weftv1.Welcome{
		Epoch:         ss.srv.cat.Epoch(),
		RenewEveryMs:  lease.RenewEvery.Milliseconds(),
		ServerVersion: ss.srv.opt.Version,
	})
	return ss.srv.enter(ss, hello)
}

func checkHello(h *weftv1.Hello) error {
	switch {
	case h == nil:
		return errors.New("the first message is not a Hello")
	case h.GetProcess() == "" || len(h.GetProcess()) > discovery.MaxID:
		return fmt.Errorf("process %.140q: want 1 to %d characters", h.GetProcess(), discovery.MaxID)
	case h.GetService() != "" && !discovery.IsLabel(h.GetService()):
		return fmt.Errorf("service %.140q: want a DNS label", h.GetService())
	case h.GetNamespace() != "" && !discovery.IsLabel(h.GetNamespace()):
		return fmt.Errorf("namespace %.140q: want a DNS label", h.GetNamespace())
	}
	return nil
}

func (ss *session) handle(m *weftv1.ConnectRequest) error {
	switch m := m.GetMessage().(type) {
	case *weftv1.ConnectRequest_Subscribe:
		return ss.subscribe(m.Subscribe)
	case *weftv1.ConnectRequest_Unsubscribe:
		ss.unsubscribe(m.Unsubscribe)
	case *weftv1.ConnectRequest_Register:
		return ss.answer(m.Register.GetSeq(), ss.register(m.Register))
	case *weftv1.ConnectRequest_Deregister:
		return ss.answer(m.Deregister.GetSeq(), ss.deregister(m.Deregister))
	case *weftv1.ConnectRequest_Renew:
		return ss.renew()
	case *weftv1.ConnectRequest_Ack:
		ss.outbox.acknowledge(m.Ack)
	case *weftv1.ConnectRequest_Hello:
		return status.Error(codes.InvalidArgument, "a second Hello")
	}
	return nil // a message of a newer SDK says nothing to this server
}

// maxSubscriptions bounds the services that one process uses.
const maxSubscriptions = 10_000

func (ss *session) subscribe(m *weftv1.Subscribe) error {
	for _, i := range m.GetInterests() {
		name, err := discovery.ParseName(i.GetService(), "")
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		known := discovery.Revision{Epoch: i.GetEpoch(), Number: i.GetRevision()}
		if !ss.srv.watch(ss, name, known) {
			return status.Errorf(codes.ResourceExhausted, "subscribe %s: want at most %d services in a session", name, maxSubscriptions)
		}
		ss.outbox.mark(name) // after watch: what changes in between is seen by one or the other
	}
	return nil
}

func (ss *session) unsubscribe(m *weftv1.Unsubscribe) {
	for _, service := range m.GetServices() {
		if name, err := discovery.ParseName(service, ""); err == nil {
			ss.outbox.unsubscribe(name, func(in *interest) { ss.srv.unwatch(ss, in) })
		}
	}
}

// answer queues a Result. A process that registers without reading the answers is cut off.
func (ss *session) answer(seq uint64, refusals []*weftv1.Refusal) error {
	if !ss.outbox.result(seq, refusals) {
		return errRefusals
	}
	return nil
}

// send brings out what the outbox has, in the order welcome, results, updates.
func (ss *session) send() {
	for {
		select {
		case <-ss.over:
			return
		case <-ss.outbox.wake:
		}
		if err := ss.flush(); err != nil {
			ss.end(err)
			return
		}
	}
}

func (ss *session) flush() error {
	for {
		if m := ss.outbox.takeAnswer(); m != nil {
			if err := ss.stream.Send(m); err != nil {
				return err
			}
			continue
		}
		in, known, ok := ss.outbox.takeDirty()
		if !ok {
			return nil
		}
		u := in.update(ss.srv.cat, known)
		if !ss.outbox.sending(in.name, known, u) {
			continue
		}
		for _, piece := range u.pieces {
			if err := ss.stream.Send(piece); err != nil {
				return err
			}
			ss.outbox.progress()
		}
		ss.outbox.sent()
	}
}

// log tells operators of the end of a session; one that was cut off is their business.
func (ss *session) log() {
	level := slog.LevelDebug
	if status.Code(ss.cause) == codes.ResourceExhausted {
		level = slog.LevelWarn
	}
	c := Client{}
	if ss.hello != nil {
		c = ss.client()
	}
	ss.srv.opt.Log.Log(context.Background(), level, "session ended", "process", c.Process, "service", c.Service.Service,
		"namespace", c.Service.Namespace, "address", c.Address, "after", time.Since(ss.since).Round(time.Millisecond), "cause", ss.cause)
}

// client describes the session for operators.
func (ss *session) client() Client {
	c := Client{
		Process:    ss.hello.GetProcess(),
		Service:    discovery.Name{Service: ss.hello.GetService(), Namespace: ss.hello.GetNamespace()},
		SDKVersion: ss.hello.GetSdkVersion(),
		Since:      ss.since,
		Instances:  ss.owned.keys(),
		Services:   ss.outbox.subscriptions(),
	}
	if p, ok := peer.FromContext(ss.stream.Context()); ok {
		c.Address = p.Addr.String()
	}
	return c
}
