//go:build unix

package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftmesh/weft/discovery"
)

// Whoever follows GET /v1/watch misses nothing, sees nothing twice and nothing too early, however often the connection
// breaks: each writer's rule goes through its sequence numbers one by one.
func TestWatchHasNoGap(t *testing.T) {
	const writers = 8
	each := 3_000 / writers
	switch {
	case full():
		each = 100_000 / writers
	case proving():
		each = 20_000 / writers
	}
	r, w := newRegistry(t), newFollower()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if _, err := r.call(ctx, http.MethodPut, "/v1/rules/route/begin", route("begin", 1), nil); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { w.follow(ctx, t, r) })
	eventually(t, "the watch has begun", 10*time.Second, func() error {
		_, err := r.call(ctx, http.MethodPut, "/v1/rules/route/begin", route("begin", rand.Int()), nil)
		return errors.Join(err, errorUnless(w.seen("begin") > 0, "nothing came"))
	})
	for i := range writers {
		wg.Go(func() {
			name := fmt.Sprintf("w%d", i)
			for seq := 1; seq <= each && ctx.Err() == nil; seq++ {
				if _, err := r.call(ctx, http.MethodPut, "/v1/rules/route/"+name, route(name, seq), nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	eventually(t, "all events have come", 5*time.Minute, func() error {
		for i := range writers {
			if got := w.seen(fmt.Sprintf("w%d", i)); got < each {
				return errorUnless(t.Failed(), "writer %d: %d of %d", i, got, each)
			}
		}
		return nil
	})
	cancel()
	wg.Wait()
	for _, fault := range w.faults {
		t.Error(fault)
	}
	t.Logf("%d events over %d connections", w.events, w.connections)
	if w.connections < 10 {
		t.Errorf("%d connections: the watch was hardly ever resumed", w.connections)
	}
}

// Control: a watch that forgets where it was is found to have a gap or to repeat itself.
func TestAGapIsNoticed(t *testing.T) {
	for what, seqs := range map[string][]int{"gap": {1, 2, 4}, "repetition": {1, 2, 2}, "disorder": {2, 1}} {
		w := newFollower()
		for i, seq := range seqs {
			w.take(event{id: discovery.Revision{Epoch: 1, Number: uint64(i + 1)}, name: "w0", seq: seq})
		}
		if len(w.faults) == 0 {
			t.Errorf("a %s is not noticed", what)
		}
	}
}

// follower is the reader of a watch.
type follower struct {
	mu                  sync.Mutex
	last                discovery.Revision
	seqs                map[string]int // by rule
	events, connections int
	faults              []string
}

type event struct {
	id   discovery.Revision
	name string
	seq  int
}

func newFollower() *follower { return &follower{seqs: map[string]int{}} }

func (w *follower) seen(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seqs[name]
}

// follow reads until ctx ends, and drops the connection every few hundred events.
func (w *follower) follow(ctx context.Context, t *testing.T, r *registry) {
	for ctx.Err() == nil {
		if err := w.connect(ctx, r, 1+rand.IntN(400)); err != nil && ctx.Err() == nil {
			t.Error(err)
			return
		}
		w.connections++
	}
}

// connect takes so many events from one connection. An event that was begun is not counted.
func (w *follower) connect(ctx context.Context, r *registry, most int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	headers := map[string]string{"Accept": "text/event-stream"}
	if !w.last.IsZero() {
		headers["Last-Event-ID"] = w.last.String()
	}
	resp, err := r.send(ctx, http.MethodGet, "/v1/watch", "", headers)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(resp.Body)
		return &refusal{resp.StatusCode, string(text)}
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for taken := 0; taken < most; {
		e, ok, err := w.read(lines)
		if err != nil {
			return err
		}
		if ok {
			w.take(e)
			taken++
		}
	}
	return nil
}

// read gives the next event of a rule.
func (w *follower) read(lines *bufio.Scanner) (e event, ok bool, err error) {
	kind, data := "", ""
	for lines.Scan() {
		field, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case lines.Text() == "" && kind == "rule":
			return w.parse(e, data)
		case lines.Text() == "" && kind == "reset":
			return e, false, errors.New("the registry says that the watch cannot be resumed")
		case lines.Text() == "":
			return e, false, nil
		case field == "id":
			if e.id, err = discovery.ParseRevision(value); err != nil {
				return e, false, err
			}
		case field == "event":
			kind = value
		case field == "data":
			data += value
		}
	}
	return e, false, errors.Join(lines.Err(), io.ErrUnexpectedEOF)
}

func (w *follower) parse(e event, data string) (event, bool, error) {
	var body struct{ Rule document }
	if err := json.Unmarshal([]byte(data), &body); err != nil {
		return e, false, err
	}
	seq, err := body.Rule.seq()
	e.name, e.seq = body.Rule.Name, seq
	return e, true, err
}

func (w *follower) take(e event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.id.Number <= w.last.Number || w.last.Epoch != 0 && e.id.Epoch != w.last.Epoch {
		w.faults = append(w.faults, fmt.Sprintf("event %s comes after %s", e.id, w.last))
	}
	if before := w.seqs[e.name]; e.name != "begin" && e.seq != before+1 {
		w.faults = append(w.faults, fmt.Sprintf("rule %s: %d comes after %d at %s", e.name, e.seq, before, e.id))
	}
	w.last, w.seqs[e.name] = e.id, e.seq
	w.events++
}
