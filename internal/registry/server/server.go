// Package server wires the rooms of the registry server into one: store, catalog, tokens, leases, sessions over gRPC and
// REST over HTTP. The command registry-server is this package with flags; tests start it in their own process.
//
//	s, err := server.New(server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", DataDir: dir})
//	if err != nil {
//		return err // one line that says what to do
//	}
//	err = s.Run(ctx) // until ctx ends
//
// Sessions are TLS 1.3 with the server's pinned key on every address. REST is plain HTTP on loopback alone; nothing
// makes it so elsewhere. With Config.Store there is neither a data directory nor a credential file:
//
//	s, err := server.New(server.Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: store.NewMemory()})
//	… s.GRPCAddr(), s.Pin(), s.WorkloadToken(), s.AdminToken()
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/weftmesh/weft/internal/credential"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/store"
)

// grace is how long a stopping server waits for requests and sessions under way.
const grace = 5 * time.Second

// maxConnections bounds the connections of REST; those of sessions are bounded by Config.MaxSessions and these, as some
// have no session yet.
const maxConnections = 4096

// Server is a registry server that listens. It is made by [New], and [Server.Run] must be called to release it.
type Server struct {
	config        Config
	log           *slog.Logger
	identity      *access.Identity
	certificate   *certificate // nil: REST has no files
	restTLS       *tls.Config  // nil: REST is plain
	grpcDoor      *door
	httpDoor      *door
	rooms         atomic.Pointer[rooms] // nil while they are replaced
	adminToken    string
	workloadToken string
	restoring     atomic.Bool // from the upload of a backup until the rooms are open again
	restores      chan upload // a backup that is to replace the store

	announcing sync.Mutex
	announced  credential.File // zero: none is written
}

// New opens the data directory and both listeners, and writes the credential file. Its error is one line that says
// what to do.
func New(c Config) (_ *Server, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	c.complete()
	if c.DataDir != "" {
		if c.DataDir, err = filepath.Abs(c.DataDir); err != nil {
			return nil, fmt.Errorf("data directory %s: %w", c.DataDir, err)
		}
	}
	s := &Server{config: c, log: c.Log, restores: make(chan upload, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.release())
		}
	}()
	if err := s.open(); err != nil {
		return nil, err
	}
	r := s.rooms.Load()
	s.adminToken, s.workloadToken = r.tokens.AdminToken(), r.tokens.WorkloadToken()
	if err := store.Loose(c.DataDir); c.DataDir != "" && err != nil {
		s.log.Warn("the server starts all the same, as the files with secrets have modes of their own", "error", err)
	}
	s.announce()
	return s, nil
}

// open opens the rooms, and what outlives them if it is not there yet. The store comes first, as it makes and locks the
// data directory.
func (s *Server) open() error {
	r := &rooms{config: s.config, log: s.log}
	err := r.openStore()
	if err == nil && s.identity == nil {
		err = s.openFront()
	}
	if err == nil {
		err = r.furnish(s)
	}
	if err != nil {
		return errors.Join(err, r.close())
	}
	s.rooms.Store(r)
	return nil
}

// openFront opens what callers meet: the key by which they know the server, and the listeners.
func (s *Server) openFront() (err error) {
	if s.config.DataDir != "" { // left by a server that died before it restored it
		if err := os.Remove(filepath.Join(s.config.DataDir, uploadName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if s.identity, err = access.OpenIdentity(s.config.DataDir); err != nil {
		return err
	}
	if s.grpcDoor, err = openDoor("grpc-addr", s.config.GRPCAddr, s.config.MaxSessions+maxConnections); err != nil {
		return err
	}
	if s.httpDoor, err = openDoor("http-addr", s.config.HTTPAddr, maxConnections); err != nil {
		return err
	}
	return s.chooseTLS()
}

// chooseTLS decides by the address that REST really has, so that no name can make it plain where others may listen in.
func (s *Server) chooseTLS() (err error) {
	if s.config.TLSCert != "" {
		if s.certificate, err = openCertificate(s.config.TLSCert, s.config.TLSKey, s.log); err != nil {
			return err
		}
		s.certificate.changed = s.announce
		s.restTLS = &tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: s.certificate.get}
	} else if !s.httpDoor.addr().IP.IsLoopback() {
		s.restTLS = s.identity.TLS()
	}
	return nil
}

// httpPin is the pin of the key of REST; "" if it is plain.
func (s *Server) httpPin() string {
	switch {
	case s.certificate != nil:
		return s.certificate.pin()
	case s.restTLS != nil:
		return s.identity.Pin()
	}
	return ""
}

// GRPCAddr is where sessions really are.
func (s *Server) GRPCAddr() string { return s.grpcDoor.addr().String() }

// HTTPAddr is where REST really is.
func (s *Server) HTTPAddr() string { return s.httpDoor.addr().String() }

// AdminToken is the administrator's token, as in admin.token of the data directory.
func (s *Server) AdminToken() string { return s.adminToken }

// WorkloadToken is the token for sessions, as in workload.token of the data directory.
func (s *Server) WorkloadToken() string { return s.workloadToken }

// Pin is the pin of the key of sessions, as [credential.PinOf] gives it.
func (s *Server) Pin() string { return s.identity.Pin() }

// Run serves until ctx ends or a listener fails; then it stops and releases everything: requests and sessions
// under way get 5 s. A backup that is restored meanwhile replaces what is served, on the same ports. It may be called
// once, also with a context that has ended.
func (s *Server) Run(ctx context.Context) error {
	for {
		backup, err := s.serve(ctx)
		if backup == (upload{}) {
			return errors.Join(err, s.release())
		}
		if err := s.replace(backup); err != nil {
			return errors.Join(err, s.release())
		}
	}
}

// serve runs the servers of the rooms until ctx ends, one of them fails or a backup, which is given, is to replace them.
func (s *Server) serve(ctx context.Context) (backup upload, err error) {
	r := s.rooms.Load()
	failed := make(chan error, 2)
	go func() { failed <- r.grpc.Serve(s.grpcDoor.way()) }()
	go func() { failed <- r.serveREST(s.httpDoor.way()) }()
	s.log.Info("registry server is ready", "grpc", s.GRPCAddr(), "http", s.HTTPAddr(), "data", s.config.DataDir)
	running := 2
	select {
	case <-ctx.Done():
		s.log.Info("registry server is stopping")
	case backup = <-s.restores:
		s.log.Info("registry server is restoring a backup")
	case err = <-failed:
		running--
	}
	if backup == (upload{}) {
		err = errors.Join(err, s.leave())
	}
	s.rooms.Store(nil)
	err = errors.Join(err, r.close())
	for range running {
		if e := <-failed; !stopped(e) {
			err = errors.Join(err, e)
		}
	}
	return backup, err
}

// stopped reports whether a server ended because it was told to.
func stopped(err error) bool {
	return errors.Is(err, http.ErrServerClosed) || errors.Is(err, grpc.ErrServerStopped) || errors.Is(err, net.ErrClosed)
}

// leave takes the server out of sight, so that nobody comes any more.
func (s *Server) leave() error {
	err := s.retract()
	for _, d := range []*door{s.grpcDoor, s.httpDoor} {
		if d != nil {
			err = errors.Join(err, d.close())
		}
	}
	return err
}

// release ends what is still there.
func (s *Server) release() error {
	err := s.leave()
	if r := s.rooms.Swap(nil); r != nil {
		err = errors.Join(err, r.close())
	}
	return err
}
