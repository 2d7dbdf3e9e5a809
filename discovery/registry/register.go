package registry

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/session"
)

const (
	readyEvery   = time.Second     // how often an instance that is not ready is asked
	readyTimeout = 5 * time.Second // of one question
)

// registration implements discovery.Registration.
type registration struct {
	source *Source
	reg    *session.Registration
	stop   context.CancelFunc // of the questions whether it is ready
	asking sync.WaitGroup

	turn  chan struct{} // holds one; taken while an update is sent, so that updates keep their order; guards what follows
	in    discovery.Instance
	ready bool
}

// Register implements discovery.Registrar. It fills in what is empty: a random ID, the service and the namespace
// of the options; the process is always this one. An unspecified host in Address, as a listener on all addresses has
// it, becomes the local address that reaches the registry.
func (s *Source) Register(ctx context.Context, in discovery.Instance) (discovery.Registration, error) {
	in, err := s.complete(ctx, in)
	if err != nil {
		return nil, err
	}
	r := &registration{source: s, in: in, ready: in.Ready == nil, turn: make(chan struct{}, 1)}
	r.reg, err = s.session.Register(ctx, toWire(r.stated()))
	if err != nil {
		return nil, invalidIf(err)
	}
	if err := s.keep(r); err != nil {
		return nil, err
	}
	return r, nil
}

// keep remembers the registration for Close, and starts to ask whether it is ready.
func (s *Source) keep(r *registration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closed:
		return ErrClosed
	default:
	}
	s.regs[r] = true
	asking, stop := context.WithCancel(context.Background())
	r.stop = stop
	if ask := r.in.Ready; ask != nil {
		r.asking.Go(func() { r.askReady(asking, ask) })
	}
	return nil
}

func (s *Source) complete(ctx context.Context, in discovery.Instance) (discovery.Instance, error) {
	in.ID = cmp.Or(in.ID, rand.Text())
	in.Service = cmp.Or(in.Service, s.opts.Service)
	in.Namespace = cmp.Or(in.Namespace, s.opts.Namespace)
	in.Process = s.process
	in.Labels = maps.Clone(in.Labels)
	host, port, err := net.SplitHostPort(in.Address)
	if ip, _ := netip.ParseAddr(host); err == nil && (host == "" || ip.IsUnspecified()) {
		if host, err = localHost(ctx, s.opts.Addrs[0]); err != nil {
			return in, fmt.Errorf("instance address %q: which local address reaches the registry: %w", in.Address, err)
		}
		in.Address = net.JoinHostPort(host, port)
	}
	return in, in.Validate()
}

// localHost asks the system from which address it would reach another; no packet is sent.
func localHost(ctx context.Context, remote string) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "udp", remote)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, err
}

// stated is the instance as it is announced.
func (r *registration) stated() discovery.Instance {
	in := r.in
	if up := in.State == "" || in.State == discovery.Up; up && !r.ready {
		in.State = discovery.Starting
	}
	return in
}

// askReady asks the instance until it is ready and then announces it.
func (r *registration) askReady(ctx context.Context, ask func(context.Context) error) {
	for {
		question, cancel := context.WithTimeout(ctx, readyTimeout)
		err := ask(question)
		cancel()
		if err == nil || ctx.Err() != nil {
			break
		}
		select {
		case <-time.After(readyEvery):
		case <-ctx.Done():
			return
		}
	}
	if err := r.take(ctx); err != nil {
		return
	}
	defer r.free()
	r.ready = true
	if err := r.reg.Update(ctx, toWire(r.stated())); err != nil && ctx.Err() == nil {
		r.source.log.Error("a ready instance cannot be announced", "instance", r.in.ID, "error", err)
	}
}

// take waits for the turn: an update may wait for a registry that is away.
func (r *registration) take(ctx context.Context) error {
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *registration) free() { <-r.turn }

// Acked implements discovery.Registration.
func (r *registration) Acked() <-chan struct{} { return r.reg.Acked() }

// Update implements discovery.Registration.
func (r *registration) Update(ctx context.Context, in discovery.Instance) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.free()
	old := r.in
	r.in.Labels, r.in.Weight, r.in.Locality, r.in.State = maps.Clone(in.Labels), in.Weight, in.Locality, in.State
	err := r.in.Validate()
	if err == nil {
		err = r.reg.Update(ctx, toWire(r.stated()))
	}
	var refusal *session.Refusal
	if errors.As(err, &refusal) || errors.Is(err, discovery.ErrInvalid) {
		r.in = old
	}
	return invalidIf(err)
}

// Settle implements discovery.Settler.
func (r *registration) Settle(ctx context.Context) error {
	name := discovery.Name{Service: r.in.Service, Namespace: r.in.Namespace} // which never change
	got, err := r.source.session.Settle(ctx, name.String())
	if err == nil && got.Acked < got.Live {
		err = fmt.Errorf("%d of %d callers of %s have applied its present state", got.Acked, got.Live, name)
	}
	return err
}

// Away implements discovery.Absentee.
func (r *registration) Away() bool { return r.source.session.Away() }

// Close implements discovery.Registration. It waits for a Ready that is being asked, until ctx ends.
func (r *registration) Close(ctx context.Context) error {
	r.stop()
	r.source.mu.Lock()
	delete(r.source.regs, r)
	r.source.mu.Unlock()
	err := r.reg.Close(ctx)
	asked := make(chan struct{})
	go func() { r.asking.Wait(); close(asked) }()
	select {
	case <-asked:
	case <-ctx.Done():
		err = errors.Join(err, ctx.Err())
	}
	return err
}

// withdraw closes what is still registered. Without a session nobody would hear it.
func (s *Source) withdraw() error {
	s.mu.Lock()
	regs := maps.Clone(s.regs)
	s.mu.Unlock()
	patience := closePatience
	if s.session.State() != session.Connected {
		patience = 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	errs := make(chan error)
	for r := range regs {
		go func() { errs <- r.Close(ctx) }()
	}
	var all []error
	for range regs {
		all = append(all, <-errs)
	}
	if err := errors.Join(all...); err != nil {
		return fmt.Errorf("not every instance was withdrawn: %w", err)
	}
	return nil
}

// invalidIf makes the registry's "invalid" ours.
func invalidIf(err error) error {
	var refusal *session.Refusal
	if errors.As(err, &refusal) && refusal.Code == "invalid" {
		return fmt.Errorf("%w: %w", discovery.ErrInvalid, err)
	}
	return err
}
