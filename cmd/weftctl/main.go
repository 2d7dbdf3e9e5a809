// Command weftctl is the operators' command line: it shows what a registry server holds, and changes it.
//
//	weftctl status
//	weftctl get instances product
//	weftctl diff -f canary.yaml
//	weftctl apply -f canary.yaml --wait
//	weftctl history route canary
//	weftctl rollback route canary
//	weftctl drain product p1 --wait
//	weftctl clients --behind
//	weftctl watch --service product
//	weftctl backup weft.backup
//
// On the host of the server, and as its user, it finds the server and the token by itself. Elsewhere WEFT_HTTP and
// WEFT_TOKEN say them, and WEFT_PIN the pin of a server whose certificate is its own. A token goes to another host
// over TLS only, and the token of a credential file only to the server that holds the lock of its data directory.
//
// What was asked for goes to the standard output, as a table, JSON, YAML or names; messages go to the standard error.
// Nothing is coloured.
//
// Exit codes: 0 done; 1 the server refused, failed or could not be reached, there is no such thing, or what --wait
// waits for did not come; 2 called wrongly; 3 diff found differences.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// The exit codes.
const (
	exitFailed  = 1
	exitUsage   = 2
	exitDiffers = 3
)

// world is what a run touches besides the server.
type world struct {
	in       io.Reader
	out, err io.Writer
	now      func() time.Time // ages are counted from it
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], world{os.Stdin, os.Stdout, os.Stderr, time.Now}))
}

// run is main for tests.
func run(ctx context.Context, args []string, w world) int {
	root := newRoot(w.now)
	root.SetArgs(args)
	root.SetIn(w.in)
	root.SetOut(w.out)
	root.SetErr(w.err)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	if errors.Is(err, errDiffers) {
		return exitDiffers
	}
	fmt.Fprintln(w.err, "weftctl:", clean(err.Error()))
	if _, ok := errors.AsType[*failure](err); ok {
		return exitFailed
	}
	fmt.Fprintln(w.err, help(root, cmd), "shows how it is called")
	return exitUsage
}

// help is the command that explains another.
func help(root, cmd *cobra.Command) string {
	if cmd == root {
		return "weftctl --help"
	}
	return "weftctl help" + cmd.CommandPath()[len(root.Name()):]
}

// errDiffers ends diff with its own exit code; it is no failure.
var errDiffers = errors.New("there are differences")

// failure is an error of a command that was called rightly.
type failure struct{ error }

// Unwrap gives what failed.
func (f *failure) Unwrap() error { return f.error }

func failed(format string, args ...any) error { return &failure{fmt.Errorf(format, args...)} }
