package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// failing is a store whose commits can be made to fail.
type failing struct {
	*store.Memory
	fail error
}

// hanging is a store whose commits hang while hang is not nil.
type hanging struct {
	*store.Memory
	hang atomic.Pointer[chan struct{}]
}

func (h *hanging) Commit(writes []store.Write) error {
	if hang := h.hang.Load(); hang != nil {
		<-*hang
	}
	return h.Memory.Commit(writes)
}

func TestAliveUnlessCommitsHang(t *testing.T) {
	st := &hanging{Memory: store.NewMemory()}
	s, err := New(Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: st})
	if err != nil {
		t.Fatal(err)
	}
	hang := make(chan struct{})
	st.hang.Store(&hang)
	written := make(chan error)
	go func() {
		_, err := s.rooms.Load().catalog.Do(context.Background(), func(b *store.Batch) error { b.Put("t/x", nil); return nil })
		written <- err
	}()
	for end := time.Now().Add(20 * time.Second); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		err = s.Alive(ctx)
		cancel()
		if err != nil || time.Now().After(end) {
			break
		}
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while a commit hangs: %v", err)
	}
	st.hang.Store(nil)
	close(hang)
	if err := <-written; err != nil {
		t.Error(err)
	}
	if err := s.Alive(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if err := s.release(); err != nil {
		t.Error(err)
	}
}

func (f *failing) Commit(writes []store.Write) error {
	if f.fail != nil {
		return f.fail
	}
	return f.Memory.Commit(writes)
}

func TestReadyByTheStateOfTheStore(t *testing.T) {
	f := &failing{Memory: store.NewMemory()}
	r := &rooms{store: watch(f, slog.New(slog.DiscardHandler))}
	for _, c := range []struct {
		fail  error
		state string
		ready bool
	}{
		{nil, storeOK, true},
		{fmt.Errorf("registry.db: %w", store.ErrFull), storeFull, true},
		{nil, storeOK, true},
		{errors.New("key of 0 bytes"), storeOK, true},
		{fmt.Errorf("registry.db: %w", store.ErrBroken), storeBroken, false},
		{nil, storeBroken, false}, // until a restart
		{store.ErrFull, storeBroken, false},
	} {
		f.fail = c.fail
		if err := r.store.Commit(nil); !errors.Is(err, c.fail) {
			t.Errorf("the error %v became %v", c.fail, err)
		}
		if err := r.ready(); (err == nil) != c.ready || r.store.State() != c.state {
			t.Errorf("after %v: %s, %v; want %s", c.fail, r.store.State(), err, c.state)
		}
	}
}

func TestAliveWhileNothingHangs(t *testing.T) {
	s, err := New(Config{GRPCAddr: "127.0.0.1:0", HTTPAddr: "127.0.0.1:0", Store: store.NewMemory()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := s.Alive(ctx); err != nil {
		t.Error(err)
	}
	if err := s.release(); err != nil {
		t.Error(err)
	}
	if err := s.Alive(ctx); err != nil {
		t.Errorf("while there are no rooms: %v", err)
	}
}
