package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/check"
	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/rest"
	"github.com/weftmesh/weft/internal/registry/session"
	"github.com/weftmesh/weft/internal/registry/store"
)

// rooms are all that is built upon one opening of the store. A restore replaces them together.
type rooms struct {
	config     Config
	log        *slog.Logger
	store      *watched
	catalog    *catalog.Catalog
	tokens     *access.Tokens
	leases     *lease.Leases
	sessions   *session.Server
	grpc       *grpc.Server
	rest       *rest.API
	http       *http.Server
	lastBackup atomic.Pointer[time.Time] // nil: none
	stopping   atomic.Bool
	cleanup    []func() error // in reverse order
}

// furnish builds upon an opened store.
func (r *rooms) furnish(s *Server) (err error) {
	if r.tokens, err = access.OpenTokens(r.config.DataDir, r.store, r.catalog); err != nil {
		return err
	}
	r.onClose(func() error { r.tokens.Close(); return nil })
	r.addChecks(s)
	r.addSessions(s.identity)
	r.addREST(s)
	r.addBackups()
	return nil
}

func (r *rooms) onClose(f func() error) { r.cleanup = append(r.cleanup, f) }

// close ends everything, the last first. Requests and sessions under way get 5 s. It is idempotent.
func (r *rooms) close() error {
	r.stopping.Store(true)
	var errs []error
	for _, f := range slices.Backward(r.cleanup) {
		errs = append(errs, f())
	}
	r.cleanup = nil
	return errors.Join(errs...)
}

// openStore opens the store and what is kept in it.
func (r *rooms) openStore() error {
	st := r.config.Store
	where := "the store"
	if st == nil {
		where = "data directory " + r.config.DataDir
		opened, err := store.Open(r.config.DataDir)
		if err != nil {
			return err
		}
		r.onClose(opened.Close)
		st = opened
	}
	r.store = watch(st, r.log)
	var err error
	if r.catalog, err = catalog.Open(r.store, r.log); err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	r.onClose(r.catalog.Close)
	r.leases = lease.New(r.catalog, r.log)
	r.onClose(func() error { r.leases.Close(); return nil })
	return nil
}

// addChecks starts the active health checks, if they are wanted.
func (r *rooms) addChecks(s *Server) {
	checker := check.New(r.catalog, check.Options{
		Enabled: r.config.Checks,
		Allow:   r.config.CheckAllow,
		Own:     []netip.AddrPort{s.grpcDoor.addr().AddrPort(), s.httpDoor.addr().AddrPort()},
		Log:     r.log,
	})
	r.onClose(func() error { checker.Close(); return nil })
}

func (r *rooms) addSessions(identity *access.Identity) {
	r.sessions = session.New(r.catalog, r.leases, session.Options{
		Authorize:   r.authorize,
		Log:         r.log,
		Version:     r.config.Version,
		TTL:         r.config.SessionTTL,
		MaxSessions: r.config.MaxSessions,
	})
	r.grpc = grpc.NewServer(append(session.ServerOptions(), grpc.Creds(newTurns(credentials.NewTLS(identity.TLS()))))...)
	r.sessions.Register(r.grpc)
	r.tokens.OnRevoke(r.sessions.Revoke)
	r.onClose(r.closeSessions)
}

// authorize says what a session may do. That a role opens none is told by the session.
func (r *rooms) authorize(_ context.Context, token, from string) (access.Grant, error) {
	grant, err := r.tokens.Check(token, from)
	if errors.Is(err, access.ErrUnknown) || errors.Is(err, access.ErrExpired) {
		err = fmt.Errorf("%w; SDKs of the same user find theirs by themselves, others need the one in workload.token of the server's data directory (WEFT_TOKEN)", err)
	}
	return grant, err
}

// closeSessions ends all sessions, then the connections.
func (r *rooms) closeSessions() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := r.sessions.Close(ctx)
	hard := time.AfterFunc(grace, r.grpc.Stop)
	defer hard.Stop()
	r.grpc.GracefulStop()
	return err
}

func (r *rooms) addREST(s *Server) {
	restore := s.Restore
	if r.config.DataDir == "" {
		restore = nil // REST says so before it takes a byte
	}
	r.rest = rest.New(rest.Config{
		Catalog:     r.catalog,
		Leases:      r.leases,
		Access:      r.tokens,
		Sessions:    r.sessions,
		Backup:      func(w io.Writer) error { return store.Backup(r.store, w) },
		Restore:     restore,
		StoreStatus: r.storeStatus,
		Checks:      r.config.Checks,
		Collectors:  []prometheus.Collector{r.store.metrics, traffic{r}},
		Ready:       r.ready,
		Version:     r.config.Version,
		Log:         r.log,
	})
	r.http = &http.Server{
		Handler:           r.rest,
		TLSConfig:         s.restTLS,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    16 << 10,

		DisableGeneralOptionsHandler: true, // "OPTIONS *" needs a token like the rest
		ErrorLog:                     slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	r.http.RegisterOnShutdown(r.rest.Close)
	r.onClose(r.closeREST)
}

// storeStatus says how the store is. Its size is that of its file.
func (r *rooms) storeStatus() rest.Store {
	out := rest.Store{State: r.store.State()}
	if r.config.Store == nil {
		out.Path = filepath.Join(r.config.DataDir, "registry.db")
		if info, err := os.Stat(out.Path); err == nil {
			out.Bytes = info.Size()
		}
	}
	if at := r.lastBackup.Load(); at != nil {
		out.LastBackup = *at
	}
	return out
}

// closeREST lets requests under way finish.
func (r *rooms) closeREST() error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := r.http.Shutdown(ctx); err != nil {
		return errors.Join(fmt.Errorf("REST requests were still running after %s: %w", grace, err), r.http.Close())
	}
	return nil
}

// serveREST serves behind a door, with TLS if there is a configuration of it.
func (r *rooms) serveREST(w *way) error {
	if r.http.TLSConfig != nil {
		return r.http.ServeTLS(w, "", "")
	}
	return r.http.Serve(w)
}
