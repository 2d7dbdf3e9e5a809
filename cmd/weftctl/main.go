// Command weftctl is the operators' command line: it shows services, instances and rules of a registry server, and
// applies and deletes rules.
//
//	weftctl get services
//	weftctl get instances product
//	weftctl apply -f canary.yaml --dry-run
//	weftctl get rules -o yaml | weftctl apply -f -
//	weftctl delete route product-canary
//
// On the host of the server, and as its user, it finds the server and the token by itself. Elsewhere WEFT_HTTP and
// WEFT_TOKEN say them.
//
// Exit codes: 0 done; 1 the server refused, or there is no such thing; 2 called wrongly; 3 the server could not be
// reached, or did not take the token.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
)

// The exit codes.
const (
	exitRefused   = 1
	exitUsage     = 2
	exitNoContact = 3
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main for tests.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "weftctl:", err)
	var failed *failure
	if errors.As(err, &failed) {
		return failed.code
	}
	fmt.Fprintln(stderr, "weftctl --help shows how it is called")
	return exitUsage
}

// failure is an error of a command that was called rightly.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

func (f *failure) Unwrap() error { return f.err }

func refused(format string, args ...any) error {
	return &failure{exitRefused, fmt.Errorf(format, args...)}
}

func noContact(format string, args ...any) error {
	return &failure{exitNoContact, fmt.Errorf(format, args...)}
}
