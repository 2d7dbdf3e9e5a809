// Command shopd is the shop of the quickstart: one program that is either a product instance or the web front. It is
// what a service with Weft looks like; main.go of the quickstart starts several of it.
//
//	shopd product -id p1 -version v1
//	shopd web -addr 127.0.0.1:8080
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "shopd:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("want: shopd product|web [flags]")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil)).With("program", "shopd "+args[0])
	flags := flag.NewFlagSet(args[0], flag.ExitOnError)
	switch args[0] {
	case "product":
		id := flags.String("id", "", "name of the instance")
		version := flags.String("version", "v1", "version of the instance")
		flags.Parse(args[1:])
		return product(ctx, log, *id, *version)
	case "web":
		addr := flags.String("addr", "127.0.0.1:8080", "where to serve")
		flags.Parse(args[1:])
		return web(ctx, log, *addr)
	}
	return fmt.Errorf("unknown role %q: want product or web", args[0])
}
