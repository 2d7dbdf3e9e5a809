package check

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errDown = errors.New("down")

// world is a source and what its instances answer; it runs in a bubble.
type world struct {
	t   *testing.T
	log bytes.Buffer
	*Checker

	mu      sync.Mutex
	set     map[catalog.InstanceKey]catalog.Checked
	fns     []func([]discovery.Name)
	found   map[catalog.InstanceKey]bool
	told    int // instances
	asked   map[string]int
	answer  map[string]error
	takes   time.Duration
	running int
	most    int
}

func (w *world) Checked() (out []catalog.Checked) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.set {
		out = append(out, c)
	}
	return out
}

func (w *world) Subscribe(fn func([]discovery.Name)) func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fns = append(w.fns, fn)
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.fns = nil
	}
}

func (w *world) SetChecked(unhealthy map[catalog.InstanceKey]bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told += len(unhealthy)
	maps.Copy(w.found, unhealthy)
}

func (w *world) probe(ctx context.Context, c catalog.Checked) error {
	w.mu.Lock()
	w.asked[c.ID]++
	takes, answer := w.takes, w.answer[c.Instance.Address]
	w.running++
	w.most = max(w.most, w.running)
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.running--
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(takes):
		return answer
	}
}

func key(id string) catalog.InstanceKey {
	return catalog.InstanceKey{Service: discovery.Name{Service: "product", Namespace: "default"}, ID: id}
}

// put registers an instance and tells the checker.
func (w *world) put(id string, edit func(*catalog.Checked)) {
	c := catalog.Checked{InstanceKey: key(id), Check: catalog.Check{Type: "tcp"}}
	c.Instance = discovery.Instance{ID: id, Service: "product", Address: id + ":80", Process: "p", Weight: 100}
	if edit != nil {
		edit(&c)
	}
	w.mu.Lock()
	w.set[c.InstanceKey] = c
	w.mu.Unlock()
	w.notify()
}

func (w *world) remove(id string) {
	w.mu.Lock()
	delete(w.set, key(id))
	w.mu.Unlock()
	w.notify()
}

func (w *world) notify() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, fn := range w.fns {
		fn(nil)
	}
}

func (w *world) answers(id string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer[id+":80"] = err
}

// times says how often an instance was asked.
func (w *world) times(id string) int {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[id]
}

func (w *world) want(id string, unhealthy bool) {
	w.t.Helper()
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.found[key(id)] != unhealthy {
		w.t.Errorf("%s: unhealthy is %v after it was asked %d times", id, w.found[key(id)], w.asked[id])
	}
}

func bubble(t *testing.T, test func(*world)) { within(t, true, test) }

func within(t *testing.T, enabled bool, test func(*world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, set: make(map[catalog.InstanceKey]catalog.Checked), found: make(map[catalog.InstanceKey]bool),
			asked: make(map[string]int), answer: make(map[string]error),
		}
		w.Checker = start(w, Options{Enabled: enabled, Log: slog.New(slog.NewTextHandler(&w.log, nil))}, w.probe)
		defer w.Close()
		synctest.Wait()
		test(w)
	})
}

func TestOffUnlessEnabled(t *testing.T) {
	for _, enabled := range []bool{false, true} {
		within(t, enabled, func(w *world) {
			w.put("a", nil)
			time.Sleep(time.Minute)
			synctest.Wait()
			if asked := w.times("a") > 0; asked != enabled {
				t.Errorf("enabled %v: it was asked %d times", enabled, w.times("a"))
			}
		})
	}
}

