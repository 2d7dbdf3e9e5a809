package retry

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// StopCanceled is the [Error] Stop of a call that its caller canceled.
const StopCanceled Stop = "canceled"

// Error is what [Do] returns when the call failed.
type Error struct {
	Attempts int   // that were made
	Stop     Stop  // why there was no other
	Err      error // of the last attempt, joined with the context's if that ended the call
}

func (e *Error) Error() string {
	return fmt.Sprintf("retry: stopped after attempt %d (%s): %v", e.Attempts, e.Stop, e.Err)
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// NotSent marks an error as of an attempt that never reached a server: any call may be tried again. A nil error
// stays nil.
func NotSent(err error) error { return mark(err, Failure{NotSent: true}) }

// Retryable marks an error as worth another attempt, of a call that may be made twice. A nil error stays nil.
func Retryable(err error) error { return mark(err, Failure{Retryable: true}) }

type marked struct {
	error
	failure Failure
}

func (m *marked) Unwrap() error { return m.error }

func mark(err error, f Failure) error {
	if err == nil {
		return nil
	}
	return &marked{err, f}
}

// Do calls f until it returns nil or p stops, and returns nil or an [*Error]. Only errors marked with [NotSent] or
// [Retryable] are tried again; f must be able to send its request anew each time. attempt counts from 1.
//
// The Timeout and PerTryTimeout of p shorten f's context only where the caller's own deadline is later. The call is
// deposited in b if b has a method Deposit(time.Time), as the one of package budget has; a nil b is unlimited.
func Do(ctx context.Context, p *Policy, b Budget, f func(ctx context.Context, attempt int) error) error {
	policy := p.defaulted()
	ctx, cancel := tighten(ctx, policy.Timeout)
	defer cancel()
	if ctx.Err() != nil {
		return ended(ctx, 0, nil)
	}
	deposit(b)
	for attempt := 1; ; attempt++ {
		err := try(ctx, policy.PerTryTimeout, attempt, f)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ended(ctx, attempt, err)
		}
		delay, stop := policy.next(ctx, b, attempt, err)
		if stop != "" {
			return &Error{attempt, stop, err}
		}
		if !sleep(ctx, delay) {
			return ended(ctx, attempt, err)
		}
	}
}

func (p *Policy) next(ctx context.Context, b Budget, attempt int, err error) (time.Duration, Stop) {
	now := time.Now()
	state := State{Attempt: attempt, Idempotent: true, Replayable: true, Remaining: NoDeadline}
	if deadline, ok := ctx.Deadline(); ok {
		state.Remaining = max(deadline.Sub(now), 0)
	}
	var failure Failure
	if m, ok := errors.AsType[*marked](err); ok {
		failure = m.failure
	}
	return p.Next(now, state, failure, b, nil)
}

func try(ctx context.Context, timeout time.Duration, attempt int, f func(context.Context, int) error) error {
	ctx, cancel := tighten(ctx, timeout)
	defer cancel()
	return f(ctx, attempt)
}

// tighten gives ctx a deadline unless its own is as early, which saves a context and its timer.
func tighten(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if deadline, ok := ctx.Deadline(); timeout <= 0 || ok && time.Until(deadline) <= timeout {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, timeout)
}

func deposit(b Budget) {
	if d, ok := b.(interface{ Deposit(now time.Time) }); ok {
		d.Deposit(time.Now())
	}
}

// ended is the error of a call whose context is over; err is of its last attempt, if there was one.
func ended(ctx context.Context, attempts int, err error) error {
	stop := StopCanceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		stop = StopDeadline
	}
	switch cause := context.Cause(ctx); {
	case err == nil:
		err = cause
	case !errors.Is(err, cause):
		err = fmt.Errorf("%w; last attempt: %w", cause, err)
	}
	return &Error{attempts, stop, err}
}

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
