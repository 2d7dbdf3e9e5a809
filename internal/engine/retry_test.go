package engine_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/resilience/budget"
	"github.com/weftmesh/weft/routing"
	"github.com/weftmesh/weft/telemetry"
)

func TestRetries(t *testing.T) {
	for _, tc := range []struct {
		name     string
		edit     func(*engine.Call)
		outcomes []engine.Outcome
		attempts int
		reason   engine.Reason // "": what the last attempt gave is handed over
	}{
		{"success", nil, []engine.Outcome{status(200)}, 1, ""},
		{"a client's mistake is final", nil, []engine.Outcome{status(404)}, 1, ""},
		{"503 of an idempotent call", nil, []engine.Outcome{status(503), status(503), status(200)}, 3, ""},
		{"503 to the end is handed over", nil, []engine.Outcome{status(503), status(503), status(503)}, 3, ""},
		{"503 of a call that must not be repeated", post, []engine.Outcome{status(503)}, 1, ""},
		{"not sent is tried again, whatever it is", post, []engine.Outcome{notSent(), notSent(), status(200)}, 3, ""},
		{"not sent to the end", post, []engine.Outcome{notSent(), notSent(), notSent()}, 3, engine.AttemptsFailed},
		{"a body that is gone cannot be sent again", func(c *engine.Call) { c.Replayable = false }, []engine.Outcome{status(503)}, 1, ""},
		{"another code than the rule's", nil, []engine.Outcome{status(500)}, 1, ""},
		{"what cannot be sent at all", nil, []engine.Outcome{{Protocol: engine.HTTP, Misused: true, Err: errDial}}, 1, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", "b", "c")
				w.on(func(c *engine.Conditions) { c.AddStatus(503, 503) })
				s := &script{answer: func(a *engine.Attempt) engine.Outcome { return tc.outcomes[a.Number()-1] }}
				edit := tc.edit
				if edit == nil {
					edit = func(*engine.Call) {}
				}
				_, refusal := w.get(t.Context(), s, edit)
				if len(s.endpoints) != tc.attempts || s.discarded != tc.attempts-1 {
					t.Errorf("%d attempts, %d discarded; want %d and one less", len(s.endpoints), s.discarded, tc.attempts)
				}
				if got := reasonOf(refusal); got != tc.reason {
					t.Errorf("reason %q, want %q", got, tc.reason)
				}
				if slices.Sort(s.endpoints); len(slices.Compact(s.endpoints)) != tc.attempts {
					t.Errorf("an endpoint was tried twice: %v", s.endpoints)
				}
				if len(w.seen.attempts) != tc.attempts || len(w.seen.calls) != 1 {
					t.Errorf("observed %d attempts and %d calls, want %d and 1", len(w.seen.attempts), len(w.seen.calls), tc.attempts)
				}
				w.idle()
			})
		})
	}
}

func reasonOf(r *engine.Refusal) engine.Reason {
	if r == nil {
		return ""
	}
	return r.Reason
}

func TestBudgetEndsRetries(t *testing.T) {
	for name, percent := range map[string]int{"with a budget": 0, "control: without": 100} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", "b", "c")
				w.plan.Budget = budget.New(budget.Config{Percent: percent, PerSecond: percent * 100})
				w.on(func(c *engine.Conditions) { c.AddStatus(503, 503) })
				s := &script{answer: func(*engine.Attempt) engine.Outcome { return status(503) }}
				w.get(t.Context(), s)
				if got, want := len(s.endpoints) == 1, percent == 0; got != want {
					t.Errorf("budget of %d %%: %d attempts", percent, len(s.endpoints))
				}
			})
		})
	}
}

func TestRetriedBelowARetryIsNotRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		w.on(func(c *engine.Conditions) { c.AddStatus(503, 503) })
		s := &script{answer: func(*engine.Attempt) engine.Outcome { return status(503) }}
		w.get(engine.WithValues(t.Context(), engine.Values{Retried: true}), s)
		if len(s.endpoints) != 1 {
			t.Errorf("a call made for a retry was tried %d times, want once", len(s.endpoints))
		}
	})
}

func TestPerTryTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		w.plan.Retry.PerTryTimeout = 100 * time.Millisecond
		w.on(func(c *engine.Conditions) { c.Timeout = true })
		s := &script{answer: func(a *engine.Attempt) engine.Outcome {
			if a.Number() == 1 {
				<-a.Context().Done()
				return engine.Outcome{Protocol: engine.HTTP, Err: a.Context().Err(), Sent: true}
			}
			return status(200)
		}}
		start := time.Now()
		if _, refusal := w.get(t.Context(), s); refusal != nil {
			t.Fatal(refusal)
		}
		within(t, "timeout, pause and second try", time.Since(start), 125*time.Millisecond, 150*time.Millisecond)
	})
}

func TestTotalTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		w.plan.Retry.Timeout = time.Second
		w.plan.RetryRule = "slow@1-2"
		w.on(func(*engine.Conditions) {})
		s := &script{answer: func(a *engine.Attempt) engine.Outcome {
			<-a.Context().Done()
			return engine.Outcome{Protocol: engine.HTTP, Err: a.Context().Err(), Sent: true}
		}}
		start := time.Now()
		_, refusal := w.get(t.Context(), s)
		if reasonOf(refusal) != engine.Timeout || refusal.Rule != "slow@1-2" {
			t.Errorf("got %+v, want a Timeout of rule slow@1-2", refusal)
		}
		within(t, "the call", time.Since(start), time.Second, time.Second)
	})
}

func TestDeadlineOfTheCallerCountsAgainstTheServerButACancelDoesNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		hang := func(a *engine.Attempt) engine.Outcome {
			<-a.Context().Done()
			return engine.Outcome{Protocol: engine.HTTP, Err: a.Context().Err(), Sent: true}
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, refusal := w.get(ctx, &script{answer: hang}); refusal != nil {
			t.Errorf("a cancelled call: %v, want the transport's own error", refusal)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, refusal := w.get(ctx, &script{answer: hang}); !errors.Is(refusal, context.DeadlineExceeded) {
			t.Errorf("a late call: %v, want the deadline's error inside", refusal)
		}
		classes := []telemetry.Class{w.seen.attempts[0].Class, w.seen.attempts[1].Class}
		if !slices.Equal(classes, []telemetry.Class{telemetry.Ignorable, telemetry.Failure}) {
			t.Errorf("classes %v, want ignorable and failure", classes)
		}
	})
}

func TestCancelBetweenAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		w.plan.Retry.Base, w.plan.Retry.Max = time.Minute, time.Minute
		w.on(func(c *engine.Conditions) { c.AddStatus(503, 503) })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, refusal := w.get(ctx, &script{answer: func(*engine.Attempt) engine.Outcome { return status(503) }})
		if reasonOf(refusal) != engine.Canceled || !errors.Is(refusal, context.Canceled) {
			t.Errorf("got %v, want Canceled", refusal)
		}
		w.idle()
	})
}

func TestFirstPlan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := &script{answer: func(*engine.Attempt) engine.Outcome { return status(200) }}
		call := func(ctx context.Context) *engine.Refusal {
			return w.engine.NewService("late.default").Do(ctx, &engine.Call{Protocol: engine.HTTP}, s)
		}
		start := time.Now()
		if r := call(t.Context()); reasonOf(r) != engine.NoInstance {
			t.Errorf("got %v, want NoInstance", r)
		}
		within(t, "a call without a deadline", time.Since(start), engine.FirstPlanWait, engine.FirstPlanWait)

		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		start = time.Now()
		call(ctx)
		within(t, "a call with a deadline", time.Since(start), 10*time.Second, 10*time.Second)

		late := w.engine.NewService("product.default")
		time.AfterFunc(3*time.Second, func() { p := w.plan; late.Publish(&p) })
		if r := late.Do(t.Context(), &engine.Call{Protocol: engine.HTTP}, s); reasonOf(r) != engine.NoInstance || r.Err.Error() != "it has no instance" {
			t.Errorf("got %v, want NoInstance of an empty service", r)
		}
	})
}

func TestSettledOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a")
		s := &script{answer: func(*engine.Attempt) engine.Outcome {
			return engine.Outcome{Protocol: engine.HTTP, Code: 200, Sent: true, Open: true}
		}}
		if _, r := w.get(t.Context(), s); r != nil {
			t.Fatal(r)
		}
		if w.pool.Endpoints()[0].Stats.Pending() != 1 || len(w.seen.calls) != 0 {
			t.Error("a call whose body is open has settled")
		}
		for range 8 {
			go s.last.Settle(engine.Outcome{Protocol: engine.HTTP, Code: 200, Sent: true, Open: true, Err: errDial})
		}
		synctest.Wait()
		if len(w.seen.calls) != 1 || len(w.seen.attempts) != 1 || w.seen.calls[0].Class != telemetry.Failure {
			t.Errorf("calls %+v, attempts %+v; want one failure of each", w.seen.calls, w.seen.attempts)
		}
		w.idle()
	})
}

func TestSelectAgainReleasesTheEarlierEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		s := &script{}
		s.answer = func(a *engine.Attempt) engine.Outcome {
			first := a.Endpoint()
			second, err := a.Select(s)
			if err != nil || second == first || first.Stats.Pending() != 0 {
				t.Errorf("second %v (%v) after %v with %d pending", second, err, first.ID, first.Stats.Pending())
			}
			return status(200)
		}
		w.get(t.Context(), s)
		w.idle()
	})
}

func TestReplanWhenNothingIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "old")
		s := &script{ready: func(ep *balancer.Endpoint) engine.Ready {
			if ep.ID == "old" {
				w.endpoints("new")
				return engine.NotReady
			}
			return engine.Connected
		}, answer: func(*engine.Attempt) engine.Outcome { return status(200) }}
		if _, r := w.get(t.Context(), s); r != nil || !slices.Equal(s.endpoints, []string{"new"}) {
			t.Errorf("refusal %v, endpoints %v; want the new plan's", r, s.endpoints)
		}
	})
}

// What an outdated rule said of idempotence does not outlive the move to a plan without that rule.
func TestReplanForgetsTheOldRule(t *testing.T) {
	for _, tc := range []struct {
		name       string
		idempotent *bool // as the new plan says
		want       int
	}{
		{"the new plan is silent", nil, 1},
		{"control: it says the same", new(true), 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", "b")
				w.plan.Retry.Idempotent = new(true)
				w.plan.Retry.On.AddStatus(503, 503)
				w.endpoints("a", "b")
				s := &script{answer: func(*engine.Attempt) engine.Outcome { return status(503) }}
				s.ready = func(ep *balancer.Endpoint) engine.Ready {
					if ep.ID == "a" || ep.ID == "b" {
						return engine.NotReady
					}
					return engine.Connected
				}
				push := &pushing{s, func() {
					w.plan.Retry.Idempotent = tc.idempotent
					w.endpoints("c", "d", "e")
				}}
				w.service.Do(t.Context(), &engine.Call{Protocol: engine.HTTP, Method: "POST", Replayable: true,
					Request: routing.Request{Method: "POST", Path: "/pay"}}, push)
				if len(s.endpoints) != tc.want {
					t.Errorf("the POST reached %v, want %d servers", s.endpoints, tc.want)
				}
			})
		})
	}
}

// pushing is a script whose plan changes just before the first try.
type pushing struct {
	*script
	push func()
}

func (p *pushing) Try(a *engine.Attempt) engine.Outcome {
	if p.push != nil {
		p.push()
		p.push = nil
	}
	return p.script.Try(a)
}

// A panic of the application's own code passes through Do, and gives the endpoint back.
func TestPanicGivesTheEndpointBack(t *testing.T) {
	w := newWorld(t, "a")
	s := &script{answer: func(*engine.Attempt) engine.Outcome { panic("a bug of an interceptor") }}
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic was swallowed")
			}
		}()
		w.get(t.Context(), s)
	}()
	w.idle()
	if len(w.seen.calls) != 1 || len(w.seen.attempts) != 1 || w.seen.attempts[0].Class != telemetry.Ignorable {
		t.Errorf("told of %+v and %+v; want one call and one attempt that says nothing of the server", w.seen.calls, w.seen.attempts)
	}
}

// A success that never reached a server, as an interceptor's fallback is one, is not tried again.
func TestSuccessIsNotRepeated(t *testing.T) {
	for code, want := range map[int]int{0: 1, 14: 3} { // control: UNAVAILABLE, not sent
		w := newWorld(t, "a", "b", "c")
		s := &script{answer: func(*engine.Attempt) engine.Outcome { return engine.Outcome{Protocol: engine.GRPC, Code: code} }}
		w.get(t.Context(), s, func(c *engine.Call) { c.Protocol = engine.GRPC })
		if len(s.endpoints) != want {
			t.Errorf("code %d was tried %d times, want %d", code, len(s.endpoints), want)
		}
	}
}
