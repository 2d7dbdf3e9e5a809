package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"github.com/weftmesh/weft/internal/registry/lease"
	"github.com/weftmesh/weft/internal/registry/server"
)

// settings are the flags of the server.
type settings struct {
	server.Config

	flags   *flag.FlagSet
	level   slog.Level
	format  string
	store   string
	version bool
}

// newSettings makes flags with their defaults.
func newSettings() *settings {
	s := &settings{flags: flag.NewFlagSet("registry-server", flag.ContinueOnError)}
	f := s.flags
	f.SetOutput(io.Discard)
	f.StringVar(&s.GRPCAddr, "grpc-addr", "127.0.0.1:7070", "`address` for the sessions of SDKs, always TLS; port 0 takes a free one")
	f.StringVar(&s.HTTPAddr, "http-addr", "127.0.0.1:7080", "`address` for REST: plain on loopback, TLS on every other one; port 0 takes a free one")
	f.StringVar(&s.DataDir, "data-dir", "./weft-data", "`directory` of the data; made if it is not there")
	f.StringVar(&s.store, "store", "bolt", "`kind` of the store; bolt is the only one")
	f.StringVar(&s.TLSCert, "tls-cert", "", "`file` with the certificate of REST in PEM, read again when it changes; without it REST has the server's own")
	f.StringVar(&s.TLSKey, "tls-key", "", "`file` with the key of --tls-cert")
	f.DurationVar(&s.SessionTTL, "session-ttl", lease.SessionTTL, "`silence` after which an instance of an SDK is suspect; it is unhealthy after 15/7 and removed after 30/7 of it")
	f.IntVar(&s.MaxSessions, "max-sessions", server.DefaultSessions, "most `sessions` at a time")
	f.DurationVar(&s.BackupEvery, "backup-every", time.Hour, "`interval` of backups into the data directory; 0 makes none")
	f.IntVar(&s.BackupKeep, "backup-keep", server.DefaultBackups, "`number` of backups that are kept")
	f.BoolVar(&s.Checks, "checks", false, "do the active health checks that registrations ask for")
	f.Func("check-allow", "`networks`, such as 127.0.0.0/8, towards which checks may go although they are loopback, link-local or the server itself; may be repeated", s.allow)
	f.TextVar(&s.level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	f.StringVar(&s.format, "log-format", "text", "`format` of the log: text or json")
	f.BoolVar(&s.version, "version", false, "print the version and stop")
	s.Version = buildVersion()
	return s
}

// allow reads networks, or single addresses, separated by commas.
func (s *settings) allow(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		part = strings.TrimSpace(part)
		network, err := netip.ParsePrefix(part)
		if err != nil {
			address, aerr := netip.ParseAddr(part)
			if aerr != nil {
				return fmt.Errorf("%q: want a network such as 10.0.0.0/8", part)
			}
			network = netip.PrefixFrom(address, address.BitLen())
		}
		s.CheckAllow = append(s.CheckAllow, network.Masked())
	}
	return nil
}

// errHelp says that help was asked for, which is no failure.
var errHelp = errors.New("help")

// parse reads environment and flags, and finds what is wrong with them. Its errors are usage, or errHelp.
func parse(args []string, env func(string) string) (*settings, error) {
	s := newSettings()
	if err := s.fromEnvironment(env); err != nil {
		return nil, usage{err}
	}
	switch err := s.flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, errHelp
	case err != nil:
		return nil, usage{fmt.Errorf("%w; --help lists the flags", err)}
	case s.version:
		return s, nil
	}
	if err := s.check(); err != nil {
		return nil, usage{err}
	}
	return s, nil
}

func (s *settings) check() error {
	switch {
	case s.flags.NArg() > 0:
		return fmt.Errorf("argument %q: there are flags only; --help lists them", s.flags.Arg(0))
	case s.store != "bolt":
		return fmt.Errorf("--store %q: bolt is the only store there is; leave it out", s.store)
	case s.format != "text" && s.format != "json":
		return fmt.Errorf("--log-format %q: want text or json", s.format)
	}
	return s.Check()
}

// fromEnvironment sets the flags that have a variable. The command line comes later and wins.
func (s *settings) fromEnvironment(env func(string) string) (err error) {
	s.flags.VisitAll(func(f *flag.Flag) {
		name := "WEFT_SERVER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := env(name)
		if value == "" || f.Name == "version" || err != nil {
			return
		}
		if e := s.flags.Set(f.Name, value); e != nil {
			err = fmt.Errorf("%s=%q: %w; --help lists the flags", name, value, e)
		}
	})
	return err
}

func (s *settings) help(w io.Writer) {
	fmt.Fprintln(w, `Usage: registry-server [flags]                               serve until SIGINT or SIGTERM
       registry-server doctor [flags]                        say whether such a server is, or would be, as it should be
       registry-server backup --data-dir DIR --to FILE       back up while no server runs
       registry-server restore --data-dir DIR --from FILE    go back to a backup while no server runs
       registry-server version

Each flag may also be set as WEFT_SERVER_<FLAG>, such as WEFT_SERVER_GRPC_ADDR.`)
	s.flags.SetOutput(w)
	s.flags.PrintDefaults()
}

// logger is the one that the flags ask for.
func (s *settings) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: s.level}
	if s.format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
