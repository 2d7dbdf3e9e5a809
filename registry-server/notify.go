package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// notifier speaks the protocol of systemd's sd_notify, which is a datagram with one line to a socket; a library would
// be longer than this. A nil socket says nothing: nobody asked.
type notifier struct {
	socket *net.UnixConn
	every  time.Duration // how often the watchdog wants to hear; 0: never
}

// newNotifier connects to who started the process, if it is one that listens. It always gives a notifier.
func newNotifier(env func(string) string) (*notifier, error) {
	n := new(notifier)
	path := env("NOTIFY_SOCKET")
	if path == "" {
		return n, nil
	}
	socket, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // a path with @ is abstract
	if err != nil {
		return n, fmt.Errorf("NOTIFY_SOCKET: %w", err)
	}
	n.socket = socket
	micros, err := strconv.ParseInt(env("WATCHDOG_USEC"), 10, 64)
	if pid := env("WATCHDOG_PID"); err == nil && micros > 0 && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		n.every = max(time.Duration(micros)*time.Microsecond/3, time.Millisecond)
	}
	return n, nil
}

// say sends one state. That it does not arrive is for the supervisor to notice.
func (n *notifier) say(state string) {
	if n.socket != nil {
		_, _ = n.socket.Write([]byte(state))
	}
}

// watchdog says that the server lives if it does.
func (n *notifier) watchdog(ctx context.Context, alive func(context.Context) error) {
	ctx, cancel := context.WithTimeout(ctx, n.every)
	defer cancel()
	if alive(ctx) == nil {
		n.say("WATCHDOG=1")
	}
}

func (n *notifier) close() error {
	if n.socket == nil {
		return nil
	}
	return n.socket.Close()
}
