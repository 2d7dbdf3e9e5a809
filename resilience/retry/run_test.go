package retry

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

var errBoom = errors.New("boom")

func stopped(t *testing.T, err error) Error {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("got %v, want an *Error", err)
	}
	return *e
}

func TestDoStops(t *testing.T) {
	tests := []struct {
		name     string
		fail     error
		tokens   int
		attempts int
		stop     Stop
	}{
		{"unmarked", errBoom, 9, 1, StopNotRetryable},
		{"retryable", Retryable(errBoom), 9, 3, StopAttempts},
		{"not sent", NotSent(errBoom), 9, 3, StopAttempts},
		{"budget", Retryable(errBoom), 1, 2, StopBudget},
		{"no budget", Retryable(errBoom), 0, 1, StopBudget},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				last := 0
				err := Do(t.Context(), nil, &purse{tokens: tt.tokens}, func(_ context.Context, attempt int) error {
					if last++; attempt != last {
						t.Errorf("attempt %d called itself %d", last, attempt)
					}
					return tt.fail
				})
				e := stopped(t, err)
				if e.Attempts != tt.attempts || last != tt.attempts || e.Stop != tt.stop || !errors.Is(err, errBoom) {
					t.Errorf("%v after %d attempts, want %d and %q", err, last, tt.attempts, tt.stop)
				}
			})
		})
	}
}

func TestDoSucceeds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		err := Do(t.Context(), nil, nil, func(_ context.Context, attempt int) error {
			if attempt < 3 {
				return Retryable(io.EOF)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took < 50*ms || took > 150*ms {
			t.Errorf("two pauses took %v, want 50 to 150 ms", took)
		}
	})
}

func TestDoWithoutPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		err := Do(t.Context(), nil, nil, func(_ context.Context, attempt int) error {
			if attempt == 1 {
				return NotSent(io.EOF)
			}
			return nil
		})
		if took := time.Since(begin); err != nil || took != 0 {
			t.Errorf("%v after %v, want success at once", err, took)
		}
	})
}

// A hanging attempt costs the per-try timeout, not the whole deadline. The control has none and fails.
func TestDoPerTryTimeout(t *testing.T) {
	hangOnce := func(ctx context.Context, attempt int) error {
		if attempt > 1 {
			return nil
		}
		<-ctx.Done()
		return Retryable(ctx.Err())
	}
	run := func(t *testing.T, p *Policy) (took time.Duration, err error) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		err = Do(ctx, p, nil, hangOnce)
		return time.Since(begin), err
	}
	synctest.Test(t, func(t *testing.T) {
		if took, err := run(t, &Policy{PerTryTimeout: 100 * ms}); err != nil || took > 200*ms {
			t.Errorf("%v after %v, want success within 200 ms", err, took)
		}
		took, err := run(t, &Policy{})
		if e := stopped(t, err); e.Stop != StopDeadline || took != time.Second {
			t.Errorf("control: %v after %v, want the deadline after 1 s", err, took)
		}
	})
}

func TestDoTightens(t *testing.T) {
	tests := []struct {
		name   string
		policy Policy
		own    time.Duration // the caller's; 0: none
		want   time.Duration // until the attempt's deadline; 0: none
	}{
		{"nobody has one", Policy{}, 0, 0},
		{"the caller's", Policy{}, time.Second, time.Second},
		{"the caller's is tighter than both", Policy{PerTryTimeout: 2 * time.Second, Timeout: 3 * time.Second}, time.Second, time.Second},
		{"per try", Policy{PerTryTimeout: time.Second}, 2 * time.Second, time.Second},
		{"per try, no other", Policy{PerTryTimeout: time.Second}, 0, time.Second},
		{"whole call", Policy{PerTryTimeout: 2 * time.Second, Timeout: time.Second}, 3 * time.Second, time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := tighten(t.Context(), tt.own)
				defer cancel()
				_ = Do(ctx, &tt.policy, nil, func(inner context.Context, _ int) error {
					deadline, ok := inner.Deadline()
					if ok != (tt.want > 0) || ok && time.Until(deadline) != tt.want {
						t.Errorf("deadline in %v (%v), want %v", time.Until(deadline), ok, tt.want)
					}
					if tt.want == tt.own && inner != ctx {
						t.Error("a needless context was made")
					}
					return nil
				})
			})
		})
	}
}

func TestDoTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		p := &Policy{Attempts: 1_000, Timeout: time.Second}
		err := Do(t.Context(), p, nil, func(context.Context, int) error { return Retryable(errBoom) })
		took := time.Since(begin)
		if e := stopped(t, err); e.Stop != StopDeadline || took > time.Second || took < 750*ms {
			t.Errorf("%v after %v, want to stop before the pause that does not fit into 1 s", err, took)
		}
	})
}

func TestDoCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("user left")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(10*ms, func() { cancel(cause) })
		begin := time.Now()
		err := Do(ctx, nil, nil, func(context.Context, int) error { return Retryable(errBoom) })
		took := time.Since(begin)
		if e := stopped(t, err); e.Stop != StopCanceled || e.Attempts != 1 || took != 10*ms {
			t.Errorf("%v after %v, want a cancel in the pause after 10 ms", err, took)
		}
		if !errors.Is(err, cause) || !errors.Is(err, errBoom) {
			t.Errorf("%v hides the cause or the last error", err)
		}
		const text = "retry: stopped after attempt 1 (canceled): user left; last attempt: boom"
		if err.Error() != text {
			t.Errorf("text %q, want %q", err, text)
		}
		err = Do(ctx, nil, nil, func(context.Context, int) error {
			t.Error("called with a context that was over")
			return nil
		})
		if e := stopped(t, err); e.Stop != StopCanceled || e.Attempts != 0 || !errors.Is(err, cause) {
			t.Errorf("got %v, want a cancel before the first attempt", err)
		}
	})
}

type saver struct {
	purse
	deposits int
}

func (s *saver) Deposit(time.Time) { s.deposits++ }

func TestDoDeposits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &saver{purse: purse{tokens: 9}}
		_ = Do(t.Context(), nil, b, func(context.Context, int) error { return Retryable(errBoom) })
		if b.deposits != 1 || b.asked != 2 {
			t.Errorf("%d deposits and %d withdrawals of a call with 3 attempts, want 1 and 2", b.deposits, b.asked)
		}
	})
}

func TestMarks(t *testing.T) {
	if NotSent(nil) != nil || Retryable(nil) != nil {
		t.Error("a mark made an error of nil")
	}
	if err := Retryable(io.EOF); !errors.Is(err, io.EOF) || err.Error() != "EOF" {
		t.Errorf("a mark hides its error: %v", err)
	}
}
