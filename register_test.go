package weft_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/weftmesh/weft"
	"github.com/weftmesh/weft/discovery"
)

// registrar is a source that registers in memory; it is its own registration.
type registrar struct {
	entered, goOn chan struct{} // if set, Register says that it began, and waits
	updateErr     error
	hold          chan struct{} // if set, Update waits for it or for the end of its context
	away          func() bool   // nil: never

	mu    sync.Mutex
	seen  []discovery.Instance // by Register and Update
	close int
}

func (*registrar) Watch(ctx context.Context, service string, apply func(discovery.Snapshot)) error {
	apply(discovery.Snapshot{Service: service, Missing: true})
	<-ctx.Done()
	return ctx.Err()
}

func (r *registrar) Register(_ context.Context, in discovery.Instance) (discovery.Registration, error) {
	if r.entered != nil {
		close(r.entered)
		<-r.goOn
	}
	r.keep(in)
	return r, nil
}

func (r *registrar) keep(in discovery.Instance) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, in)
}

func (*registrar) Acked() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

func (r *registrar) Update(ctx context.Context, in discovery.Instance) error {
	if err := in.Validate(); err != nil {
		return err
	}
	if r.hold != nil {
		select {
		case <-r.hold:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.keep(in)
	return r.updateErr
}

func (r *registrar) Away() bool { return r.away != nil && r.away() }

func (r *registrar) Close(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.close++
	return nil
}

var here = weft.Instance{Address: "127.0.0.1:1", Protocol: weft.HTTP}

func register(t *testing.T, m *weft.Mesh) *weft.Registration {
	t.Helper()
	reg, err := m.Register(t.Context(), here)
	if err != nil {
		t.Fatal(err)
	}
	return reg
}

// Labels and locality of the process are those of its instance, also after an Update; the instance's own come first.
func TestInstanceHasWhatTheProcessHas(t *testing.T) {
	r := &registrar{}
	m := join(t, weft.WithService("web"), weft.WithSource(r), weft.WithLabels(map[string]string{"zone": "a", "tier": "gold"}),
		weft.WithLocality("eu", "eu-1"))
	in := here
	in.Labels = map[string]string{"tier": "own"}
	reg, err := m.Register(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if err := reg.Update(t.Context(), weft.Instance{Weight: 50}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(discovery.Locality{Region: "eu", Zone: "eu-1"}, r.seen[0].Locality); diff != "" {
		t.Error(diff)
	}
	for i, want := range []map[string]string{{"zone": "a", "tier": "own"}, {"zone": "a", "tier": "gold"}} {
		if diff := cmp.Diff(want, r.seen[i].Labels); diff != "" {
			t.Errorf("labels after step %d: %s", i+1, diff)
		}
	}
}

func TestRegisterAfterClose(t *testing.T) {
	r := &registrar{}
	m := join(t, weft.WithService("web"), weft.WithSource(r))
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Register(t.Context(), here); err == nil || !strings.Contains(err.Error(), "closed") || len(r.seen) > 0 {
		t.Errorf("Register after Close: %v, and %d instances registered", err, len(r.seen))
	}
}

// A mesh that is closed while Register is under way leaves nothing registered.
func TestCloseDuringRegister(t *testing.T) {
	r := &registrar{entered: make(chan struct{}), goOn: make(chan struct{})}
	m := join(t, weft.WithService("web"), weft.WithSource(r))
	registered := make(chan error, 1)
	go func() {
		_, err := m.Register(context.Background(), here)
		registered <- err
	}()
	<-r.entered
	if err := m.Close(t.Context()); err != nil {
		t.Error(err)
	}
	close(r.goOn)
	if err := <-registered; err == nil || r.close != 1 {
		t.Errorf("Register: %v, closed %d times; want an error and one Close", err, r.close)
	}
}

// Close of a Registration waits for the calls in flight, also when the registry is away.
func TestRegistrationCloseAwaitsCalls(t *testing.T) {
	for name, updateErr := range map[string]error{"registry there": nil, "registry away": errors.New("away")} {
		for _, calls := range []int{1, 0} { // control: without a call there is nothing to wait for
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := join(t, weft.WithService("web"), weft.WithSource(&registrar{updateErr: updateErr}))
					finish := make(chan struct{})
					handler := m.Handler(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-finish }))
					for range calls {
						go handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil))
					}
					synctest.Wait()
					reg := register(t, m)
					over := make(chan struct{})
					go func() {
						defer close(over)
						if err := reg.Close(context.Background()); !errors.Is(err, updateErr) {
							t.Errorf("Close: %v, want %v", err, updateErr)
						}
					}()
					time.Sleep(time.Second)
					select {
					case <-over:
						if calls > 0 {
							t.Error("Close returned with a call in flight")
						}
					default:
						if calls == 0 {
							t.Error("Close waits for nothing")
						}
					}
					close(finish)
					<-over
				})
			})
		}
	}
}

