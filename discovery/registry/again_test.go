package registry

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session/sessiontest"
)

// Update heeds its ctx, also while a Ready that came true waits for a registry that is away.
func TestUpdateEndsWithItsContext(t *testing.T) {
	w := &world{T: t, server: sessiontest.New(7), dir: t.TempDir(), log: &record{}}
	w.server.Start()
	defer w.server.Stop()
	s := w.source()
	var ready atomic.Bool
	in := web()
	in.Ready = func(context.Context) error {
		if ready.Load() {
			return nil
		}
		return errors.New("not yet")
	}
	reg, err := s.Register(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	w.server.Stop()
	ready.Store(true)
	time.Sleep(2 * time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	start := time.Now()
	time.AfterFunc(8*time.Second, w.server.Start)
	err = reg.Update(ctx, discovery.Instance{Weight: 7})
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("Update with a ctx of 1 s took %v, until the registry came back: %v", took, err)
	}
	time.Sleep(10*time.Second - time.Since(start))
	w.close(s)
}

// The cache does not claim a revision of which a rule could not be read: a newer program that can read it has to get it.
func TestRulesThatWereNotReadAreAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		u := snapshot(5, `{"kind":"Future","namespace":"shop","name":"r","service":"product","spec":{},"revision":"7-3"}`, "a")
		w.server.Push(u)
		s := w.source()
		w.watch(s)
		settle(2 * time.Second)
		w.close(s)
		sessiontest.Heard(w.server, func(m *weftv1.ConnectRequest) *weftv1.Subscribe { return m.GetSubscribe() })
		s = w.source() // the new version of the program
		w.watch(s)
		settle(2 * time.Second)
		for _, sub := range sessiontest.Heard(w.server, func(m *weftv1.ConnectRequest) *weftv1.Subscribe { return m.GetSubscribe() }) {
			for _, i := range sub.Interests {
				if i.Epoch != 0 {
					t.Errorf("subscribes from %d-%d, where the registry sends no rules: the rule of 7-3 is never heard of", i.Epoch, i.Revision)
				}
			}
		}
		w.close(s)
	})
}
