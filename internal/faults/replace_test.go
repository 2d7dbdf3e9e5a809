//go:build unix

package faults

import (
	"context"
	"errors"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/weftmesh/weft"
)

// A registry that lost its data comes back with another key, other tokens and nothing in it, and processes find it by the
// credential file that it wrote anew: each announces its instances again, and no call fails.
func TestARegistryIsReplacedUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	for _, id := range []string{"p1", "p2", "p3"} {
		startProduct(t, r, id)
	}
	c := newCaller(t, r, "")
	c.watch(t, everyID...)
	old := r.credentials(t)
	l := c.loadOf(t, 1, 2*time.Millisecond)
	r.kill()
	other := r.on(filepath.Join(t.TempDir(), "other"))
	other.start(t)
	eventually(t, "all are up at the other", 30*time.Second, allUp(t, other))
	if now := other.credentials(t); now.Pin == old.Pin || now.Token == old.Token {
		t.Error("the other registry has the key or the token of the first: the test proves nothing")
	}
	made := l.made()
	eventually(t, "calls go on", 20*time.Second, func() error { return errorUnless(l.made() > made+200, "no") })
	if reads, orders := l.stop(); reads.failed+orders.failed > 0 {
		t.Errorf("reads: %s; orders: %s", reads, orders)
	}
}

// Close of a mesh whose registry hangs returns when its context ends, though it has an instance to withdraw.
func TestCloseWithAHangingRegistry(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	leave := func(patience time.Duration) (time.Duration, error) {
		m, err := weft.New(weft.WithService("product"), weft.WithRegistry(r.grpc), weft.WithCacheDir(""))
		if err != nil {
			t.Fatal(err)
		}
		reg, err := m.Register(t.Context(), weft.Instance{Address: "127.0.0.1:9", Protocol: weft.HTTP})
		if err != nil {
			t.Fatal(err)
		}
		<-reg.Acked()
		if patience > 0 {
			r.signal(syscall.SIGSTOP)
			defer r.signal(syscall.SIGCONT)
		}
		ctx, cancel := context.WithTimeout(t.Context(), max(patience, -patience))
		defer cancel()
		start := time.Now()
		err = m.Close(ctx)
		return time.Since(start), err
	}
	for _, patience := range []time.Duration{time.Millisecond, time.Second} {
		if took, err := leave(patience); !errors.Is(err, context.DeadlineExceeded) || took > patience+4*time.Second {
			t.Errorf("Close took %s with a context of %s: %v", took, patience, err)
		} else {
			t.Logf("Close took %s with a context of %s", took, patience)
		}
	}
	if took, err := leave(-10 * time.Second); err != nil {
		t.Errorf("control: with the registry there Close took %s: %v", took, err)
	}
}