// Close does not wait for a registry that is away, from the beginning or later on.
func TestCloseWithTheRegistryAway(t *testing.T) {
	for name, tc := range map[string]struct {
		after, least, most time.Duration
	}{
		"away":              {0, 0, 200 * time.Millisecond},
		"away after 1 s":    {time.Second, time.Second, 1200 * time.Millisecond},
		"control: it hangs": {time.Hour, 5 * time.Second, 7 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				m := join(t, weft.WithService("web"), weft.WithSource(&registrar{hold: make(chan struct{}), away: func() bool { return time.Since(start) >= tc.after }}))
				reg := register(t, m)
				err := reg.Close(context.Background())
				if took := time.Since(start); err == nil || took < tc.least || took > tc.most {
					t.Errorf("Close took %s, want %s to %s: %v", took, tc.least, tc.most, err)
				}
			})
		})
	}
}

// Nothing comes after the update that drains: neither one that was under way when Close began, nor one that came later.
func TestUpdateWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &registrar{hold: make(chan struct{})}
		m := join(t, weft.WithService("web"), weft.WithSource(r))
		reg := register(t, m)
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() { _ = reg.Update(t.Context(), weft.Instance{Weight: i + 1, State: discovery.Up}) })
		}
		synctest.Wait()
		all.Go(func() {
			if err := reg.Close(context.Background()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		if err := reg.Update(t.Context(), weft.Instance{State: discovery.Up}); err == nil {
			close(r.hold)
			t.Fatal("an update after Close has begun is taken")
		}
		close(r.hold)
		all.Wait()
		if last := r.seen[len(r.seen)-1]; last.State != discovery.Draining {
			t.Errorf("the last of %d updates says %q, want draining", len(r.seen), last.State)
		}
	})
}

// An update that is refused leaves the instance as it was, so that it can still drain.
func TestARefusedUpdateIsForgotten(t *testing.T) {
	r := &registrar{}
	m := join(t, weft.WithService("web"), weft.WithSource(r))
	reg := register(t, m)
	if err := reg.Update(t.Context(), weft.Instance{Weight: -1}); !errors.Is(err, discovery.ErrInvalid) {
		t.Fatalf("Update: %v, want ErrInvalid", err)
	}
	if got := reg.Instance().Weight; got != discovery.DefaultWeight {
		t.Errorf("the weight is %d, want the default", got)
	}
	if err := reg.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if last := r.seen[len(r.seen)-1]; last.State != discovery.Draining {
		t.Errorf("the last update says %q, want draining", last.State)
	}
}

// A hundred registrations leave side by side.
func TestCloseOfManyRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := join(t, weft.WithService("web"), weft.WithSource(&registrar{hold: make(chan struct{})})) // each takes 5 s
		for range 100 {
			register(t, m)
		}
		start := time.Now()
		err := m.Close(t.Context())
		if took := time.Since(start); err == nil || took < 5*time.Second || took > 7*time.Second {
			t.Errorf("Close took %s: %v", took, err)
		}
	})
}

// Close of a Mesh ends with its context, though a source goes on.
func TestCloseEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		m, err := weft.New(weft.WithService("web"), weft.WithSource(discovery.SourceFunc(
			func(context.Context, string, func(discovery.Snapshot)) error { <-release; return nil })))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		err = m.Close(ctx)
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took < time.Second || took > 2*time.Second {
			t.Errorf("Close took %s: %v", took, err)
		}
		close(release)
	})
}
