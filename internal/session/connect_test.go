package session_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weftmesh/weft/internal/session"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

// certificate makes a self-signed one and its pin.
func certificate(t *testing.T) (tls.Certificate, [32]byte) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, sha256.Sum256(parsed.RawSubjectPublicKeyInfo)
}

func TestPin(t *testing.T) {
	cert, right := certificate(t)
	_, wrong := certificate(t)
	serve := func(version uint16, pin [32]byte) func(*sessiontest.Server) {
		return func(server *sessiontest.Server) {
			creds := credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}, MaxVersion: version})
			server.Options = []grpc.ServerOption{grpc.Creds(creds)}
			server.Secure, server.Pin = true, pin
			server.Start()
		}
	}
	t.Run("right", func(t *testing.T) {
		bubble(t, serve(0, right), func(t *testing.T, _ *sessiontest.Server, s *session.Session, _ *lines) {
			settle(time.Second)
			if s.State() != session.Connected {
				t.Errorf("state %v, error %v", s.State(), s.LastError())
			}
		})
	})
	t.Run("wrong", func(t *testing.T) {
		bubble(t, serve(0, wrong), func(t *testing.T, server *sessiontest.Server, s *session.Session, log *lines) {
			settle(time.Minute)
			var pin *session.PinError
			err := s.LastError()
			if !errors.As(err, &pin) || pin.Got != right || pin.Want != wrong {
				t.Fatalf("error %v, want a PinError with both", err)
			}
			if text := err.Error(); !strings.Contains(text, fmt.Sprintf("%x", right)) || !strings.Contains(text, fmt.Sprintf("%x", wrong)) {
				t.Errorf("%q does not name both pins", text)
			}
			if n := log.count("level=ERROR"); n != 1 {
				t.Errorf("logged %d times in a minute, want once", n)
			}
			if n := server.Dials(); n < 2 || n > 8 {
				t.Errorf("%d attempts in a minute, want one every 10 s or so", n)
			}
		})
	})
	t.Run("TLS 1.2", func(t *testing.T) {
		bubble(t, serve(tls.VersionTLS12, right), func(t *testing.T, _ *sessiontest.Server, s *session.Session, _ *lines) {
			settle(time.Second)
			if s.State() == session.Connected {
				t.Error("connected")
			}
		})
	})
}

func TestToken(t *testing.T) {
	bubble(t, func(server *sessiontest.Server) { server.Want, server.Token = "new", "old"; server.Start() },
		func(t *testing.T, server *sessiontest.Server, s *session.Session, log *lines) {
			settle(time.Minute)
			if err := s.LastError(); err == nil || !strings.Contains(err.Error(), "the token is not known") {
				t.Errorf("error %v, want the server's", err)
			}
			if n := log.count("the token is not known"); n != 1 {
				t.Errorf("logged %d times, want once", n)
			}
			if n := server.Dials(); n < 2 || n > 8 {
				t.Errorf("%d attempts in a minute, want one every 10 s or so", n)
			}
			server.SetToken("new")
			settle(5 * time.Second)
			if s.State() != session.Connected {
				t.Errorf("state %v 5 s after the token was replaced", s.State())
			}
		})
}

func TestReconnect(t *testing.T) {
	bubble(t, nil, func(t *testing.T, server *sessiontest.Server, s *session.Session, log *lines) {
		settle(time.Minute)
		if s.State() == session.Connected || s.LastError() == nil {
			t.Errorf("state %v, error %v", s.State(), s.LastError())
		}
		if n := log.count("connection refused"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
		if n := server.Dials(); n < 30 || n > 200 {
			t.Errorf("%d attempts in a minute, want about 60", n)
		}
		for range 5 {
			server.Start()
			settle(5 * time.Second)
			if s.State() != session.Connected || s.LastError() != nil {
				t.Fatalf("state %v, error %v 5 s after the registry appeared", s.State(), s.LastError())
			}
			server.Stop()
			settle(time.Minute)
		}
		if n := log.count("connection refused"); n != 6 {
			t.Errorf("logged %d times, want once an outage", n)
		}
	})
}

// A server that takes the stream and says nothing must not hold the session for ever.
func TestSilentServer(t *testing.T) {
	bubble(t, func(server *sessiontest.Server) { server.Mute = true; server.Start() },
		func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
			settle(4 * time.Second)
			if err := s.LastError(); err != nil {
				t.Errorf("given up early: %v", err)
			}
			settle(2 * time.Second)
			if err := s.LastError(); err == nil || !strings.Contains(err.Error(), "no answer within 5s") {
				t.Errorf("error %v after 6 s", err)
			}
		})
}

// A session that nobody answers must end at once.
func TestCloseWhileTheEndpointIsLookedFor(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := session.New(session.Config{Endpoint: func(ctx context.Context) (session.Endpoint, error) {
			<-ctx.Done()
			return session.Endpoint{}, ctx.Err()
		}})
		settle(time.Minute)
		start := time.Now()
		s.Close()
		s.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}

// A registry is away once an attempt to connect has failed, not when a connection just broke.
func TestAway(t *testing.T) {
	bubble(t, started, func(t *testing.T, server *sessiontest.Server, s *session.Session, _ *lines) {
		settle(time.Second)
		if s.State() != session.Connected || s.Away() {
			t.Fatalf("state %v, away %t", s.State(), s.Away())
		}
		server.Stop()
		settle(0)
		if s.State() != session.Waiting || s.Away() {
			t.Errorf("the connection broke: state %v, away %t", s.State(), s.Away())
		}
		settle(5 * time.Second)
		if !s.Away() {
			t.Error("not away after 5 s of attempts")
		}
		server.Start()
		settle(5 * time.Second)
		if s.Away() {
			t.Error("away while connected")
		}
	})
}