// TestFailuresInARow: two failures say nothing, three do, and one success takes it back.
func TestFailuresInARow(t *testing.T) {
	bubble(t, func(w *world) {
		w.put("a", nil)
		once := func() {
			before := w.times("a")
			for w.times("a") == before {
				time.Sleep(time.Second)
				synctest.Wait()
			}
		}
		for range 3 {
			w.answers("a", errDown)
			once()
			once()
			w.want("a", false)
			w.answers("a", nil)
			once() // the row is broken
		}
		w.answers("a", errDown)
		for range 3 {
			w.want("a", false)
			once()
		}
		w.want("a", true)
		once()
		w.answers("a", nil)
		w.want("a", true)
		once()
		w.want("a", false)
		if w.told != 3 || strings.Count(w.log.String(), "check:") != 2 {
			t.Errorf("told %d times, want 3: unhealthy, still so, healthy; log %s", w.told, &w.log)
		}
	})
}

// TestTerms: interval, timeout and failures are those of the check.
func TestTerms(t *testing.T) {
	bubble(t, func(w *world) {
		w.takes = time.Hour
		w.put("a", func(c *catalog.Checked) {
			c.Check.Interval, c.Check.Timeout, c.Check.Failures = time.Minute, 30*time.Second, 1
		})
		for w.times("a") == 0 {
			time.Sleep(time.Second)
			synctest.Wait()
		}
		time.Sleep(28 * time.Second)
		w.want("a", false)
		time.Sleep(2 * time.Second)
		w.want("a", true)
	})
}

// TestInterval: 100 intervals are 100 checks, not all at the same distance.
func TestInterval(t *testing.T) {
	bubble(t, func(w *world) {
		const n = 50
		for i := range n {
			w.put(fmt.Sprint(i), nil)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		w.mu.Lock()
		early := len(w.asked)
		w.mu.Unlock()
		if early < n/5 || early > n*4/5 {
			t.Errorf("%d of %d were asked in the first half of the first interval", early, n)
		}
		time.Sleep(1000 * time.Second)
		w.Close()
		for id, asked := range w.asked {
			if asked < 95 || asked > 105 {
				t.Errorf("%s was asked %d times in 100 intervals", id, asked)
			}
		}
		due := make(map[time.Duration]bool)
		for _, target := range w.targets {
			due[target.due.Sub(w.targets[key("0")].due)] = true
		}
		if len(due) < n/2 {
			t.Errorf("%d times of %d checks: they march in step", len(due), n)
		}
	})
}

// TestBoundedConcurrency: of 1,000 instances that do not answer 64 are asked at once.
func TestBoundedConcurrency(t *testing.T) {
	bubble(t, func(w *world) {
		w.takes = time.Hour
		for i := range 1000 {
			w.put(fmt.Sprint(i), func(c *catalog.Checked) { c.Check.Failures = 1 })
		}
		time.Sleep(2 * time.Minute)
		w.Close()
		if w.most != maxRunning {
			t.Errorf("%d checks at once, want %d", w.most, maxRunning)
		}
		if len(w.asked) != 1000 || len(w.found) != 1000 {
			t.Errorf("%d asked and %d found, want 1000: each has its turn", len(w.asked), len(w.found))
		}
	})
}

// TestGoneMeanwhile: the result of an instance that was removed, replaced or is no longer checked while it was asked is
// dropped; the control is one that stays, with another label.
func TestGoneMeanwhile(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*world)
		want   bool
	}{
		{"removed", func(w *world) { w.remove("a") }, false},
		{"other address", func(w *world) {
			w.put("a", func(c *catalog.Checked) { c.Instance.Address, c.Check.Failures = "new:80", 1 })
		}, false},
		{"other process", func(w *world) {
			w.put("a", func(c *catalog.Checked) { c.Instance.Process, c.Check.Failures = "q", 1 })
		}, false},
		{"other check", func(w *world) {
			w.put("a", func(c *catalog.Checked) { c.Check.Path, c.Check.Failures = "/", 1 })
		}, false},
		{"other label", func(w *world) {
			w.put("a", func(c *catalog.Checked) {
				c.Instance.Labels, c.Check.Failures = map[string]string{"v": "2"}, 1
			})
		}, true},
		{"other instance", func(w *world) { w.put("b", nil) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(w *world) {
				w.answers("a", errDown)
				w.takes = time.Second
				w.put("a", func(c *catalog.Checked) { c.Check.Failures = 1 })
				for w.times("a") == 0 {
					time.Sleep(100 * time.Millisecond)
					synctest.Wait()
				}
				w.answers("a", nil)
				tt.change(w)
				time.Sleep(time.Second)
				w.want("a", tt.want)
				if asked := w.times("a"); tt.want && asked != 1 {
					t.Errorf("asked %d times: a running check was restarted", asked)
				}
			})
		})
	}
}

