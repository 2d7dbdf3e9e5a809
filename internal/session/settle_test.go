package session_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/session"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

func TestSettle(t *testing.T) {
	answer := &weftv1.Settled{Live: 3, Acked: 2}
	prepare := func(server *sessiontest.Server) {
		server.Settle = func(m *weftv1.Settle) *weftv1.Settled {
			if !slices.Equal(m.Services, []string{"web.shop"}) || m.TimeoutMs > 5000 || m.TimeoutMs < 4800 {
				t.Errorf("asked %v", m)
			}
			return answer
		}
	}
	bubble(t, prepare, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		if _, err := s.Settle(soon(t, 5*time.Second), "web.shop"); !errors.Is(err, session.ErrNoSession) {
			t.Errorf("without a session: %v", err)
		}
		server.Start()
		settle(5 * time.Second)
		if got, err := s.Settle(soon(t, 5*time.Second), "web.shop"); err != nil || got != (session.Settling{Live: 3, Acked: 2}) {
			t.Errorf("%+v, %v", got, err)
		}
		answer = nil // it does not answer
		begin := time.Now()
		if _, err := s.Settle(soon(t, 5*time.Second), "web.shop"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) != 5*time.Second {
			t.Errorf("no answer: %v after %v", err, time.Since(begin))
		}
		time.AfterFunc(time.Second, server.Stop)
		begin = time.Now()
		if _, err := s.Settle(soon(t, 5*time.Second), "web.shop"); !errors.Is(err, session.ErrNoSession) || time.Since(begin) != time.Second {
			t.Errorf("the session broke: %v after %v", err, time.Since(begin))
		}
	})
}

// What is urgent is acknowledged within 20 ms, all else after 100 to 500.
func TestUrgent(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		settle(time.Second)
		u := &updates{}
		s.Subscribe("product.shop", session.Revision{}, u.apply)
		settle(time.Second)
		acks := func(after time.Duration) int {
			settle(after)
			return len(sessiontest.Heard(server, (*weftv1.ConnectRequest).GetAck))
		}
		server.Push(snapshot("product.shop", 1))
		if n := acks(99*time.Millisecond) + acks(402*time.Millisecond); n != 1 {
			t.Errorf("%d acknowledgements of a snapshot", n)
		}
		for i := range uint64(20) {
			server.Push(&weftv1.Update{Service: "product.shop", Revision: 2 + 2*i})
			if n := acks(99 * time.Millisecond); n != 0 {
				t.Errorf("%d early acknowledgements", n)
			}
			server.Push(&weftv1.Update{Service: "product.shop", Revision: 3 + 2*i, Urgent: true}) // it brings the other along
			if n := acks(20 * time.Millisecond); n != 1 {
				t.Errorf("%d urgent acknowledgements", n)
			}
			if n := acks(time.Second); n != 0 {
				t.Errorf("%d acknowledgements more", n)
			}
			server.Push(&weftv1.Update{Service: "product.shop", Revision: 3 + 2*i})
			server.Send(&weftv1.ConnectResponse{Message: &weftv1.ConnectResponse_Hurry{Hurry: &weftv1.Hurry{}}})
			if n := acks(20 * time.Millisecond); n != 1 {
				t.Errorf("%d acknowledgements of who was asked to hurry", n)
			}
		}
	})
}

// A server that has no room is asked again when it said, and not much later.
func TestPushback(t *testing.T) {
	full := func(server *sessiontest.Server) {
		server.Full = 30 * time.Second
		server.Start()
	}
	bubble(t, full, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		settle(29 * time.Second)
		if got := server.Dials(); got != 1 {
			t.Errorf("%d attempts in 29 s, want 1", got)
		}
		settle(10 * time.Second)
		if got := server.Dials(); got != 2 {
			t.Errorf("%d attempts in 39 s, want 2", got)
		}
	})
}
