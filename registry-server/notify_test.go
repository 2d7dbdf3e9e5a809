package main

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"os"
)

// supervisor listens as systemd does.
func supervisor(t *testing.T) (env map[string]string, next func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Skipf("no such sockets here: %v", err)
	}
	t.Cleanup(func() { socket.Close() })
	next = func() string {
		t.Helper()
		socket.SetReadDeadline(time.Now().Add(20 * time.Second))
		b := make([]byte, 256)
		n, err := socket.Read(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	return map[string]string{"NOTIFY_SOCKET": path}, next
}

func TestAServerTellsItsSupervisor(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	env, next := supervisor(t)
	env["WATCHDOG_USEC"] = "30000"
	env["WATCHDOG_PID"] = strconv.Itoa(os.Getpid())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan int)
	var out discard
	go func() {
		args := []string{"--data-dir", filepath.Join(t.TempDir(), "data"), "--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"}
		ended <- run(ctx, args, func(name string) string { return env[name] }, out, out)
	}()
	if said := []string{next(), next(), next()}; !slices.Equal(said, []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"}) {
		t.Errorf("it says %q", said)
	}
	cancel()
	said := next()
	for said == "WATCHDOG=1" {
		said = next()
	}
	if code := <-ended; code != 0 || said != "STOPPING=1" {
		t.Errorf("it ends with %d and says %q", code, said)
	}
}

// A server that does not answer in time is not said to live; that is the control of the test above.
func TestAHangingServerIsNotAlive(t *testing.T) {
	env, next := supervisor(t)
	env["WATCHDOG_USEC"] = "3000"
	n, err := newNotifier(func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var asked atomic.Int32
	hangs := func(ctx context.Context) error {
		if asked.Add(1) == 5 {
			cancel()
		}
		<-ctx.Done()
		return errors.New("hangs")
	}
	supervise(ctx, n, hangs)
	if said := []string{next(), next()}; !slices.Equal(said, []string{"READY=1", "STOPPING=1"}) {
		t.Errorf("it says %q", said)
	}
}

func TestTheWatchdogOfAnother(t *testing.T) {
	env, _ := supervisor(t)
	for _, c := range []struct {
		micros, pid string
		want        time.Duration
	}{
		{"", "", 0},
		{"3000000", "", time.Second},
		{"3000000", strconv.Itoa(os.Getpid()), time.Second},
		{"3000000", "1", 0},
		{"-1", "", 0},
		{"soon", "", 0},
		{"1", "", time.Millisecond},
	} {
		env["WATCHDOG_USEC"], env["WATCHDOG_PID"] = c.micros, c.pid
		n, err := newNotifier(func(name string) string { return env[name] })
		if err != nil || n.every != c.want {
			t.Errorf("%q of %q: every %s, %v; want %s", c.micros, c.pid, n.every, err, c.want)
		}
		n.close()
	}
	n, err := newNotifier(func(string) string { return filepath.Join(t.TempDir(), "nobody") })
	if err == nil {
		t.Error("nobody listens, and there is no error")
	}
	n.say("READY=1") // and no panic
}

// discard is an output that nobody reads.
type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
