// Package registry is the discovery source of the registry server: instances and rules come and registrations go
// over one session a process, and the last good state of each service is kept on disk.
//
//	source, err := registry.New(registry.Options{Service: "web", Namespace: "shop", CacheDir: dir})
//	if err != nil {
//		return err // the options are bad; a registry that is away is no error
//	}
//	defer source.Close()
//	go source.WatchRules(ctx, []string{"product.shop"}, applyRules)
//	go source.Watch(ctx, "product.shop", applyInstances)
//
// A [Source] implements discovery.Source, rule.Source and discovery.Registrar. Of one update the rules are always
// delivered before the instances. At a start without the registry the cache answers, with snapshots that say Stale.
// What is delivered is what the registry says: a discovery.Guard belongs between it and the calls.
package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session"
)

// DefaultAddr is where a registry server listens for sessions unless it was told otherwise.
const DefaultAddr = "127.0.0.1:7070"

const (
	headStart     = 50 * time.Millisecond // of the registry before the cache
	closePatience = 2 * time.Second       // of Close for the registry's answer to withdrawn instances
)

// ErrClosed is returned by what was waiting for a [Source] that was closed.
var ErrClosed = errors.New("the registry source is closed")

// Options say where the registry is and who asks.
type Options struct {
	// Addrs are the host:port of registry servers, tried in turn. Empty: [DefaultAddr]. The pin and the token for an
	// address come from the credential file of its port, which is read before every attempt to connect.
	Addrs []string
	// Token is the bearer token; TokenFile is a file that has it, read before every attempt. At most one may be
	// set. Neither: the credential file's.
	Token     string
	TokenFile string
	// Pin is the SHA-256 of the server key's SubjectPublicKeyInfo in hex, as "registry-server doctor" and the server's
	// credential file say it. "": the credential file's, which a server on another host does not leave here.
	Pin string

	Service   string // of this process; "": it has none and cannot register
	Namespace string // "": "default"

	// CacheDir is where the last good state is kept, in a directory for these Addrs. "": nowhere.
	CacheDir string
	Logger   *slog.Logger // nil: logs nothing
}

// Source is the registry as seen by one process. It is safe for concurrent use.
type Source struct {
	opts    Options
	log     *slog.Logger
	process string
	session *session.Session
	saver   *saver // nil without a cache
	closed  chan struct{}
	once    sync.Once
	err     error // of Close

	mu      sync.Mutex // taken before an entry's, and that before the session's
	entries map[string]*entry
	regs    map[*registration]bool
}

// New returns a source that connects in the background: it never waits and never fails because the registry is away.
// A cache that cannot be opened is a warning.
func New(opts Options) (*Source, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, err
	}
	find := &finder{addrs: opts.Addrs, token: opts.Token, tokenFile: opts.TokenFile, pin: opts.Pin}
	return open(opts, find.next, nil), nil
}

func (o Options) complete() (Options, error) {
	if len(o.Addrs) == 0 {
		o.Addrs = []string{DefaultAddr}
	}
	for _, addr := range o.Addrs {
		if _, err := portOf(addr); err != nil {
			return o, err
		}
	}
	if o.Pin != "" {
		if _, err := parsePin(o.Pin); err != nil {
			return o, fmt.Errorf("registry options: %w", err)
		}
	}
	if o.Token != "" && o.TokenFile != "" {
		return o, errors.New("registry options: Token and TokenFile: want at most one of them")
	}
	o.Namespace = cmp.Or(o.Namespace, discovery.DefaultNamespace)
	if o.Service != "" && !discovery.IsLabel(o.Service) || !discovery.IsLabel(o.Namespace) {
		return o, fmt.Errorf("registry options: service %q, namespace %q: %w: want DNS labels", o.Service, o.Namespace, discovery.ErrInvalid)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}

func open(opts Options, endpoint func(context.Context) (session.Endpoint, error), dial func(context.Context, string) (net.Conn, error)) *Source {
	s := &Source{
		opts: opts, log: opts.Logger, process: rand.Text(), closed: make(chan struct{}),
		entries: map[string]*entry{}, regs: map[*registration]bool{},
	}
	if opts.CacheDir != "" {
		// Another registry's services are others, even if they have the same names.
		dir := filepath.Join(opts.CacheDir, strings.Map(fileChar, strings.Join(opts.Addrs, "+")))
		if cache, err := discovery.OpenCache(dir); err != nil {
			s.log.Warn("no cache of services: a start without the registry will not work", "error", err)
		} else {
			s.saver = newSaver(cache, s.log)
		}
	}
	s.session = session.New(session.Config{
		Endpoint: endpoint, Dial: dial, Log: opts.Logger,
		Process: s.process, Service: opts.Service, Namespace: opts.Namespace, Version: version(),
	})
	return s
}

// fileChar keeps what may be in a file name everywhere.
func fileChar(r rune) rune {
	if r == '.' || r == '-' || r == '+' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
		return r
	}
	return '_'
}

// version is that of Weft in this binary.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == "github.com/weftmesh/weft" {
			return m.Version
		}
	}
	return ""
}

// Close withdraws what is still registered, waiting up to 2 s for the registry if it is there, ends every Watch and
// WatchRules and writes the cache. Idempotent.
func (s *Source) Close() error {
	s.once.Do(func() {
		close(s.closed)
		err := s.withdraw()
		s.session.Close()
		if s.saver != nil {
			s.saver.close()
		}
		s.err = err
	})
	return s.err
}

// State is "connecting", "connected", "waiting" (for the next attempt to connect) or "closed".
func (s *Source) State() string { return string(s.session.State()) }

// LastError says why there is no session with the registry; nil while there is one.
func (s *Source) LastError() error { return s.session.LastError() }
