// Command registry-server is the registry of a mesh: it names the instances of services, pushes the rules that govern
// calls, and keeps both on disk.
//
//	registry-server --data-dir ./weft-data
//	curl -H "Authorization: Bearer $(cat weft-data/admin.token)" http://127.0.0.1:7080/v1/services
//
// Each flag can be given as an environment variable too, such as WEFT_SERVER_GRPC_ADDR for --grpc-addr; the flag
// wins. It stops at SIGINT and SIGTERM. Exit codes: 0 it was stopped, 1 it failed, 2 it was called wrongly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/weftmesh/weft/internal/registry/server"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	config, level, done, err := parse(args, env, stdout)
	if done {
		return 0
	}
	if err != nil {
		fmt.Fprintln(stderr, "registry-server:", err)
		return 2
	}
	config.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	s, err := server.New(config)
	if err == nil {
		err = s.Run(ctx)
	}
	if err != nil {
		fmt.Fprintln(stderr, "registry-server:", err)
		return 1
	}
	return 0
}

// parse reads flags and environment. done says that help or the version was asked for, and given.
func parse(args []string, env func(string) string, stdout io.Writer) (c server.Config, level slog.Level, done bool, err error) {
	flags := flag.NewFlagSet("registry-server", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&c.GRPCAddr, "grpc-addr", "127.0.0.1:7070", "loopback `address` for the sessions of SDKs; port 0 takes a free one")
	flags.StringVar(&c.HTTPAddr, "http-addr", "127.0.0.1:7080", "loopback `address` for REST; port 0 takes a free one")
	flags.StringVar(&c.DataDir, "data-dir", "./weft-data", "`directory` of the data; made if it is not there")
	store := flags.String("store", "bolt", "`kind` of the store; bolt is the only one")
	flags.TextVar(&level, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn or error")
	version := flags.Bool("version", false, "print the version and stop")
	c.Version = buildVersion()

	if err := fromEnvironment(flags, env); err != nil {
		return c, level, false, err
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, "Usage: registry-server [flags]; each flag may also be set as WEFT_SERVER_<FLAG>, such as WEFT_SERVER_GRPC_ADDR")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return c, level, true, nil
	case err != nil:
		return c, level, false, fmt.Errorf("%w; --help lists the flags", err)
	case *version:
		fmt.Fprintln(stdout, "registry-server", c.Version)
		return c, level, true, nil
	case flags.NArg() > 0:
		return c, level, false, fmt.Errorf("argument %q: there are flags only; --help lists them", flags.Arg(0))
	case *store != "bolt":
		return c, level, false, fmt.Errorf("--store %q: bolt is the only store there is", *store)
	case c.DataDir == "":
		return c, level, false, errors.New(`--data-dir "": want a directory, such as ./weft-data`)
	case c.GRPCAddr == c.HTTPAddr && !strings.HasSuffix(c.GRPCAddr, ":0"):
		return c, level, false, fmt.Errorf("--grpc-addr and --http-addr are both %s: want two ports", c.GRPCAddr)
	}
	return c, level, false, nil
}

// fromEnvironment sets the flags that have a variable. The command line comes later and wins.
func fromEnvironment(flags *flag.FlagSet, env func(string) string) (err error) {
	flags.VisitAll(func(f *flag.Flag) {
		name := "WEFT_SERVER_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value := env(name)
		if value == "" || f.Name == "version" || err != nil {
			return
		}
		if e := flags.Set(f.Name, value); e != nil {
			err = fmt.Errorf("%s=%q: %w; --help lists the flags", name, value, e)
		}
	})
	return err
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
