// Command quickstart shows Weft at work. It builds and starts a registry server and a small shop as separate processes
// on free loopback ports, changes rules by REST while calls run, kills what can be killed, and says what came of it.
//
//	go run ./examples/quickstart          # exit code 0 if all went as it should
//	go run ./examples/quickstart -keep    # leaves it running and says what to try
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	keep := flag.Bool("keep", false, "leave everything running at the end, until Ctrl-C")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "quickstart: argument %q: there is only the flag -keep\n", flag.Arg(0))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	err := run(ctx, *keep)
	switch {
	case err != nil && ctx.Err() != nil:
		fmt.Fprintln(os.Stderr, "\nquickstart was interrupted; all that it started has ended")
	case err != nil:
		fmt.Fprintln(os.Stderr, "\nquickstart failed:", err)
	}
	if err != nil {
		os.Exit(1)
	}
}

func run(ctx context.Context, keep bool) (err error) {
	w, err := newWorld()
	if err != nil {
		return err
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			w.showLogs()
		}
		w.close()
	}()
	if err := w.build(ctx); err != nil {
		return err
	}
	start := time.Now()
	for i, s := range steps {
		fmt.Printf("\n%d. %s\n", i+1, s.title)
		if err := s.run(ctx, w); err != nil {
			return fmt.Errorf("step %d, %s: %w", i+1, s.title, err)
		}
	}
	fmt.Printf("\nAll %d steps went as they should, in %.0f s.\n", len(steps), time.Since(start).Seconds())
	if keep {
		w.invite()
		<-ctx.Done()
	}
	return nil
}
