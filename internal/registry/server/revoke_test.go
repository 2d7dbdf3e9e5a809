package server

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/store"
)

// running runs a server in memory until the test ends.
func running(t *testing.T) *Server {
	t.Helper()
	s, err := New(Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: store.NewMemory()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// session opens one with a token, and gives a channel that says how and when it ends.
func (s *Server) session(t *testing.T, process, token string) <-chan error {
	t.Helper()
	conn, err := grpc.NewClient(s.GRPCAddr(), grpc.WithTransportCredentials(credentials.NewTLS(trusting())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	stream, err := weftv1.NewSessionServiceClient(conn).Connect(metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: process}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := stream.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	return ended
}

// TestRevokedSessionsEnd revokes one token and lets another expire; a third, the control, goes on.
func TestRevokedSessionsEnd(t *testing.T) {
	s := running(t)
	tokens := s.rooms.Load().tokens
	begin := func(ttl time.Duration) (id string, ended <-chan error) {
		token, text, err := tokens.Create(t.Context(), access.Spec{Name: "service", Role: access.Workload, TTL: ttl})
		if err != nil {
			t.Fatal(err)
		}
		return token.ID, s.session(t, token.ID, text)
	}
	id, revoked := begin(0)
	_, expired := begin(2 * time.Second)
	_, stays := begin(0)
	if err := tokens.Revoke(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for name, ended := range map[string]<-chan error{"revoked": revoked, "expired": expired} {
		select {
		case err := <-ended:
			if status.Code(err) != codes.Unauthenticated {
				t.Errorf("%s: the session ended with %v", name, err)
			}
		case <-time.After(30 * time.Second): // it is to be 5
			t.Errorf("%s: the session goes on", name)
		}
	}
	select {
	case err := <-stays:
		t.Errorf("another token's session ended: %v", err)
	default:
	}
}
