package session_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/session"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

func interests(server *sessiontest.Server) (out []*weftv1.Interest) {
	for _, m := range sessiontest.Heard(server, (*weftv1.ConnectRequest).GetSubscribe) {
		out = append(out, m.Interests...)
	}
	return out
}

func wantInterests(t *testing.T, server *sessiontest.Server, want ...*weftv1.Interest) {
	t.Helper()
	if d := cmp.Diff(want, interests(server), protocmp.Transform()); d != "" {
		t.Errorf("interests: %s", d)
	}
}

func TestHello(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		settle(0)
		want := []*weftv1.Hello{{Process: "p1", Service: "web", Namespace: "shop", SdkVersion: "1"}}
		if d := cmp.Diff(want, sessiontest.Heard(server, (*weftv1.ConnectRequest).GetHello), protocmp.Transform()); d != "" {
			t.Error(d)
		}
		if s.State() != session.Connected || s.LastError() != nil {
			t.Errorf("state %v, error %v", s.State(), s.LastError())
		}
	})
}

func TestSubscribeDeliversInOrder(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		server.Push(snapshot("a.shop", 1))
		var a, b updates
		s.Subscribe("a.shop", session.Revision{}, a.apply)
		cancel := s.Subscribe("b.shop", session.Revision{}, b.apply)
		settle(0)
		wantInterests(t, server, &weftv1.Interest{Service: "a.shop"}, &weftv1.Interest{Service: "b.shop"})
		server.Push(snapshot("b.shop", 2))
		server.Push(delta("a.shop", 3))
		settle(0)
		cancel()
		settle(0)
		server.Push(delta("b.shop", 4))
		settle(0)
		if got := a.take(); got != "7-1 7-3" {
			t.Errorf("a.shop: %q", got)
		}
		if got := b.take(); got != "7-2" {
			t.Errorf("b.shop: %q", got)
		}
		gone := sessiontest.Heard(server, (*weftv1.ConnectRequest).GetUnsubscribe)
		if d := cmp.Diff([]*weftv1.Unsubscribe{{Services: []string{"b.shop"}}}, gone, protocmp.Transform()); d != "" {
			t.Error(d)
		}
	})
}

func TestResubscribeAfterReconnect(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		var a updates
		s.Subscribe("a.shop", session.Revision{}, a.apply)
		settle(0)
		server.Push(snapshot("a.shop", 1))
		server.Push(delta("a.shop", 5))
		settle(time.Second)
		interests(server)
		server.Stop()
		server.Start()
		settle(3 * time.Second)
		wantInterests(t, server, &weftv1.Interest{Service: "a.shop", Epoch: 7, Revision: 5})
		server.Push(delta("a.shop", 6))
		settle(0)
		if got := a.take(); got != "7-1 7-5 7-6" {
			t.Errorf("got %q", got)
		}
	})
}

// Another epoch must begin with a snapshot; a server that goes on with a delta is asked again for all of it.
func TestAnotherEpochNeedsASnapshot(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, log *lines) {
		var a updates
		s.Subscribe("a.shop", session.Revision{}, a.apply)
		settle(0)
		server.Push(snapshot("a.shop", 5))
		settle(0)
		interests(server)

		server.Push(&weftv1.Update{Service: "a.shop", Epoch: 8, Revision: 1})
		settle(3 * time.Second)
		wantInterests(t, server, &weftv1.Interest{Service: "a.shop"})
		if log.count("no snapshot but goes on") != 1 {
			t.Error("the reason was not logged")
		}
		server.Push(&weftv1.Update{Service: "a.shop", Epoch: 8, Revision: 1, Snapshot: true})
		settle(0)
		if got := a.take(); got != "7-5 7-5 8-1" { // the second is the answer to asking again
			t.Errorf("got %q", got)
		}
	})
}

// Updates for an ended subscription may still be on their way to the next one of the same service.
func TestResubscribeOnTheSameConnectionTakesOnlyASnapshot(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		var old, next updates
		cancel := s.Subscribe("a.shop", session.Revision{}, old.apply)
		settle(0)
		server.Push(snapshot("a.shop", 5))
		settle(0)
		server.Answer = func(*weftv1.Interest) *weftv1.Update { return nil }
		cancel()
		s.Subscribe("a.shop", session.Revision{Epoch: 7, Number: 2}, next.apply)
		settle(0)
		interests(server)
		server.Push(delta("a.shop", 6)) // for the old one
		settle(0)
		if got := next.take(); got != "" {
			t.Errorf("a delta on another base was applied: %q", got)
		}
		server.Push(snapshot("a.shop", 7))
		server.Push(delta("a.shop", 8))
		settle(0)
		if got := next.take(); got != "7-7 7-8" {
			t.Errorf("got %q", got)
		}
		if s.State() != session.Connected {
			t.Errorf("state %v", s.State())
		}
	})
}

func acks(server *sessiontest.Server) []*weftv1.Ack {
	return sessiontest.Heard(server, (*weftv1.ConnectRequest).GetAck)
}

