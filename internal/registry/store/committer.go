package store

import (
	"context"
	"fmt"
	"runtime"
	"sync"
)

// maxGroup bounds the operations that share a transaction.
const maxGroup = 5000

// Batch collects the writes of one operation.
type Batch struct {
	writes   []Write
	revision uint64
}

// At gives the writes that follow a revision.
func (b *Batch) At(revision uint64) { b.revision = revision }

// Put sets a key. The value must not be changed afterwards.
func (b *Batch) Put(key string, value []byte) {
	if value == nil {
		value = []byte{}
	}
	b.writes = append(b.writes, Write{key, value, b.revision})
}

// Delete removes a key. A key that is not there is no error.
func (b *Batch) Delete(key string) { b.writes = append(b.writes, Write{key, nil, b.revision}) }

// Group is told when a committer begins and ends a transaction, so that its owner can prepare changes in
// memory while the operations run and publish them once they are on disk.
type Group interface {
	Begin()
	// End gets the outcome of the commit. It runs before any of the group's operations returns.
	End(err error)
	// Acked runs after they were told to return.
	Acked()
}

// Committer lets many goroutines share transactions: it takes an operation, yields three times so that others
// can join, and commits up to 5,000 together. The yields make the group grow by itself with the load; a timer
// would make a lone writer wait.
type Committer struct {
	st      Store
	group   Group
	queue   chan *request
	closing chan struct{} // closed by Close
	closed  chan struct{} // closed when run is over
	once    sync.Once
}

type request struct {
	ctx  context.Context
	op   func(*Batch) error
	err  error         // of op
	done chan struct{} // closed when the outcome is known
}

// NewCommitter starts a committer on the store, which nobody else may write then. group may be nil.
func NewCommitter(st Store, group Group) *Committer {
	c := &Committer{
		st:      st,
		group:   group,
		queue:   make(chan *request, maxGroup),
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	go c.run()
	return c
}

// Do runs op on the committer's goroutine, one at a time in the order of the calls, and returns once what it
// wrote is on disk. An error of op is returned and nothing of it is written. An op that writes nothing waits
// for no disk of its own. If ctx ends first, whether op takes effect is open.
func (c *Committer) Do(ctx context.Context, op func(*Batch) error) error {
	r := &request{ctx: ctx, op: op, done: make(chan struct{})}
	select {
	case <-c.closing:
		return ErrClosed
	default:
	}
	select {
	case c.queue <- r:
	case <-c.closing:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("the write was not acknowledged in time and may still happen: %w", ctx.Err())
	case <-c.closed:
	}
	select {
	case <-r.done:
		return r.err
	default:
		return ErrClosed
	}
}

// Close finishes what was queued and stops. The store stays open.
func (c *Committer) Close() error {
	c.once.Do(func() { close(c.closing) })
	<-c.closed
	return nil
}

func (c *Committer) run() {
	defer close(c.closed)
	for {
		select {
		case r := <-c.queue:
			c.commit(c.gather(r))
		case <-c.closing:
			for len(c.queue) > 0 {
				c.commit(c.gather(<-c.queue))
			}
			return
		}
	}
}

// gather collects the operations that share the transaction of first.
func (c *Committer) gather(first *request) []*request {
	for range 3 {
		runtime.Gosched()
	}
	group := []*request{first}
	for len(group) < maxGroup {
		select {
		case r := <-c.queue:
			group = append(group, r)
		default:
			return group
		}
	}
	return group
}

func (c *Committer) commit(group []*request) {
	if c.group != nil {
		c.group.Begin()
	}
	var batch Batch
	for _, r := range group {
		r.run(&batch)
	}
	var err error
	if len(batch.writes) > 0 {
		err = c.st.Commit(batch.writes)
	}
	if c.group != nil {
		c.group.End(err)
	}
	for _, r := range group {
		if r.err == nil {
			r.err = err
		}
		close(r.done)
	}
	if c.group != nil {
		c.group.Acked()
	}
}

// run executes one operation and takes its writes back if it fails.
func (r *request) run(batch *Batch) {
	before := len(batch.writes)
	if r.err = r.ctx.Err(); r.err == nil {
		r.err = r.op(batch)
	}
	if r.err != nil {
		batch.writes = batch.writes[:before]
	}
}
