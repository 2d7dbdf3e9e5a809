package session

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/lease"
)

// patience is how long a session may keep the server waiting: for its Hello, and for room to send an update.
const patience = 10 * time.Second

// session is one stream. Its handler receives; whoever has something to say for it sends: see [session.speak].
type session struct {
	srv     *Server
	stream  weftv1.SessionService_ConnectServer
	cancel  context.CancelFunc // of the stream
	since   time.Time
	address string         // of the process
	from    string         // without the port
	grant   access.Grant   // set once by Server.authorize, under its mu
	bound   bool           // the grant counts; likewise
	hello   *weftv1.Hello  // set once by Server.replace; nil if the session ended before
	ops     sync.WaitGroup // what is under way for the process
	line    line
	owned   owned
	lease   *lease.Holder // of what is owned
	outbox  outbox
	settles atomic.Int32 // that wait

	done    chan struct{} // closed when nothing of it runs any more
	once    sync.Once
	cause   error // why it is over; read it after the end of the stream's context
	dropped bool  // guarded by the server's mu
}

func newSession(srv *Server, stream weftv1.SessionService_ConnectServer, cancel context.CancelFunc) *session {
	ss := &session{srv: srv, stream: stream, cancel: cancel, since: time.Now(), lease: srv.leases.Hold(srv.opt.TTL), done: make(chan struct{})}
	ss.outbox.init(func() {
		srv.evictions.Add(1)
		ss.end(errSlow)
	})
	return ss
}

// end makes Connect return cause; the first cause wins. It does not wait.
func (ss *session) end(cause error) {
	ss.once.Do(func() {
		ss.cause = cause
		ss.outbox.close()
		if errors.Is(cause, errAged) {
			cause = nil // which says to connect again at once
		}
		hangUp(ss.stream.Context(), ss.cancel, cause)
	})
}

// receive handles what the process says, one message after the other. It gives the reason why the session is over, which
// end may have given already.
func (ss *session) receive() error {
	err := ss.greet()
	if ss.srv.opt.MaxAge > 0 && err == nil {
		age := ss.srv.opt.MaxAge*9/10 + rand.N(ss.srv.opt.MaxAge/5+1)
		timer := time.AfterFunc(age, func() { ss.end(errAged) })
		defer timer.Stop()
	}
	for err == nil {
		var m *weftv1.ConnectRequest
		if m, err = ss.stream.Recv(); err == nil {
			err = ss.handle(m)
		}
	}
	if errors.Is(err, io.EOF) {
		return nil // the process closed its end
	}
	return err
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
		RenewEveryMs:  lease.RenewEvery(ss.srv.opt.TTL).Milliseconds(),
		ServerVersion: ss.srv.opt.Version,
	})
	if err := ss.srv.enter(ss, hello); err != nil {
		return err
	}
	ss.speak()
	return nil
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
		return ss.enqueue(m.Register.GetSeq(), idsOf(m.Register), func(done func([]*weftv1.Refusal)) { ss.register(m.Register, done) })
	case *weftv1.ConnectRequest_Deregister:
		return ss.enqueue(m.Deregister.GetSeq(), m.Deregister.GetIds(), func(done func([]*weftv1.Refusal)) { ss.deregister(m.Deregister, done) })
	case *weftv1.ConnectRequest_Renew:
		return ss.renew()
	case *weftv1.ConnectRequest_Ack:
		ss.acknowledge(m.Ack)
	case *weftv1.ConnectRequest_Settle:
		return ss.settle(m.Settle)
	case *weftv1.ConnectRequest_Hello:
		return status.Error(codes.InvalidArgument, "a second Hello")
	}
	return nil // a message of a newer SDK says nothing to this server
}

func (ss *session) acknowledge(m *weftv1.Ack) {
	name, err := discovery.ParseName(m.GetService(), "")
	if err == nil && ss.outbox.acknowledge(name, m) {
		ss.srv.acked(ss, name)
		ss.speak() // there may be room now
	}
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
		ss.outbox.markOwn(name) // after watch: what changes in between is seen by one or the other
	}
	ss.speak()
	return nil
}

func (ss *session) unsubscribe(m *weftv1.Unsubscribe) {
	for _, service := range m.GetServices() {
		if name, err := discovery.ParseName(service, ""); err == nil {
			ss.outbox.unsubscribe(name, func(in *interest) { ss.srv.unwatch(ss, in) })
		}
	}
	ss.speak()
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
