// Command registry-server is the registry of a mesh: it names the instances of services, pushes the rules that govern
// calls, and keeps both on disk.
//
//	registry-server --data-dir ./weft-data
//	curl -H "Authorization: Bearer $(cat weft-data/admin.token)" http://127.0.0.1:7080/v1/services
//
// Without a command it serves, until SIGINT or SIGTERM. The commands:
//
//	registry-server doctor  [flags of the server]            is everything as it should be?
//	registry-server backup  --data-dir DIR --to FILE         while no server runs
//	registry-server restore --data-dir DIR --from FILE       likewise
//	registry-server version
//
// Each flag can be given as an environment variable too, such as WEFT_SERVER_GRPC_ADDR for --grpc-addr; the flag
// wins. Exit codes: 0 all is well, 1 it failed or the doctor found a weakness, 2 it was called wrongly.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

// process is what a command may use of its process.
type process struct {
	env            func(string) string
	stdout, stderr io.Writer
}

// action does one thing. Its error is one line.
type action func(ctx context.Context, p process, args []string) error

// errQuiet ends with code 1 and without a word, as all was said.
var errQuiet = errors.New("")

// usage is an error of who called. It ends with code 2.
type usage struct{ error }

func run(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) int {
	do, rest, err := choose(args)
	if err == nil {
		err = do(ctx, process{env, stdout, stderr}, rest)
	}
	var wrong usage
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errQuiet):
		return 1
	case errors.As(err, &wrong):
		fmt.Fprintln(stderr, "registry-server:", err)
		return 2
	}
	fmt.Fprintln(stderr, "registry-server:", err)
	return 1
}

// choose finds the command. Whatever starts with a flag serves.
func choose(args []string) (do action, rest []string, err error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return serve, args, nil
	}
	commands := map[string]action{"doctor": diagnose, "backup": backUp, "restore": restore, "version": version, "help": help}
	if do := commands[args[0]]; do != nil {
		return do, args[1:], nil
	}
	return nil, nil, usage{fmt.Errorf("command %q: want none to serve, or one of doctor, backup, restore and version; --help says more", args[0])}
}

func version(_ context.Context, p process, args []string) error {
	if len(args) > 0 {
		return usage{fmt.Errorf("version %s: it takes no arguments; leave them out", strings.Join(args, " "))}
	}
	fmt.Fprintln(p.stdout, "registry-server", buildVersion())
	return nil
}

func help(_ context.Context, p process, _ []string) error {
	newSettings().help(p.stdout)
	return nil
}

func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}
