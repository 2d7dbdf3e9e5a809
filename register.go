package weft

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// closeWait is how long Close of a Registration waits for calls in flight when its context has no deadline.
const closeWait = 30 * time.Second

// ErrNoRegistrar is returned by Register when no source of the mesh can register.
var ErrNoRegistrar = errors.New("no source of this mesh registers instances: use WithRegistry, or WithSource with a discovery.Registrar")

// ErrNoService is returned by Register when the process has no name.
var ErrNoService = errors.New("the process has no service to register as: use WithService")

// Register announces an instance of the process's service. It returns at the first acknowledgement; with no registry
// reachable it returns a pending Registration after 2 s without error and goes on trying. An instance that is invalid or
// not allowed is an error at once.
//
// An unspecified host in Address (":8080", "0.0.0.0:8080") becomes the local address that reaches the registry. The ID, if
// empty, is made at random. With Ready set, the instance gets no calls until Ready returns nil.
func (m *Mesh) Register(ctx context.Context, in Instance) (*Registration, error) {
	registrar := m.registrar()
	switch {
	case !m.hasService():
		return nil, fmt.Errorf("weft: register: %w", ErrNoService)
	case registrar == nil:
		return nil, fmt.Errorf("weft: register: %w", ErrNoRegistrar)
	}
	in, err := m.complete(in)
	if err != nil {
		return nil, fmt.Errorf("weft: register: %w", err)
	}
	if m.isClosed() {
		return nil, fmt.Errorf("weft: register: %w", errClosed)
	}
	inner, err := registrar.Register(ctx, in)
	if err != nil {
		return nil, fmt.Errorf("weft: register: %w", err)
	}
	r := &Registration{mesh: m, instance: in, inner: inner, turn: make(chan struct{}, 1)}
	if !m.track(r) { // the mesh was closed meanwhile
		return nil, fmt.Errorf("weft: register: %w", errors.Join(errClosed, bounded(ctx, time.Second, inner.Close)))
	}
	return r, nil
}

func (m *Mesh) registrar() discovery.Registrar {
	for _, s := range m.cfg.sources {
		if r, ok := s.(discovery.Registrar); ok {
			return r
		}
	}
	return nil
}

// complete fills in what an instance leaves to the mesh.
func (m *Mesh) complete(in Instance) (Instance, error) {
	in.ID = cmp.Or(in.ID, strings.ToLower(rand.Text())[:16])
	in.Service, in.Namespace = cmp.Or(in.Service, m.name.Service), cmp.Or(in.Namespace, m.name.Namespace)
	if in.Service != m.name.Service || in.Namespace != m.name.Namespace {
		return in, fmt.Errorf("service %s.%s: %w: the process is %s", in.Service, in.Namespace, discovery.ErrInvalid, m.name)
	}
	in.Weight = cmp.Or(in.Weight, discovery.DefaultWeight)
	if in.Locality == (discovery.Locality{}) {
		in.Locality = m.cfg.locality
	}
	in.Labels = m.labels(in.Labels)
	return in, nil
}

// labels adds to those of an instance the ones that all of the process have.
func (m *Mesh) labels(own map[string]string) map[string]string {
	labels := make(map[string]string, len(m.cfg.labels)+len(own))
	maps.Copy(labels, m.cfg.labels)
	maps.Copy(labels, own)
	return labels
}

func (m *Mesh) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

func (m *Mesh) track(r *Registration) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.registrations[r] = true
	}
	return !m.closed
}

func (m *Mesh) untrack(r *Registration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.registrations, r)
}

// Registration is an announced instance. It survives a restart of the registry with the same id.
type Registration struct {
	mesh  *Mesh
	inner discovery.Registration

	turn chan struct{} // holds one; taken while an update is under way, so that none comes after the one that it drains

	mu       sync.Mutex
	instance Instance
	closing  bool
	result   error
	done     chan struct{}
}

// Acked is closed once the registry has acknowledged the instance.
func (r *Registration) Acked() <-chan struct{} { return r.inner.Acked() }

// Instance returns the instance as it is registered, with what Register filled in.
func (r *Registration) Instance() Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.instance
}

// Update changes labels, weight and locality of the instance, and its state to Up or Draining; all else stays. If it is
// refused the instance stays as it was; if ctx ends first the update is still under way. Once Close has been called it is
// an error.
func (r *Registration) Update(ctx context.Context, in Instance) error {
	if r.isClosing() { // which waits for its turn no longer than for the registry
		return errLeaving
	}
	return r.change(ctx, func(next *Instance) error {
		if r.isClosing() {
			return errLeaving
		}
		next.Labels, next.Weight, next.Locality = r.mesh.labels(in.Labels), cmp.Or(in.Weight, discovery.DefaultWeight), in.Locality
		next.State = cmp.Or(in.State, next.State)
		return nil
	})
}

