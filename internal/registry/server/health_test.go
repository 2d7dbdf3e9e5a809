package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/weftmesh/weft/internal/registry/store"
)

// failing is a store whose commits can be made to fail or to hang.
type failing struct {
	*store.Memory
	fail error
}

func (f *failing) Commit(writes []store.Write) error {
	if f.fail != nil {
		return f.fail
	}
	return f.Memory.Commit(writes)
}

func TestReadyByTheStateOfTheStore(t *testing.T) {
	f := &failing{Memory: store.NewMemory()}
	r := &rooms{store: &watched{Store: f, log: slog.New(slog.DiscardHandler)}}
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
