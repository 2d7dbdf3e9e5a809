//go:build unix

package faults

import (
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// The registry notices a process that is gone at once, by its connection, and one that hangs by its silence: suspect
// within 10 s. One that lives stays up, and one that goes on is up again.
func TestLiveness(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	startProduct(t, r, "p1")
	killed, stopped := startProduct(t, r, "p2"), startProduct(t, r, "p3")
	reaches := func(want discovery.State, limit time.Duration, ids ...string) time.Duration {
		t.Helper()
		return eventually(t, ids[0]+" is "+string(want), limit, func() error {
			states, err := r.states(t.Context(), "product")
			if err != nil {
				return err
			}
			if states["p1-grpc"] != discovery.Up || states["p1-http"] != discovery.Up {
				t.Fatalf("the control, an instance that lives, is not up: %v", states)
			}
			for _, id := range ids {
				if states[id] != want {
					return errorUnless(false, "states are %v", states)
				}
			}
			return nil
		})
	}
	stopped.signal(syscall.SIGSTOP)
	silence := time.Now()
	killed.kill()
	took := reaches(discovery.Suspect, 2*time.Second, "p2-grpc", "p2-http")
	t.Logf("killed: suspect after %s", took)
	reaches(discovery.Suspect, 10*time.Second-time.Since(silence), "p3-grpc", "p3-http")
	t.Logf("stopped: suspect after %s", time.Since(silence))
	if full() {
		const slack = 4 * time.Second // the scan, and the last renewal before the kill
		reaches(discovery.Unhealthy, 15*time.Second+slack-time.Since(silence), "p2-grpc", "p3-http")
		t.Logf("both: unhealthy after %s", time.Since(silence))
		reaches("", 30*time.Second+slack-time.Since(silence), "p2-grpc", "p2-http", "p3-grpc", "p3-http")
		t.Logf("both: removed after %s", time.Since(silence))
	}
	stopped.signal(syscall.SIGCONT)
	took = reaches(discovery.Up, 10*time.Second, "p3-grpc", "p3-http")
	t.Logf("it goes on: up after %s", took)
}