func TestAcksAreDelayedAndMerged(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		var a, b updates
		a.nacks = []*weftv1.Nack{{Kind: "Route", Name: "r", Reason: "no"}}
		s.Subscribe("a.shop", session.Revision{}, a.apply)
		s.Subscribe("b.shop", session.Revision{}, b.apply)
		settle(0)
		server.Push(snapshot("a.shop", 1))
		server.Push(snapshot("b.shop", 2))
		server.Push(delta("a.shop", 3))
		settle(99 * time.Millisecond)
		if got := acks(server); len(got) != 0 {
			t.Errorf("acknowledged at once: %v", got)
		}
		settle(401 * time.Millisecond)
		want := []*weftv1.Ack{{Service: "a.shop", Epoch: 7, Revision: 3, Nacks: a.nacks}, {Service: "b.shop", Epoch: 7, Revision: 2}}
		if d := cmp.Diff(want, acks(server), protocmp.Transform()); d != "" {
			t.Error(d)
		}
		s.Nack("a.shop", nil)
		s.Nack("c.shop", a.nacks) // of no subscription
		settle(500 * time.Millisecond)
		want = []*weftv1.Ack{{Service: "a.shop", Epoch: 7, Revision: 3}}
		if d := cmp.Diff(want, acks(server), protocmp.Transform()); d != "" {
			t.Error(d)
		}
	})
}

func TestPiecesAreOneUpdate(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		var got []*weftv1.Update
		s.Subscribe("a.shop", session.Revision{}, func(u *weftv1.Update) []*weftv1.Nack { got = append(got, u); return nil })
		settle(0)
		piece := func(more bool, id, rule string) *weftv1.Update {
			u := snapshot("a.shop", 3)
			u.More, u.HasRules = more, true
			u.Removals = []*weftv1.Removal{{Id: "not " + id}}
			u.Instances = []*weftv1.Instance{{Id: id}}
			u.Rules = [][]byte{[]byte(rule)}
			return u
		}
		server.Push(piece(true, "i1", "r1"))
		settle(time.Second)
		if len(got) != 0 || len(acks(server)) != 0 {
			t.Errorf("applied a piece: %v", got)
		}
		server.Push(piece(true, "i2", "r2"))
		server.Push(piece(false, "i3", "r3"))
		settle(time.Second)
		want := []*weftv1.Update{{
			Service: "a.shop", Epoch: 7, Revision: 3, Snapshot: true, HasRules: true,
			Removals:  []*weftv1.Removal{{Id: "not i1"}, {Id: "not i2"}, {Id: "not i3"}},
			Instances: []*weftv1.Instance{{Id: "i1"}, {Id: "i2"}, {Id: "i3"}},
			Rules:     [][]byte{[]byte("r1"), []byte("r2"), []byte("r3")},
		}}
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Error(d)
		}
		if got := acks(server); len(got) != 1 {
			t.Errorf("%d acknowledgements, want one", len(got))
		}
	})
}

// What comes between pieces, or after a connection broke among them, must not be joined with them.
func TestBrokenPieces(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, log *lines) {
		var a updates
		s.Subscribe("a.shop", session.Revision{}, a.apply)
		s.Subscribe("b.shop", session.Revision{}, a.apply)
		settle(0)
		first := delta("a.shop", 3)
		first.Snapshot, first.More = true, true
		server.Push(first)
		server.Push(delta("b.shop", 4))
		server.Reset(7)
		settle(3 * time.Second)
		if log.count("comes between the pieces") != 1 || a.take() != "" {
			t.Error("not refused, or applied")
		}
		server.Push(snapshot("a.shop", 5))
		settle(0)
		if got := a.take(); got != "7-5" {
			t.Errorf("after the reconnect: %q", got)
		}
	})
}

// The first update of a subscription on a connection is acknowledged at once if it is large; later ones wait.
func TestALargeFirstUpdateIsAcknowledgedAtOnce(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		var a updates
		s.Subscribe("a.shop", session.Revision{}, a.apply)
		settle(0)
		for revision, want := range []int{1, 0} {
			u := snapshot("a.shop", uint64(revision+1))
			u.Rules = [][]byte{make([]byte, 16<<10)}
			server.Push(u)
			settle(0)
			if got := len(acks(server)); got != want {
				t.Errorf("update %d: %d acknowledgements at once, want %d", revision+1, got, want)
			}
		}
		settle(500 * time.Millisecond)
		if got := len(acks(server)); got != 1 {
			t.Errorf("later: %d acknowledgements", got)
		}
	})
}

// What is said must fit the messages that the server reads.
func TestMessagesAreBounded(t *testing.T) {
	bubble(t, nil, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		nack := &weftv1.Nack{Reason: strings.Repeat("x", 1<<10)}
		long := strings.Repeat("s", 63) + "." + strings.Repeat("n", 56)
		for i := range 5000 {
			s.Subscribe(fmt.Sprintf("%s%06d", long, i), session.Revision{Epoch: 1 << 60, Number: 1 << 60}, func(*weftv1.Update) []*weftv1.Nack { return nil })
		}
		name := long + "000000"
		s.Nack(name, slices.Repeat([]*weftv1.Nack{nack}, 5000))
		server.Start() // grpc's own bound is 4 MiB; the registry's is 1
		settle(5 * time.Second)
		s.Nack(name, slices.Repeat([]*weftv1.Nack{nack}, 5000))
		settle(time.Second)
		said := 0
		for _, m := range sessiontest.Heard(server, (*weftv1.ConnectRequest).GetSubscribe) {
			said += len(m.Interests)
			if size := proto.Size(m); size > 1<<20 {
				t.Errorf("a Subscribe of %d bytes", size)
			}
		}
		if said != 5000 {
			t.Errorf("%d interests", said)
		}
		if got := acks(server); len(got) != 1 || proto.Size(got[0]) > 1<<20 {
			t.Errorf("%d acknowledgements", len(got))
		}
	})
}
