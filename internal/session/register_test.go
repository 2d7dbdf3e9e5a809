package session_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/session"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

func registered(server *sessiontest.Server) []string {
	return slices.Sorted(maps.Keys(server.Instances()))
}

func TestRegisterUpdateClose(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		r := register(t, s, "i1")
		if !acked(r) {
			t.Error("not acknowledged when Register returned")
		}
		changed := instance("i1")
		changed.Weight = 7
		if err := r.Update(t.Context(), changed); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(map[string]*weftv1.Instance{"i1": changed}, server.Instances(), protocmp.Transform()); d != "" {
			t.Error(d)
		}
		if err := r.Update(t.Context(), instance("i2")); err == nil {
			t.Error("another id: no error")
		}
		if _, err := s.Register(t.Context(), instance("i1")); err == nil {
			t.Error("an id twice: no error")
		}
		for range 2 {
			if err := r.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if got := registered(server); len(got) != 0 {
			t.Errorf("after Close: %v", got)
		}
		if err := r.Update(t.Context(), changed); err == nil {
			t.Error("update after Close: no error")
		}
		register(t, s, "i1") // the id is free again
	})
}

func TestRegisterIsPipelined(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		settle(0)
		done := make(chan error)
		ids := strings.Split("abcdefghijklmnopqrstuvwxyz", "")
		for _, id := range ids {
			go func() {
				_, err := s.Register(t.Context(), instance(id))
				done <- err
			}()
		}
		for range ids {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if d := cmp.Diff(ids, registered(server)); d != "" {
			t.Error(d)
		}
		messages := sessiontest.Heard(server, (*weftv1.ConnectRequest).GetRegister)
		for i, m := range messages {
			if m.Seq != uint64(i+1) {
				t.Errorf("message %d has seq %d", i, m.Seq)
			}
		}
	})
}

func TestRegisterPendingWhileTheRegistryIsAway(t *testing.T) {
	bubble(t, nil, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		start := time.Now()
		r := register(t, s, "i1")
		if took := time.Since(start); took != 2*time.Second || acked(r) {
			t.Errorf("returned after %v, acknowledged %v; want pending after 2 s", took, acked(r))
		}
		settle(time.Minute)
		server.Start()
		settle(5 * time.Second)
		if !acked(r) || len(server.Instances()) != 1 {
			t.Error("not registered 5 s after the registry appeared")
		}
	})
}

func TestReregistersTheSameIDsAfterARestart(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		register(t, s, "i1")
		register(t, s, "i2")
		closed := register(t, s, "i3")
		server.Stop()
		server.Reset(8)
		if err := closed.Close(soon(t, time.Second)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close while away: %v", err)
		}
		sessiontest.Heard(server, (*weftv1.ConnectRequest).GetDeregister)
		server.Start()
		settle(5 * time.Second)
		if d := cmp.Diff([]string{"i1", "i2"}, registered(server)); d != "" {
			t.Error(d)
		}
		told := sessiontest.Heard(server, (*weftv1.ConnectRequest).GetDeregister)
		if len(told) != 1 || !slices.Equal(told[0].Ids, []string{"i3"}) {
			t.Errorf("the closed instance was not withdrawn: %v", told)
		}
		if err := closed.Close(t.Context()); err != nil {
			t.Errorf("close again: %v", err)
		}
	})
}

func TestRefusals(t *testing.T) {
	code, message := "forbidden", "not your service"
	refuse := func(in *weftv1.Instance) *weftv1.Refusal {
		if in.Weight == 13 {
			return &weftv1.Refusal{Code: code, Message: message}
		}
		return nil
	}
	bad := instance("bad")
	bad.Weight = 13
	bubble(t, func(server *sessiontest.Server) { server.Refuse = refuse; server.Start() },
		func(t *testing.T, server *sessiontest.Server, s *session.Session, log *lines) {
			_, err := s.Register(t.Context(), bad)
			var refusal *session.Refusal
			if !errors.As(err, &refusal) || refusal.Code != code || refusal.Message != message {
				t.Errorf("error %v, want the refusal", err)
			}
			good := register(t, s, "good")
			worse := instance("good")
			worse.Weight = 13
			if err := good.Update(t.Context(), worse); !errors.As(err, &refusal) {
				t.Errorf("update: error %v, want the refusal", err)
			}
			sessiontest.Heard(server, (*weftv1.ConnectRequest).GetRegister)
			server.Stop()
			server.Start()
			settle(3 * time.Second)
			again := sessiontest.Heard(server, (*weftv1.ConnectRequest).GetRegister)
			if len(again) != 1 || len(again[0].Instances) != 1 || again[0].Instances[0].Weight != 0 {
				t.Errorf("after a reconnect: %v; want the last good version alone", again)
			}
		})
}

func TestUnavailableIsTriedAgain(t *testing.T) {
	failures := 2
	refuse := func(*weftv1.Instance) *weftv1.Refusal {
		if failures--; failures >= 0 {
			return &weftv1.Refusal{Code: "unavailable", Message: "disk full"}
		}
		return nil
	}
	bubble(t, func(server *sessiontest.Server) { server.Refuse = refuse; server.Start() },
		func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
			r := register(t, s, "i1")
			if acked(r) {
				t.Error("acknowledged")
			}
			settle(11 * time.Second)
			if !acked(r) {
				t.Error("not tried again with the renewals")
			}
		})
}

func TestRegisterWithdrawsWhenItsContextEnds(t *testing.T) {
	bubble(t, func(server *sessiontest.Server) { server.Silent = true; server.Start() },
		func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
			if _, err := s.Register(soon(t, time.Second), instance("i1")); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v", err)
			}
			server.Stop()
			server.Silent = false
			server.Start()
			settle(5 * time.Second)
			if got := registered(server); len(got) != 0 {
				t.Errorf("registered %v", got)
			}
		})
}

func TestWaitersEndWithTheSession(t *testing.T) {
	bubble(t, func(server *sessiontest.Server) { server.Silent = true; server.Start() },
		func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
			r := register(t, s, "i1")
			done := make(chan error)
			go func() { done <- r.Close(context.Background()) }()
			settle(time.Second)
			s.Close()
			if err := <-done; !errors.Is(err, session.ErrClosed) {
				t.Errorf("error %v, want ErrClosed", err)
			}
			if _, err := s.Register(t.Context(), instance("i2")); !errors.Is(err, session.ErrClosed) {
				t.Errorf("register: error %v, want ErrClosed", err)
			}
		})
}

func TestRenewals(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		settle(time.Minute + time.Second)
		if got := len(sessiontest.Heard(server, (*weftv1.ConnectRequest).GetRenew)); got != 12 {
			t.Errorf("%d renewals in a minute, want one every 5 s", got)
		}
	})
}
