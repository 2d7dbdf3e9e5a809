package session_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/session"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lines collects what is logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) count(s string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), s)
}

// bubble runs a test on virtual time with a server, which is not started, and a session that looks for it.
func bubble(t *testing.T, prepare func(*sessiontest.Server), test func(*testing.T, *sessiontest.Server, *session.Session, *lines)) {
	synctest.Test(t, func(t *testing.T) {
		server := sessiontest.New(7)
		if prepare != nil {
			prepare(server)
		}
		log := &lines{}
		s := session.New(session.Config{
			Endpoint: server.Endpoint, Dial: server.Dial, Process: "p1", Service: "web", Namespace: "shop", Version: "1",
			Log: slog.New(slog.NewTextHandler(log, nil)),
		})
		test(t, server, s, log)
		s.Close()
		server.Stop()
		if got := s.State(); got != session.Closed {
			t.Errorf("state after Close: %v", got)
		}
	})
}

func started(server *sessiontest.Server) { server.Start() }

// settle lets everything happen that happens within the time.
func settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// updates records what a subscription is given.
type updates struct {
	mu    sync.Mutex
	got   []string
	nacks []*weftv1.Nack
}

func (u *updates) apply(m *weftv1.Update) []*weftv1.Nack {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.got = append(u.got, fmt.Sprintf("%d-%d", m.Epoch, m.Revision))
	return u.nacks
}

func (u *updates) take() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer func() { u.got = nil }()
	return strings.Join(u.got, " ")
}

func snapshot(service string, revision uint64) *weftv1.Update {
	return &weftv1.Update{Service: service, Revision: revision, Snapshot: true}
}

func delta(service string, revision uint64) *weftv1.Update {
	return &weftv1.Update{Service: service, Revision: revision}
}

func instance(id string) *weftv1.Instance {
	return &weftv1.Instance{Id: id, Service: "web", Namespace: "shop", Process: "p1", Address: "10.0.0.1:80", Protocol: "http"}
}

func register(t *testing.T, s *session.Session, id string) *session.Registration {
	t.Helper()
	r, err := s.Register(t.Context(), instance(id))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func acked(r *session.Registration) bool {
	select {
	case <-r.Acked():
		return true
	default:
		return false
	}
}

func soon(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func inBubble(t *testing.T, test func(*testing.T)) { synctest.Test(t, test) }
