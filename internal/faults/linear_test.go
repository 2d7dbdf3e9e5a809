//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// Rules are linearizable, also over kill -9 of the registry: what concurrent readers and writers saw could have happened
// one operation after the other, each between its call and its answer. An operation that got no answer may have
// happened at any time since, or never.
func TestRulesAreLinearizable(t *testing.T) {
	operations, rounds := 4_000, 3
	switch {
	case full():
		operations, rounds = 100_000, 20
	case proving():
		operations, rounds = 20_000, 5
	}
	r, h := newRegistry(t), newHistory()
	for round := range rounds {
		h.round(t, r, round, operations*(round+1)/rounds)
	}
	check(t, h.operations, porcupine.Ok)
	t.Logf("%d operations over %d kills, %d without an answer", len(h.operations), rounds, h.open)
}

// Control: one read that is a write behind is found among all that is right.
func TestAStaleReadIsNoticed(t *testing.T) {
	r, h := newRegistry(t), newHistory()
	h.round(t, r, 0, 2_000)
	old := h.do(t.Context(), t, r, 0, ruleOp{name: ruleName(0, 0), what: "put", seq: 1 << 30})
	h.do(t.Context(), t, r, 0, ruleOp{name: ruleName(0, 0), what: "put", seq: 1<<30 + 1})
	h.do(t.Context(), t, r, 0, ruleOp{name: ruleName(0, 0), what: "get"})
	check(t, h.operations, porcupine.Ok)
	h.operations[len(h.operations)-1].Output = ruleAnswer{seq: 1 << 30, etag: old.etag}
	check(t, h.operations, porcupine.Illegal)
}

func check(t *testing.T, operations []porcupine.Operation, want porcupine.CheckResult) {
	t.Helper()
	if got := porcupine.CheckOperationsTimeout(ruleModel.ToModel(), operations, 2*time.Minute); got != want {
		t.Fatalf("%d operations: %s, want %s", len(operations), got, want)
	}
}

// ruleOp is one operation on one rule.
type ruleOp struct {
	name  string
	what  string // put, swap (a put guarded by If-Match), delete, get
	seq   int    // of put and swap
	guard string // of swap
}

// ruleAnswer is what came of it.
type ruleAnswer struct {
	open bool // there was no answer
	no   bool // 404 or 412
	seq  int  // of get, 0 if there is none
	etag string
}

// ruleState is a rule as the model has it: seq 0 is none, and the etag of a write without an answer is not known.
type ruleState struct {
	seq  int
	etag string
}

const unknownTag = "?"

// ruleModel is what a registry with one rule does, one operation after the other.
var ruleModel = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := map[string][]porcupine.Operation{}
		for _, o := range history {
			name := o.Input.(ruleOp).name
			parts[name] = append(parts[name], o)
		}
		var out [][]porcupine.Operation
		for _, p := range parts {
			out = append(out, p)
		}
		return out
	},
	Init: func() []any { return []any{ruleState{}} },
	Step: func(state, input, output any) []any {
		var next []any
		for _, s := range step(state.(ruleState), input.(ruleOp), output.(ruleAnswer)) {
			next = append(next, s)
		}
		return next
	},
}

// step gives the states in which the operation may leave the rule; none if it cannot have been answered so.
func step(s ruleState, op ruleOp, a ruleAnswer) []ruleState {
	if a.open {
		return stepOpen(s, op)
	}
	matches := s.seq != 0 && (s.etag == unknownTag || s.etag == op.guard)
	switch {
	case op.what == "get" && a.seq == s.seq && (s.etag == unknownTag || s.etag == a.etag):
		return []ruleState{{a.seq, a.etag}}
	case op.what == "put" && !a.no, op.what == "swap" && !a.no && matches:
		return []ruleState{{op.seq, a.etag}}
	case op.what == "swap" && a.no && (s.seq == 0 || s.etag != op.guard):
		return []ruleState{s}
	case op.what == "delete" && a.no == (s.seq == 0):
		return []ruleState{{}}
	}
	return nil
}

