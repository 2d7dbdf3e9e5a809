package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weftmesh/weft/internal/registry/server"
)

// serve runs the server until ctx ends.
func serve(ctx context.Context, p process, args []string) error {
	s, err := parse(args, p.env)
	switch {
	case errors.Is(err, errHelp):
		return help(ctx, p, nil)
	case err != nil:
		return err
	case s.version:
		return version(ctx, p, nil)
	}
	s.Log = s.logger(p.stderr)
	memory := newKeeper(p.env)
	memory.begin()
	srv, err := server.New(s.Config)
	if err != nil {
		return err
	}
	notify, err := newNotifier(p.env)
	if err != nil {
		s.Log.Warn("the supervisor cannot be told how the server is", "error", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { supervise(ctx, notify, srv.Alive) })
	wg.Go(func() { memory.run(ctx) })
	err = srv.Run(ctx)
	cancel()
	wg.Wait()
	return errors.Join(err, notify.close())
}

// supervise tells the supervisor that the server is ready, that it lives, and that it stops. The server has its
// listeners by now: whoever connects is served.
func supervise(ctx context.Context, n *notifier, alive func(context.Context) error) {
	n.say("READY=1")
	defer n.say("STOPPING=1")
	if n.every == 0 {
		<-ctx.Done()
		return
	}
	ticker := time.NewTicker(n.every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			n.watchdog(ctx, alive)
		case <-ctx.Done():
			return
		}
	}
}
