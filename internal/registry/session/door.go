package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/weftmesh/weft/internal/registry/access"
)

// RetryHeader is the trailer, in milliseconds, in which a refused client is told when to come again.
const RetryHeader = "grpc-retry-pushback-ms"

// fullDelay is after how long a client that finds the server full comes again, at the least; up to twice as long.
const fullDelay = 5 * time.Second

// begin lets a session in and counts it: first the limits, as they cost nothing, then the token.
func (s *Server) begin(ss *session) error {
	ss.address, ss.from = peerOf(ss.stream.Context())
	if err := s.count(ss); err != nil {
		return err
	}
	if err := s.authorize(ss); err != nil {
		s.drop(ss)
		s.wg.Done()
		return err
	}
	return nil
}

// peerOf gives the address of the client with and without its port.
func peerOf(ctx context.Context) (address, host string) {
	if p, ok := peer.FromContext(ctx); ok {
		address = p.Addr.String()
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address, address
	}
	return address, host
}

func (s *Server) count(ss *session) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return errStopping
	case len(s.live) >= s.opt.MaxSessions:
		return full(ss, "the server has %d sessions, the most it takes (--max-sessions)", s.opt.MaxSessions)
	case s.addresses[ss.from] >= s.opt.MaxPerAddress:
		return full(ss, "this address has %d sessions, and no more are taken", s.opt.MaxPerAddress)
	}
	s.live[ss] = struct{}{}
	s.addresses[ss.from]++
	s.wg.Add(1)
	return nil
}

// full refuses a session with a hint when to come again.
func full(ss *session, format string, args ...any) error {
	retryAfter(ss, fullDelay+rand.N(fullDelay))
	return status.Errorf(codes.ResourceExhausted, format, args...)
}

func retryAfter(ss *session, d time.Duration) {
	ss.stream.SetTrailer(metadata.Pairs(RetryHeader, strconv.FormatInt(d.Milliseconds(), 10)))
}

// authorize asks what the token of the session allows. It asks again if a token was revoked meanwhile, which may have
// been this one.
func (s *Server) authorize(ss *session) error {
	if s.opt.Authorize == nil {
		return nil
	}
	for {
		s.mu.Lock()
		before := s.revoked
		s.mu.Unlock()
		grant, err := s.opt.Authorize(ss.stream.Context(), bearer(ss.stream.Context()), ss.from)
		if err != nil {
			return refuse(ss, err)
		}
		if !grant.MaySession() {
			return status.Errorf(codes.PermissionDenied, "token %q (%s) may not open a session", grant.Name, grant.Role)
		}
		s.mu.Lock()
		if s.revoked == before {
			ss.grant, ss.bound = grant, true
			s.mu.Unlock()
			return nil
		}
		s.mu.Unlock()
	}
}

func refuse(ss *session, err error) error {
	var locked *access.Locked
	if errors.As(err, &locked) {
		retryAfter(ss, locked.RetryAfter)
		return status.Error(codes.ResourceExhausted, err.Error())
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	return status.Error(codes.Unauthenticated, err.Error())
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

// Revoke ends the sessions that were opened with a token, and those that are being opened with it.
func (s *Server) Revoke(tokenID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.revoked++
	for ss := range s.live {
		if ss.bound && ss.grant.ID == tokenID {
			ss.end(errRevoked)
		}
	}
}
