package store

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gate is a store whose commits wait.
type gate struct {
	*Memory

	open chan struct{}
}

func (g *gate) Commit(w []Write) error {
	<-g.open
	return g.Memory.Commit(w)
}

func one(b *Batch) error { b.Put("k", []byte("v")); return nil }

// TestBusyByNumber lets writes wait for a disk that does not answer.
func TestBusyByNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{NewMemory(), make(chan struct{})}
		c := NewCommitter(g, nil)
		var wg sync.WaitGroup
		var busy atomic.Int64
		do := func() {
			if err := c.Do(t.Context(), one); errors.Is(err, ErrBusy) {
				busy.Add(1)
			} else if err != nil {
				t.Error(err)
			}
		}
		wg.Go(do)
		synctest.Wait() // it is at the disk
		for range maxWaiting {
			wg.Go(do)
		}
		synctest.Wait()
		if n := busy.Load(); n != 0 {
			t.Errorf("%d of %d waiting writes were refused", n, maxWaiting)
		}
		wg.Go(do)
		synctest.Wait()
		if n := busy.Load(); n != 1 {
			t.Errorf("%d refused, want the one beyond %d", n, maxWaiting)
		}
		close(g.open)
		wg.Wait()
		if err := c.Do(t.Context(), one); err != nil {
			t.Errorf("Do = %v once the disk answers", err)
		}
		c.Close()
	})
}

// TestBusyByAge lets a write wait for longer than anybody should.
func TestBusyByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{NewMemory(), make(chan struct{})}
		c := NewCommitter(g, nil)
		var wg sync.WaitGroup
		try := func() {
			wg.Go(func() {
				if err := c.Do(t.Context(), one); err != nil {
					t.Error(err)
				}
			})
		}
		try()
		time.Sleep(maxWait)
		try() // the first has not yet waited for more
		synctest.Wait()
		time.Sleep(time.Millisecond)
		if err := c.Do(t.Context(), one); !errors.Is(err, ErrBusy) {
			t.Errorf("Do = %v behind a write that has waited for %s, want ErrBusy", err, maxWait+time.Millisecond)
		}
		close(g.open)
		wg.Wait()
		if err := c.Do(t.Context(), one); err != nil {
			t.Errorf("Do = %v once the disk answers", err)
		}
		c.Close()
	})
}

// TestGivenUp ends the context of a write that waits: it returns at once, and the write may still happen.
func TestGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &gate{NewMemory(), make(chan struct{})}
		c := NewCommitter(g, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Do(ctx, one); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Do = %v, want the context's error", err)
		}
		close(g.open)
		c.Close()
		wantContent(t, g.Memory, "", "k=v")
	})
}

// TestFailedGroup: an operation that refuses perhaps because of what another one of its group wrote is answered with the failure
// of the group: what it saw never was.
func TestFailedGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fullDisk{Memory: NewMemory(), open: make(chan struct{})}
		c := NewCommitter(f, nil)
		defer c.Close()
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { c.Do(t.Context(), one) })
		synctest.Wait() // it is at the disk: the others share the next group
		there := false
		errTaken := errors.New("taken")
		create := func(b *Batch) error {
			if there {
				return errTaken
			}
			there = true
			b.Undo(func() { there = false })
			b.Put("x", nil)
			return nil
		}
		errs := make([]error, 3)
		wg.Go(func() { errs[0] = c.Do(t.Context(), func(*Batch) error { return errTaken }) })
		synctest.Wait()
		for i := range errs[1:] {
			wg.Go(func() { errs[1+i] = c.Do(t.Context(), create) })
			synctest.Wait()
		}
		close(f.open)
		synctest.Wait()
		if !errors.Is(errs[0], errTaken) || !errors.Is(errs[1], ErrFull) || !errors.Is(errs[2], ErrFull) || there {
			t.Errorf("errors %v: want the first refused for itself, and the others for the disk", errs)
		}
	})
}

// fullDisk is a store whose commits wait, and fail.
type fullDisk struct {
	*Memory

	open chan struct{}
}

func (f *fullDisk) Commit([]Write) error {
	<-f.open
	return ErrFull
}
