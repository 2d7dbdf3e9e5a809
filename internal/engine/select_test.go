package engine_test

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftmesh/weft/balancer"
	"github.com/weftmesh/weft/internal/engine"
	"github.com/weftmesh/weft/resilience/outlier"
	"github.com/weftmesh/weft/telemetry"
)

func TestSelection(t *testing.T) {
	suspect := func(id string) balancer.Spec { return balancer.Spec{ID: id, Address: id + ":1", Suspect: true} }
	up := func(id string) balancer.Spec { return balancer.Spec{ID: id, Address: id + ":1"} }
	for _, tc := range []struct {
		name    string
		up      []balancer.Spec
		reserve []balancer.Spec
		ready   map[string]engine.Ready
		want    string // "": ErrNotReady
	}{
		{"connected", []balancer.Spec{up("a")}, nil, map[string]engine.Ready{"a": engine.Connected}, "a"},
		{"may be dialled", []balancer.Spec{up("a")}, nil, map[string]engine.Ready{"a": engine.MayDial}, "a"},
		{"not ready", []balancer.Spec{up("a")}, nil, map[string]engine.Ready{}, ""},
		{"suspect with a connection", []balancer.Spec{suspect("a")}, nil, map[string]engine.Ready{"a": engine.Connected}, "a"},
		{"suspect without one gives way", []balancer.Spec{suspect("a"), up("b")}, []balancer.Spec{suspect("a")}, map[string]engine.Ready{"a": engine.MayDial, "b": engine.MayDial}, "b"},
		{"suspect when nothing else is left", []balancer.Spec{suspect("a")}, []balancer.Spec{suspect("a")}, map[string]engine.Ready{"a": engine.MayDial}, "a"},
		{"a last resort gives way", []balancer.Spec{up("a")}, []balancer.Spec{up("z")}, map[string]engine.Ready{"a": engine.MayDial, "z": engine.Connected}, "a"},
		{"a last resort when nothing else is ready", []balancer.Spec{up("a")}, []balancer.Spec{up("z")}, map[string]engine.Ready{"z": engine.MayDial}, "z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			all := w.pool.Update(slices.Concat(tc.up, tc.reserve))
			w.publish(only(all, tc.up), only(all, tc.reserve))
			s := &script{ready: func(ep *balancer.Endpoint) engine.Ready { return tc.ready[ep.ID] },
				answer: func(*engine.Attempt) engine.Outcome { return status(200) }}
			_, refusal := w.get(t.Context(), s)
			got := ""
			if len(s.endpoints) > 0 {
				got = s.endpoints[0]
			}
			if got != tc.want || (refusal == nil) != (tc.want != "") {
				t.Errorf("chose %q with %v, want %q", got, refusal, tc.want)
			}
		})
	}
}

func only(all []*balancer.Endpoint, specs []balancer.Spec) (list []*balancer.Endpoint) {
	for _, ep := range all {
		if slices.ContainsFunc(specs, func(s balancer.Spec) bool { return s.ID == ep.ID }) {
			list = append(list, ep)
		}
	}
	return list
}

// An endpoint that fails is ejected after five failures and not called until its time is over; then one call probes it.
func TestEjection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "bad", "b", "c", "d")
		w.plan.Retry.Attempts = 1
		w.on(func(*engine.Conditions) {})
		bad := true
		s := &script{}
		s.answer = func(a *engine.Attempt) engine.Outcome {
			if bad && a.Endpoint().ID == "bad" {
				return status(500)
			}
			return status(200)
		}
		count := func(calls int) (n int) {
			s.endpoints = nil
			for range calls {
				w.get(t.Context(), s)
			}
			for _, id := range s.endpoints {
				if id == "bad" {
					n++
				}
			}
			return n
		}
		if n := count(400); n != 5 {
			t.Errorf("the bad endpoint got %d of 400 calls, want 5", n)
		}
		time.Sleep(6 * time.Second) // virtual: longer than the first ejection
		if n := count(400); n != 1 {
			t.Errorf("after its ejection it got %d of 400 calls, want one probe", n)
		}
		bad = false
		time.Sleep(11 * time.Second)
		if n := count(400); n < 90 {
			t.Errorf("back in service it got %d of 400 calls, want its share", n)
		}
	})
}

func TestTheWholePoolEjectedIsStillCalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b", "c")
		w.plan.Retry.Attempts = 1
		w.on(func(*engine.Conditions) {})
		s := &script{answer: func(*engine.Attempt) engine.Outcome { return status(500) }}
		for range 100 {
			if _, r := w.get(t.Context(), s); r != nil {
				t.Fatalf("refused: %v", r)
			}
		}
	})
}

func TestDecisionIsReplayable(t *testing.T) {
	w := newWorld(t, "a", "b", "c", "d", "e")
	answer := func(a *engine.Attempt) engine.Outcome { return notSent() }
	record := func(seed uint64) telemetry.Decision {
		var d telemetry.Decision
		w.engine = engine.New(engine.Config{Seed: func() uint64 { return seed }})
		w.service = w.engine.NewService("product.default")
		w.pool = balancer.NewPool(func(balancer.Spec) any { return w.detector.Host() })
		w.endpoints("a", "b", "c", "d", "e")
		w.get(engine.WithValues(t.Context(), engine.Values{Record: &d}), &script{answer: answer})
		return d
	}
	first, second := record(42), record(42)
	if len(first.Attempts) != 3 || first.Seed != 42 || first.Reason != string(engine.AttemptsFailed) {
		t.Fatalf("record %+v, want three failed attempts with seed 42", first)
	}
	for i := range first.Attempts {
		a, b := first.Attempts[i], second.Attempts[i]
		if a.Endpoint != b.Endpoint || a.Endpoint == "" || len(a.Compared) == 0 {
			t.Errorf("attempt %d: %+v and %+v, want the same endpoint and what was compared", i+1, a, b)
		}
	}
}

// A server that answers every upgrade with 503 fails like any other: a response that came is not yet a success.
func TestRefusedUpgradesEject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "a", "b")
		s := &script{answer: func(a *engine.Attempt) engine.Outcome { return open(statusOf(a, 503)) }}
		for range 60 {
			w.get(t.Context(), s, func(c *engine.Call) { c.Stream = true })
			s.last.Settle(open(statusOf(s.last, 503)))
		}
		if !w.host("a").Ejected(time.Now()) {
			t.Error("30 refused upgrades in a row did not eject")
		}
		if w.host("b").Ejected(time.Now()) {
			t.Error("b answered well and is ejected too")
		}
	})
}

// A probe is over with a good header: the body may stream for ever.
func TestProbeDoesNotWaitForTheBody(t *testing.T) {
	for _, tc := range []struct {
		name string
		code int
		out  bool
	}{
		{"a good header restores", 200, false},
		{"control: a bad one does not", 500, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "a", "b")
				bad := &script{answer: func(a *engine.Attempt) engine.Outcome { return statusOf(a, 500) }}
				for !w.host("a").Ejected(time.Now()) {
					w.get(t.Context(), bad)
				}
				time.Sleep(10 * time.Second) // the ejection is over
				streams := &script{answer: func(a *engine.Attempt) engine.Outcome { return open(statusOf(a, tc.code)) }}
				for range 4 {
					w.get(t.Context(), streams) // one of them probes a; its body never ends
				}
				if got := w.host("a").Ejected(time.Now()); got != tc.out {
					t.Errorf("after a probe answered %d, ejected is %t", tc.code, got)
				}
			})
		})
	}
}

// statusOf is the answer of an instance where a alone answers badly.
func statusOf(a *engine.Attempt, bad int) engine.Outcome {
	if a.Endpoint().ID == "a" {
		return status(bad)
	}
	return status(200)
}

func open(o engine.Outcome) engine.Outcome {
	o.Open = true
	return o
}

func (w *world) host(id string) *outlier.Host {
	w.t.Helper()
	for _, ep := range w.pool.Endpoints() {
		if ep.ID == id {
			return ep.Attachment.(*outlier.Host)
		}
	}
	w.t.Fatalf("no endpoint %q", id)
	return nil
}