// TestReplacedWhileUnhealthy: the next instance under the id is not held for what the last did; one whose labels change is
// told again.
func TestReplacedWhileUnhealthy(t *testing.T) {
	bubble(t, func(w *world) {
		for _, id := range []string{"moved", "unchecked", "labelled"} {
			w.answers(id, errDown)
			w.put(id, nil)
		}
		time.Sleep(time.Minute)
		for _, id := range []string{"moved", "unchecked", "labelled"} {
			w.want(id, true)
		}
		w.SetChecked(map[catalog.InstanceKey]bool{key("labelled"): false}) // the catalog forgot it with the write
		w.put("moved", func(c *catalog.Checked) { c.Instance.Address = "new:80" })
		w.put("labelled", func(c *catalog.Checked) { c.Instance.Weight = 7 })
		w.remove("unchecked")
		time.Sleep(2 * time.Second)
		w.want("moved", false)
		w.want("unchecked", false)
		time.Sleep(10 * time.Second)
		w.want("labelled", true)
		w.Close()
		if len(w.targets) != 2 || len(w.queue)+w.running < 2 {
			t.Errorf("%d targets, %d waiting", len(w.targets), len(w.queue))
		}
	})
}

// TestChurn: what is removed does not stay in the queue until it would have been due.
func TestChurn(t *testing.T) {
	bubble(t, func(w *world) {
		for i := range 500 {
			w.put(fmt.Sprint(i), func(c *catalog.Checked) { c.Check.Interval = time.Hour })
			time.Sleep(2 * time.Second)
			w.remove(fmt.Sprint(i))
		}
		time.Sleep(2 * time.Second)
		w.Close()
		if len(w.queue) > 0 || len(w.targets) > 0 {
			t.Errorf("%d waiting, %d targets", len(w.queue), len(w.targets))
		}
	})
}

// TestDeniedSaysNothing: a check that may not be made is logged once, and changes nothing.
func TestDeniedSaysNothing(t *testing.T) {
	bubble(t, func(w *world) {
		w.answers("a", fmt.Errorf("dial: %w", &deniedError{"127.0.0.1:80", "loopback"}))
		w.put("a", nil)
		time.Sleep(10 * time.Minute)
		w.want("a", false)
		w.Close()
		if got := w.log.String(); strings.Count(got, "not checked") != 1 || !strings.Contains(got, "127.0.0.1:80 is loopback") {
			t.Errorf("log %s", got)
		}
		if w.times("a") < 50 {
			t.Errorf("asked %d times: its name may resolve to something else later", w.times("a"))
		}
	})
}

// TestClose: it ends the checks that run, and can be called again.
func TestClose(t *testing.T) {
	bubble(t, func(w *world) {
		w.takes = time.Hour
		for i := range 200 {
			w.put(fmt.Sprint(i), func(c *catalog.Checked) { c.Check.Interval, c.Check.Timeout = time.Hour, time.Minute })
		}
		time.Sleep(30 * time.Minute)
		began := time.Now()
		w.Close()
		w.Close()
		if w.running != 0 || time.Since(began) != 0 {
			t.Errorf("%d run after %v", w.running, time.Since(began))
		}
		if len(w.fns) != 0 {
			t.Error("still subscribed")
		}
	})
}
