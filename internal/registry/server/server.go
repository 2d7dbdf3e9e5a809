// Package server wires the rooms of the registry server into one: store, catalog, leases, sessions over gRPC and
// REST over HTTP. The command registry-server is this package with flags; tests start it in their own process.
//
//	s, err := server.New(server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DataDir: dir})
//	if err != nil {
//		return err // one line that says what to do
//	}
//	err = s.Run(ctx) // until ctx ends
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/rest"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
)

// grace is how long a stopping server waits for requests and sessions under way.
const grace = 5 * time.Second

// Config says where the server listens and keeps its data.
type Config struct {
	GRPCAddr string       // of sessions, a loopback address; port 0 takes a free one
	HTTPAddr string       // of REST, likewise
	DataDir  string       // made with mode 0700 if it is not there
	Version  string       // as told to clients
	Log      *slog.Logger // nil: silent
}

// Server is a registry server that listens. It is made by [New], and [Server.Run] must be called to release it.
type Server struct {
	log      *slog.Logger
	store    store.Store
	catalog  *catalog.Catalog
	leases   *lease.Leases
	sessions *session.Server
	grpc     *grpc.Server
	http     *http.Server
	grpcLis  net.Listener
	httpLis  net.Listener
	dataDir  string // absolute
	stopping atomic.Bool
	cleanup  []func() error // in reverse order
}

// New opens the data directory and both listeners, and writes the credential file. Its error is one line that says
// what to do.
func New(c Config) (_ *Server, err error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	for _, a := range []struct{ flag, addr string }{{"grpc-addr", c.GRPCAddr}, {"http-addr", c.HTTPAddr}} {
		if err := checkLoopback(a.flag, a.addr); err != nil {
			return nil, err
		}
	}
	s := &Server{log: c.Log}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := s.openData(&c); err != nil {
		return nil, err
	}
	tokens, err := access.OpenTokens(c.DataDir)
	if err != nil {
		return nil, err
	}
	identity, err := access.OpenIdentity(c.DataDir)
	if err != nil {
		return nil, err
	}
	if err := s.listen(c); err != nil {
		return nil, err
	}
	s.addSessions(c, tokens, identity)
	s.addREST(c, tokens)
	s.announce(credential.File{
		GRPC:    s.GRPCAddr(),
		HTTP:    s.HTTPAddr(),
		DataDir: c.DataDir,
		Pin:     identity.Pin(),
		Token:   tokens.WorkloadToken(),
	})
	return s, nil
}

// openData opens what is on disk and makes the path of the data directory absolute.
func (s *Server) openData(c *Config) error {
	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", c.DataDir, err)
	}
	c.DataDir, s.dataDir = dir, dir
	st, err := store.Open(dir)
	if err != nil {
		return err
	}
	s.store = st
	s.onRelease(st.Close)
	if s.catalog, err = catalog.Open(st, c.Log); err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	s.onRelease(s.catalog.Close)
	s.leases = lease.New(s.catalog, c.Log)
	s.onRelease(func() error { s.leases.Close(); return nil })
	return nil
}

func (s *Server) addSessions(c Config, tokens *access.Tokens, identity *access.Identity) {
	s.sessions = session.New(s.catalog, s.leases, session.Options{
		Authorize: func(_ context.Context, token, from string) (access.Grant, error) {
			return authorize(tokens, token, from)
		},
		Log:     c.Log,
		Version: c.Version,
	})
	s.grpc = grpc.NewServer(append(session.ServerOptions(), grpc.Creds(credentials.NewTLS(identity.TLS())))...)
	s.sessions.Register(s.grpc)
	s.onRelease(s.closeSessions)
}

func authorize(tokens *access.Tokens, token, from string) (access.Grant, error) {
	grant, err := tokens.Check(token, from)
	if !errors.Is(err, access.ErrUnknown) {
		return grant, err
	}
	return grant, errors.New("the token is not this server's; SDKs of the same user find theirs by themselves, others need the one in workload.token of the server's data directory (WEFT_TOKEN)")
}

// closeSessions ends all sessions, then the connections.
func (s *Server) closeSessions() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := s.sessions.Close(ctx)
	hard := time.AfterFunc(grace, s.grpc.Stop)
	defer hard.Stop()
	s.grpc.GracefulStop()
	return err
}

func (s *Server) addREST(c Config, tokens *access.Tokens) {
	s.http = &http.Server{
		Handler: rest.New(rest.Config{
			Catalog:  s.catalog,
			Leases:   s.leases,
			Access:   tokens,
			Sessions: func() int { return len(s.sessions.Clients()) },
			Ready:    s.ready,
			Version:  c.Version,
			Log:      c.Log,
		}),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	s.onRelease(s.closeREST)
}

func (s *Server) ready() error {
	if s.stopping.Load() {
		return errors.New("the server is stopping")
	}
	return nil
}

// closeREST lets requests under way finish.
func (s *Server) closeREST() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("REST requests were still running after %s: %w", grace, err), s.http.Close())
	}
	return nil
}

// announce writes the credential file. A server whose user has no configuration directory does without.
func (s *Server) announce(f credential.File) {
	port := s.grpcLis.Addr().(*net.TCPAddr).Port
	s.sweep(f)
	if err := credential.Write(port, f); err != nil {
		s.log.Warn("SDKs and weftctl cannot find this server by themselves; set WEFT_REGISTRY, WEFT_HTTP and WEFT_TOKEN for them", "error", err)
		return
	}
	// It goes first of all, while the port and the data are still ours, so that it cannot be a successor's.
	s.onRelease(func() error { return credential.Remove(port, f) })
}

// sweep removes the files of servers that were killed: who holds the data directory and the ports knows that
// nobody else does.
func (s *Server) sweep(f credential.File) {
	ports, _ := credential.Ports()
	for _, port := range ports {
		old, err := credential.Read(port)
		if err != nil || old.DataDir != f.DataDir && old.HTTP != f.HTTP {
			continue
		}
		if err := credential.Remove(port, old); err != nil {
			s.log.Warn("the credential file of a server that is gone cannot be removed", "error", err)
		}
	}
}

// GRPCAddr is where sessions really are.
func (s *Server) GRPCAddr() string { return s.grpcLis.Addr().String() }

// HTTPAddr is where REST really is.
func (s *Server) HTTPAddr() string { return s.httpLis.Addr().String() }

// Run serves until ctx ends or a listener fails; then it stops and releases everything: requests and sessions
// under way get 5 s. It may be called once, also with a context that has ended.
func (s *Server) Run(ctx context.Context) error {
	failed := make(chan error, 2)
	go func() { failed <- s.grpc.Serve(s.grpcLis) }()
	go func() { failed <- s.http.Serve(s.httpLis) }()
	s.log.Info("registry server is ready", "grpc", s.GRPCAddr(), "http", s.HTTPAddr(), "data", s.dataDir)
	running := 2
	var err error
	select {
	case <-ctx.Done():
		s.log.Info("registry server is stopping")
	case err = <-failed:
		running--
	}
	s.stopping.Store(true)
	err = errors.Join(err, s.release())
	for range running {
		if e := <-failed; !errors.Is(e, http.ErrServerClosed) && !errors.Is(e, grpc.ErrServerStopped) {
			err = errors.Join(err, e)
		}
	}
	return err
}

func (s *Server) onRelease(f func() error) { s.cleanup = append(s.cleanup, f) }

// release undoes what was done, the last first.
func (s *Server) release() error {
	var errs []error
	for _, v := range slices.Backward(s.cleanup) {
		errs = append(errs, v())
	}
	s.cleanup = nil
	return errors.Join(errs...)
}
