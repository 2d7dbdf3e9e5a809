package registry

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
)

func web() discovery.Instance {
	return discovery.Instance{ID: "i", Address: "10.0.0.1:80", Protocol: discovery.HTTP, Labels: map[string]string{"version": "v1"}}
}

func TestRegister(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		reg, err := s.Register(t.Context(), web())
		if err != nil {
			t.Fatal(err)
		}
		<-reg.Acked()
		want := &weftv1.Instance{
			Id: "i", Service: "web", Namespace: "shop", Process: s.process, Address: "10.0.0.1:80", Protocol: "http",
			Labels: map[string]string{"version": "v1"},
		}
		wantRegistered(t, w, want)

		// Labels, weight, locality and state change; the rest stays.
		change := discovery.Instance{ID: "other", Address: "other:1", Weight: 7, Locality: discovery.Locality{Zone: "z"}, State: discovery.Draining}
		if err := reg.Update(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		want.Labels, want.Weight, want.Zone, want.State = nil, 7, "z", "draining"
		wantRegistered(t, w, want)
		if err := reg.Update(t.Context(), discovery.Instance{Weight: -1}); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("bad update: %v", err)
		}

		w.server.Stop()
		w.server.Reset(8)
		w.server.Start()
		settle(5 * time.Second)
		wantRegistered(t, w, want) // the same id after a restart

		if err := reg.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantRegistered(t, w)
		w.close(s)
	})
}

func wantRegistered(t *testing.T, w *world, want ...*weftv1.Instance) {
	t.Helper()
	byID := map[string]*weftv1.Instance{}
	for _, in := range want {
		byID[in.Id] = in
	}
	if d := cmp.Diff(byID, w.server.Instances(), protocmp.Transform()); d != "" {
		t.Error(d)
	}
}

func TestRegisterFillsIn(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		in := web()
		in.ID, in.Address = "", "[::]:8080"
		if _, err := s.Register(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		for id, got := range w.server.Instances() {
			if id == "" || got.Address != "127.0.0.1:8080" {
				t.Errorf("id %q, address %q", id, got.Address)
			}
		}
		w.close(s)
	})
}

func TestRegisterRefuses(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) { // the registry is away
		s := w.source()
		in := web()
		in.Protocol = "udp"
		start := time.Now()
		if _, err := s.Register(t.Context(), in); !errors.Is(err, discovery.ErrInvalid) || time.Since(start) != 0 {
			t.Errorf("error %v after %v, want ErrInvalid at once", err, time.Since(start))
		}
		w.close(s)
		if _, err := s.Register(t.Context(), web()); err == nil {
			t.Error("after Close: no error")
		}
	})
	bubble(t, func(t *testing.T, w *world) {
		w.server.Refuse = func(*weftv1.Instance) *weftv1.Refusal { return &weftv1.Refusal{Code: "invalid", Message: "no"} }
		w.server.Start()
		s := w.source()
		if _, err := s.Register(t.Context(), web()); !errors.Is(err, discovery.ErrInvalid) {
			t.Errorf("error %v, want ErrInvalid", err)
		}
		w.close(s)
	})
}

func TestReady(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		asked := 0
		in := web()
		in.Ready = func(context.Context) error {
			if asked++; asked < 4 {
				return errors.New("warming up")
			}
			return nil
		}
		reg, err := s.Register(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		state := func() string { return w.server.Instances()["i"].GetState() }
		for range 3 {
			settle(time.Millisecond)
			if state() != "starting" {
				t.Errorf("state %q before it is ready", state())
			}
			if err := reg.Update(t.Context(), discovery.Instance{State: discovery.Up}); err != nil {
				t.Fatal(err)
			}
			settle(time.Second - time.Millisecond)
		}
		if state() != "up" || asked != 4 {
			t.Errorf("state %q after %d questions", state(), asked)
		}
		w.close(s)
		settle(time.Minute)
		if asked != 4 {
			t.Error("asked after it was ready")
		}
	})
}

func TestCloseWithdraws(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		in := web()
		in.Ready = func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
		for _, id := range []string{"a", "b"} {
			in.ID = id
			if _, err := s.Register(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		if got := len(w.server.Instances()); got != 2 {
			t.Fatalf("control: %d instances", got)
		}
		w.close(s)
		wantRegistered(t, w)
	})
	bubble(t, func(t *testing.T, w *world) { // with the registry away Close does not wait
		w.server.Start()
		s := w.source()
		if _, err := s.Register(t.Context(), web()); err != nil {
			t.Fatal(err)
		}
		w.server.Stop()
		settle(time.Second)
		start := time.Now()
		if err := s.Close(); err == nil || time.Since(start) != 0 {
			t.Errorf("error %v after %v, want one at once", err, time.Since(start))
		}
	})
}

// Close ends with its context, though a Ready does not.
func TestCloseWithAReadyThatHangs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.server.Start()
		s := w.source()
		release := make(chan struct{})
		in := web()
		in.Ready = func(context.Context) error { <-release; return nil }
		reg, err := s.Register(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := reg.Close(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("error %v after %v, want the context's after 1 s", err, time.Since(start))
		}
		wantRegistered(t, w) // it is not waited for to say so
		close(release)
		w.close(s)
	})
}
