//go:build unix

package faults

import (
	"context"
	"encoding/hex"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/session"
)

// The clients of a registry that dies do not come back all at once: neither do they all try in the moment after it died,
// nor in the moment when it is there again.
func TestSessionsComeBackSpread(t *testing.T) {
	n := 200
	switch {
	case full():
		n = 5_000
	case proving():
		n = 500
	}
	died, back := comeBack(t, n, false)
	t.Logf("of %d sessions at most %.0f %% tried first within the same 100 ms, and %.0f %% once it was back", n, 100*died, 100*back)
	if died > 0.3 || back > 0.3 {
		t.Errorf("%.0f %% and %.0f %% of %d sessions tried within 100 ms, want 30 at most", 100*died, 100*back, n)
	}
}

// Control: without the spread most of them do.
func TestSessionsComeBackAtOnce(t *testing.T) {
	died, back := comeBack(t, 200, true)
	t.Logf("control: %.0f %% tried first within the same 100 ms, and %.0f %% once it was back", 100*died, 100*back)
	if died < 0.4 || back < 0.4 {
		t.Errorf("%.0f %% and %.0f %% of the sessions tried within 100 ms: the test above proves nothing", 100*died, 100*back)
	}
}

// comeBack kills a registry with n sessions and starts it again. It gives the greatest share of the sessions that tried
// to connect for the first time within the same 100 ms since it died, and at all since the start began.
func comeBack(t *testing.T, n int, hasty bool) (died, back float64) {
	t.Helper()
	r := startRegistry(t, serverBinary, "--max-sessions", fmt.Sprint(2*n))
	a := &attempts{at: map[int][]time.Time{}}
	var sessions []*session.Session
	for i := range n {
		sessions = append(sessions, a.open(t, r, i, hasty))
	}
	connected := func() error {
		missing := 0
		for _, s := range sessions {
			if s.State() != session.Connected {
				missing++
			}
		}
		return errorUnless(missing == 0, "%d of %d are not connected", missing, n)
	}
	eventually(t, "all are connected", time.Minute, connected)
	a.forget()
	r.kill()
	time.Sleep(1500 * time.Millisecond)
	died = a.busiest(true) / float64(n)
	a.forget()
	r.start(t)
	eventually(t, "all are connected again", time.Minute, connected)
	return died, a.busiest(false) / float64(n)
}

// attempts is when each client tried to connect.
type attempts struct {
	mu sync.Mutex
	at map[int][]time.Time
}

func (a *attempts) open(t *testing.T, r *registry, client int, hasty bool) *session.Session {
	t.Helper()
	file := r.credentials(t)
	endpoint := session.Endpoint{Target: r.grpc, Token: file.Token}
	if _, err := hex.Decode(endpoint.Pin[:], []byte(file.Pin)); err != nil {
		t.Fatal(err)
	}
	s := session.New(session.Config{
		Endpoint: func(context.Context) (session.Endpoint, error) { return endpoint, nil },
		Dial: func(ctx context.Context, target string) (net.Conn, error) {
			a.note(client)
			return new(net.Dialer).DialContext(ctx, "tcp", target)
		},
		Process: fmt.Sprint("client-", client), Namespace: "default", Hasty: hasty,
	})
	t.Cleanup(s.Close)
	return s
}

func (a *attempts) note(client int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at[client] = append(a.at[client], time.Now())
}

func (a *attempts) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.at)
}

// busiest gives how many clients tried, or did so for the first time, within the busiest 100 ms.
func (a *attempts) busiest(first bool) (most float64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	clients := map[int64]float64{} // by the tenth of a second
	for _, times := range a.at {
		if first {
			times = times[:1]
		}
		var last int64
		for _, at := range times {
			if tenth := at.UnixMilli() / 100; tenth != last {
				clients[tenth]++
				last = tenth
			}
		}
	}
	for _, n := range clients {
		most = max(most, n)
	}
	return most
}
