package store

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxGroup bounds the operations that share a transaction.
const maxGroup = 5000

// When a committer refuses: these many operations wait, or one has waited so long. Writes are shed early, because those
// who send them can try again, and what keeps instances alive never comes here.
const (
	maxWaiting = 20_000
	maxWait    = 5 * time.Second
)

// Batch collects the writes of one operation.
type Batch struct {
	writes   []Write
	revision uint64
	undo     []func()
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

// Undo calls fn if the operation fails after all, or the commit does: for what an operation has changed in memory. The
// last one given is called first, before any other operation runs.
func (b *Batch) Undo(fn func()) { b.undo = append(b.undo, fn) }

// back takes back what was done since there were these many writes and undos.
func (b *Batch) back(writes, undos int) {
	for _, fn := range slices.Backward(b.undo[undos:]) {
		fn()
	}
	b.writes, b.undo = b.writes[:writes], b.undo[:undos]
}

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
	acks    chan []*request
	closing chan struct{} // closed by Close
	closed  chan struct{} // closed when run is over and all were told
	once    sync.Once
	oldest  atomic.Pointer[time.Time] // when the first operation of the group under way came; nil between groups
}

type request struct {
	ctx  context.Context
	op   func(*Batch) error
	at   time.Time
	err  error // of op
	late bool  // others of the group had written before
	done func(error)
}

// NewCommitter starts a committer on the store, which nobody else may write then. group may be nil.
func NewCommitter(st Store, group Group) *Committer {
	c := &Committer{
		st:      st,
		group:   group,
		queue:   make(chan *request, maxWaiting),
		acks:    make(chan []*request, 1),
		closing: make(chan struct{}),
		closed:  make(chan struct{}),
	}
	go c.run()
	return c
}

// Do runs op on the committer's goroutine, one at a time in the order of the calls, and returns once what it
// wrote is on disk. An error of op is returned and nothing of it is written; but if a commit fails, that is the error of
// all operations that may have seen its writes. An op that writes nothing waits for no disk of its own. If ctx ends first, whether op takes effect is open. Its error is ErrBusy, and op does not
// run, while 20,000 operations wait or the first of them has waited for more than 5 s.
func (c *Committer) Do(ctx context.Context, op func(*Batch) error) error {
	done := make(chan error, 1)
	c.Submit(ctx, op, func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	default:
		return fmt.Errorf("the write was not acknowledged in time and may still happen: %w", ctx.Err())
	}
}

// Submit is [Committer.Do] for those who do not wait: done is called once, with the error. It runs on a goroutine that
// tells all others too, so it must not block; or on that of the caller, if op is not to run at all. An op whose ctx has
// ended when its turn comes does not run.
func (c *Committer) Submit(ctx context.Context, op func(*Batch) error, done func(error)) {
	r := &request{ctx: ctx, op: op, at: time.Now(), done: done}
	if err := c.enqueue(r); err != nil {
		done(err)
		return
	}
	select {
	case <-c.closed:
		c.refuseRest() // it may have come after the last look at the queue
	default:
	}
}

// Waiting is how many operations wait for their turn.
func (c *Committer) Waiting() int { return len(c.queue) }

func (c *Committer) enqueue(r *request) error {
	select {
	case <-c.closing:
		return ErrClosed
	default:
	}
	if err := r.ctx.Err(); err != nil {
		return err
	}
	if oldest := c.oldest.Load(); oldest != nil && r.at.Sub(*oldest) > maxWait {
		return ErrBusy
	}
	select {
	case c.queue <- r:
		return nil
	default:
		return ErrBusy
	}
}

// Close finishes what was queued and stops. The store stays open.
func (c *Committer) Close() {
	c.once.Do(func() { close(c.closing) })
	<-c.closed
}

func (c *Committer) run() {
	var telling sync.WaitGroup
	telling.Go(c.tell)
	c.serve()
	close(c.acks)
	telling.Wait()
	close(c.closed)
	c.refuseRest()
}

func (c *Committer) serve() {
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

// refuseRest answers what came too late to be committed.
func (c *Committer) refuseRest() {
	for {
		select {
		case r := <-c.queue:
			r.done(ErrClosed)
		default:
			return
		}
	}
}

// tell tells those whose group was committed, while the next one is.
func (c *Committer) tell() {
	for group := range c.acks {
		for _, r := range group {
			r.done(r.err)
		}
		if c.group != nil {
			c.group.Acked()
		}
	}
}

// gather collects the operations that share the transaction of first.
func (c *Committer) gather(first *request) []*request {
	c.oldest.Store(&first.at)
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
	defer c.oldest.Store(nil)
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
	if err != nil {
		batch.back(0, 0)
	}
	if c.group != nil {
		c.group.End(err)
	}
	for _, r := range group {
		if r.err == nil || err != nil && r.late { // what made a late one fail may be what was taken back
			r.err = err
		}
	}
	c.acks <- group
}

// run executes one operation and takes its writes back if it fails.
func (r *request) run(batch *Batch) {
	writes, undos := len(batch.writes), len(batch.undo)
	r.late = writes > 0
	if r.err = r.ctx.Err(); r.err == nil {
		r.err = r.op(batch)
	}
	if r.err != nil {
		batch.back(writes, undos)
	}
}