// change makes one change of the instance after the other.
func (r *Registration) change(ctx context.Context, edit func(*Instance) error) error {
	select {
	case r.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-r.turn }()
	old := r.Instance()
	next := old
	if err := edit(&next); err != nil {
		return err
	}
	r.set(next)
	err := r.inner.Update(ctx, next)
	if err != nil && ctx.Err() == nil {
		r.set(old)
	}
	return err
}

var errLeaving = errors.New("weft: update: the registration is closed")

func (r *Registration) set(in Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.instance = in
}

func (r *Registration) isClosing() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closing
}

func (r *Registration) drain(ctx context.Context) error {
	return r.change(ctx, func(next *Instance) error {
		next.State = discovery.Draining
		return nil
	})
}

// Close takes the instance out of the mesh: it is marked as draining so that no new calls come, the processes that call it
// have 5 s to take note of that (with the registry away nobody can tell, so that is not waited for), calls in flight are waited for until
// ctx ends (30 s without a deadline), and the instance is deregistered. Stop the server afterwards. Close is idempotent; a
// second call waits for the first.
func (r *Registration) Close(ctx context.Context) error {
	r.mu.Lock()
	if r.closing {
		r.mu.Unlock()
		select {
		case <-r.done:
			return r.result
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.closing, r.done = true, make(chan struct{})
	r.mu.Unlock()
	defer close(r.done)
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, closeWait)
		defer cancel()
	}
	r.result = r.leave(ctx)
	r.mesh.untrack(r)
	return r.result
}

// leaveWait is how long Close waits for a word of the registry: for the draining to be written, for the callers to have
// taken note of it, and again for the end.
const leaveWait = 5 * time.Second

// quiet is for how long no call may be in flight before Close believes that none is on its way either: one may have chosen
// the instance just before its caller took note.
const quiet = 50 * time.Millisecond

func (r *Registration) leave(ctx context.Context) error {
	select {
	case <-r.inner.Acked():
		err := r.tell(ctx, leaveWait, r.drain)
		if err == nil {
			r.settle(ctx)
		}
		r.mesh.awaitIdle(ctx) // also with the registry away: the calls in flight are there
		if err != nil {       // its lease will tell
			end := r.tell(ctx, time.Second, r.inner.Close)
			if errors.Is(end, err) {
				return err
			}
			return errors.Join(err, end)
		}
	default: // nobody knows the instance yet
	}
	if ctx.Err() != nil { // calls in flight took all the time; the registry is told all the same
		return errors.Join(ctx.Err(), r.tell(context.WithoutCancel(ctx), time.Second, r.inner.Close))
	}
	return r.tell(ctx, leaveWait, r.inner.Close)
}

// settle waits until the callers know that the instance drains.
func (r *Registration) settle(ctx context.Context) {
	s, ok := r.inner.(discovery.Settler)
	if !ok || r.mesh.cfg.hasty {
		return
	}
	if err := bounded(ctx, leaveWait, s.Settle); err != nil {
		r.mesh.cfg.log.Warn("weft: an instance leaves though not every caller is known to have taken note", "instance", r.Instance().ID, "error", err)
	}
}

// awayEvery is how often it is looked whether the registry is still there.
const awayEvery = 20 * time.Millisecond

var errAway = errors.New("the registry is away: the instance goes when its lease has run out")

// tell says something to the registry. It waits for the answer for so long at the most, and only while the registry is there.
func (r *Registration) tell(ctx context.Context, most time.Duration, do func(context.Context) error) error {
	a, ok := r.inner.(discovery.Absentee)
	if !ok {
		return bounded(ctx, most, do)
	}
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- do(ctx) }() // ends with ctx
	tick := time.NewTicker(awayEvery)
	defer tick.Stop()
	for {
		if a.Away() {
			cancel()
			if <-answered != nil {
				return errAway
			}
			return nil
		}
		select {
		case err := <-answered:
			return err
		case <-tick.C:
		}
	}
}

func bounded(ctx context.Context, most time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	return do(ctx)
}

// awaitIdle waits until no inbound call has been in flight for a moment.
func (m *Mesh) awaitIdle(ctx context.Context) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for idle := time.Now(); time.Since(idle) < quiet; {
		if m.inbound.InFlight() > 0 {
			idle = time.Now()
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