func stepOpen(s ruleState, op ruleOp) []ruleState {
	switch op.what {
	case "put":
		return []ruleState{{op.seq, unknownTag}}
	case "swap":
		return []ruleState{s, {op.seq, unknownTag}}
	case "delete":
		return []ruleState{{}}
	}
	return []ruleState{s}
}

// history records operations.
type history struct {
	began      time.Time
	mu         sync.Mutex
	operations []porcupine.Operation
	open       int
	seq        atomic.Int64
	clients    int
}

func newHistory() *history { return &history{began: time.Now()} }

const (
	rulesPerRound   = 10
	clientsPerRound = 16
)

// round makes operations until there are so many in all, kills the registry under them, starts it again and reads what
// is there. Each round has rules of its own, so that an operation without an answer concerns only that round.
func (h *history) round(t *testing.T, r *registry, round, until int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range clientsPerRound {
		h.clients++
		client := h.clients
		wg.Go(func() { h.client(ctx, t, r, client, round) })
	}
	eventually(t, "the operations of a round", 5*time.Minute, func() error {
		n := h.count()
		return errorUnless(n >= until, "%d of %d", n, until)
	})
	r.kill()
	cancel()
	wg.Wait()
	r.start(t)
	for i := range rulesPerRound {
		name := ruleName(round, i)
		h.do(t.Context(), t, r, 0, ruleOp{name: name, what: "get"})
		h.do(t.Context(), t, r, 0, ruleOp{name: name, what: "delete"})
	}
}

func ruleName(round, i int) string { return fmt.Sprintf("linear-%d-%d", round, i) }

// client makes random operations until the first that gets no answer.
func (h *history) client(ctx context.Context, t *testing.T, r *registry, client, round int) {
	tags := map[string]string{} // last seen
	for ctx.Err() == nil {
		op := ruleOp{name: ruleName(round, rand.IntN(rulesPerRound)), what: "get"}
		switch n := rand.IntN(10); {
		case n < 3:
			op.what, op.seq = "put", int(h.seq.Add(1))
		case n < 5 && tags[op.name] != "":
			op.what, op.seq, op.guard = "swap", int(h.seq.Add(1)), tags[op.name]
		case n < 6:
			op.what = "delete"
		}
		a := h.do(ctx, t, r, client, op)
		if a.open {
			return
		}
		if a.etag != "" {
			tags[op.name] = a.etag
		}
	}
}

// do makes one operation and records it.
func (h *history) do(ctx context.Context, t *testing.T, r *registry, client int, op ruleOp) ruleAnswer {
	o := porcupine.Operation{ClientId: client, Input: op, Call: int64(time.Since(h.began))}
	a := ask(ctx, t, r, op)
	o.Output, o.Return = a, int64(time.Since(h.began))
	h.mu.Lock()
	defer h.mu.Unlock()
	if a.open {
		h.open++
		o.Return = math.MaxInt64
	}
	if !a.open || op.what != "get" {
		h.operations = append(h.operations, o)
	}
	return a
}

func ask(ctx context.Context, t *testing.T, r *registry, op ruleOp) (a ruleAnswer) {
	path, headers := "/v1/rules/route/"+op.name, map[string]string{}
	var err error
	var doc document
	switch op.what {
	case "get":
		a.etag, err = r.call(ctx, http.MethodGet, path, "", &doc)
	case "delete":
		_, err = r.call(ctx, http.MethodDelete, path, "", nil)
	default:
		if op.guard != "" {
			headers["If-Match"] = `"` + op.guard + `"`
		}
		a.etag, err = r.callWith(ctx, http.MethodPut, path, route(op.name, op.seq), headers, nil)
	}
	var no *refusal
	switch {
	case errors.As(err, &no) && (no.status == http.StatusNotFound && op.what != "put" || no.status == http.StatusPreconditionFailed && op.what == "swap"):
		a.no = op.what != "get"
	case errors.As(err, &no):
		t.Errorf("%+v: %v", op, err)
		a.open = true
	case err != nil:
		a.open = true
	case op.what == "get":
		if a.seq, err = doc.seq(); err != nil {
			t.Error(err)
		}
	}
	return a
}

func (h *history) count() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.operations)
}
