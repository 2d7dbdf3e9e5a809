package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// The defaults of Config.
const (
	DefaultSessions = 10_000
	DefaultBackups  = 24
)

// The bounds of what may be configured.
const (
	maxSessions    = 1_000_000
	minSessionTTL  = time.Second
	maxSessionTTL  = 5 * time.Minute
	minBackupEvery = time.Minute
	maxBackups     = 10_000
)

// Config says where the server listens and keeps its data.
type Config struct {
	GRPCAddr string // of sessions, which are TLS 1.3 everywhere; port 0 takes a free one
	HTTPAddr string // of REST: plain HTTP on loopback unless there is a certificate, TLS 1.3 on every other address
	DataDir  string // made with mode 0700 if it is not there

	// Store is used instead of a data directory, which must be "" then: tokens and identity are made anew and live in
	// memory, and no credential file is written. The server does not close it.
	Store store.Store

	// TLSCert and TLSKey are the PEM files of REST's certificate, which are read again when they change. "" for both:
	// beyond loopback REST has the certificate of the sessions, which clients know by its pin.
	TLSCert, TLSKey string

	SessionTTL  time.Duration  // silence after which an instance of a session is suspect; it is removed after 30/7 of it; 1s to 5m; 0: 7s
	MaxSessions int            // 1 to 1,000,000; 0: 10,000
	BackupEvery time.Duration  // at least 1m; 0: no backups
	BackupKeep  int            // the newest so many are kept, 1 to 10,000; 0: 24
	Checks      bool           // do the active health checks that registrations ask for
	CheckAllow  []netip.Prefix // towards which checks may go that are refused otherwise: loopback, link-local, the server itself

	Version string       // as told to clients
	Log     *slog.Logger // nil: silent
}

// Check finds what is wrong before anything is opened. The error is one line that names the flag and says what to do.
func (c Config) Check() error {
	for _, a := range []struct{ flag, addr string }{{"grpc-addr", c.GRPCAddr}, {"http-addr", c.HTTPAddr}} {
		if err := checkAddress(a.flag, a.addr); err != nil {
			return err
		}
	}
	switch _, port, _ := net.SplitHostPort(c.GRPCAddr); {
	case c.GRPCAddr == c.HTTPAddr && port != "0":
		return fmt.Errorf("--grpc-addr and --http-addr are both %s: want two ports", c.GRPCAddr)
	case c.DataDir == "" && c.Store == nil:
		return errors.New(`--data-dir "": want a directory, such as ./weft-data`)
	case c.DataDir != "" && c.Store != nil:
		return errors.New("a data directory and a store are given: want one of them")
	case (c.TLSCert == "") != (c.TLSKey == ""):
		return errors.New("--tls-cert and --tls-key belong together: give both, or neither to use the server's own certificate")
	case c.SessionTTL != 0 && (c.SessionTTL < minSessionTTL || c.SessionTTL > maxSessionTTL):
		return fmt.Errorf("--session-ttl %s: want %s to %s", c.SessionTTL, minSessionTTL, maxSessionTTL)
	case c.MaxSessions < 0 || c.MaxSessions > maxSessions:
		return fmt.Errorf("--max-sessions %d: want 1 to %d, or 0 for %d", c.MaxSessions, maxSessions, DefaultSessions)
	case c.BackupEvery != 0 && c.BackupEvery < minBackupEvery:
		return fmt.Errorf("--backup-every %s: want at least %s, or 0 for no backups", c.BackupEvery, minBackupEvery)
	case c.BackupKeep < 0 || c.BackupKeep > maxBackups:
		return fmt.Errorf("--backup-keep %d: want 1 to %d, or 0 for %d", c.BackupKeep, maxBackups, DefaultBackups)
	case len(c.CheckAllow) > 0 && !c.Checks:
		return errors.New("--check-allow without --checks: no checks are done; add --checks, or leave it out")
	}
	return nil
}

func checkAddress(flag, addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("--%s %q: want host:port, such as 127.0.0.1:7070", flag, addr)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("--%s %q: port %q: want 0 to 65535, where 0 takes a free one", flag, addr, port)
	}
	return nil
}

// complete puts the defaults in.
func (c *Config) complete() {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.MaxSessions == 0 {
		c.MaxSessions = DefaultSessions
	}
	if c.BackupKeep == 0 {
		c.BackupKeep = DefaultBackups
	}
}
