package session

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/access"
	"github.com/weftmesh/weft/rule"
)

// used gives n clients that use product and have acknowledged its state, each with the last update that it had.
func (f *fixture) used(n int) []*client {
	var list []*client
	for i := range n {
		c := f.connect(fmt.Sprintf("caller-%d", i))
		c.subscribe("product.shop", discovery.Revision{})
		u, _ := c.update()
		c.ack(u)
		list = append(list, c)
	}
	synctest.Wait()
	return list
}

func (c *client) settle(seq uint64, timeout time.Duration, services ...string) {
	c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Settle{Settle: &weftv1.Settle{
		Seq: seq, Services: services, TimeoutMs: uint32(timeout.Milliseconds()),
	}}})
}

func (c *client) settled() *weftv1.Settled {
	c.t.Helper()
	s := c.recv().GetSettled()
	if s == nil {
		c.t.Fatal("not a Settled")
	}
	return s
}

// await runs Await beside the test; done reports whether it has returned.
func (f *fixture) await(ctx context.Context, services []discovery.Name, at discovery.Revision, share float64) (progress func() Progress, done func() bool) {
	ended := make(chan Progress, 1)
	go func() { ended <- f.srv.Await(ctx, services, at, share) }()
	synctest.Wait()
	return func() Progress { return <-ended }, func() bool { synctest.Wait(); return len(ended) == 1 }
}

func TestAwait(t *testing.T) {
	all := []discovery.Name{{Service: rule.AllServices, Namespace: "shop"}}
	for name, services := range map[string][]discovery.Name{"the service": {product}, "all of the namespace": all, "both": append(all, product)} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Options{}, func(f *fixture) {
				f.put("p1", nil)
				callers := f.used(4)
				stranger := f.connect("stranger")
				defer stranger.close()
				before := f.cat.At(product)
				at := f.put("p1", func(in *discovery.Instance) { in.Weight = 7 })
				if p := f.srv.Await(f.t.Context(), services, before, 1); p != (Progress{4, 4}) {
					t.Errorf("the revision before: %+v", p)
				}
				half, halfDone := f.await(f.t.Context(), services, at, 0.5)
				whole, wholeDone := f.await(f.t.Context(), services, at, 1)
				for i, c := range callers[:2] {
					if halfDone() {
						t.Errorf("half of them after %d of 4", i)
					}
					u, _ := c.update()
					c.ack(u)
				}
				if !halfDone() || half() != (Progress{4, 2}) {
					t.Error("half of them: not after 2 of 4")
				}
				callers[2].close() // it does not count any more
				if wholeDone() {
					t.Error("all of them after 2 of 3")
				}
				late := f.connect("late") // it counts from now on
				late.subscribe("product.shop", before)
				synctest.Wait()
				u, _ := callers[3].update()
				callers[3].ack(u)
				if wholeDone() {
					t.Error("all of them, without the one that came")
				}
				u, _ = late.update()
				late.ack(u)
				if !wholeDone() || whole() != (Progress{4, 4}) {
					t.Error("all of them: not when they were")
				}
				for _, c := range append(callers, late) {
					c.close()
				}
				f.srv.mu.Lock()
				defer f.srv.mu.Unlock()
				if len(f.srv.awaits) > 0 || f.srv.awaited != 0 {
					t.Errorf("%d awaits and %d entries are left", len(f.srv.awaits), f.srv.awaited)
				}
			})
		})
	}
}

func TestAwaitEnds(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.put("p1", nil)
		callers := f.used(2)
		at := f.put("p1", func(in *discovery.Instance) { in.Weight = 7 })
		u, _ := callers[0].update()
		callers[0].ack(u)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if p := f.srv.Await(ctx, []discovery.Name{product}, at, 1); p != (Progress{2, 1}) || time.Since(begin) != time.Second {
			t.Errorf("%+v after %v", p, time.Since(begin))
		}
		other := discovery.Revision{Epoch: at.Epoch + 1, Number: 1}
		if p := f.srv.Await(ctx, []discovery.Name{product}, other, 1); p != (Progress{2, 1}) {
			t.Errorf("a revision of another epoch: %+v", p)
		}
		if p := f.srv.Await(ctx, []discovery.Name{{Service: "nobody", Namespace: "shop"}}, at, 1); p != (Progress{}) {
			t.Errorf("a service that nobody uses: %+v", p)
		}
		f.srv.mu.Lock()
		f.srv.awaited = maxAwaited // as if others waited for as many as there may be
		f.srv.mu.Unlock()
		begin = time.Now()
		if p := f.srv.Await(f.t.Context(), []discovery.Name{product}, at, 1); p != (Progress{2, 1}) || time.Since(begin) != 0 {
			t.Errorf("at the bound: %+v after %v", p, time.Since(begin))
		}
		for _, c := range callers {
			c.close()
		}
	})
}

// An instance that drains is pushed as urgent, and Settle is answered when its callers know.
func TestSettle(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		p := f.connect("proc-1")
		defer p.close()
		p.register(p.instance("p1"))
		callers := f.used(2)
		draining := p.instance("p1")
		draining.State = "draining"
		p.register(draining)
		p.settle(7, 5*time.Second, "product.shop")
		for _, c := range callers {
			u, _ := c.update()
			if !u.Urgent {
				t.Error("the update is not urgent")
			}
			time.Sleep(time.Second)
			c.ack(u)
		}
		begin := time.Now()
		if got := p.settled(); got.Seq != 7 || got.Live != 2 || got.Acked != 2 || time.Since(begin) != 0 {
			t.Errorf("%v after %v", got, time.Since(begin))
		}
		p.register(p.instance("p1")) // nobody acknowledges this
		if u, _ := callers[0].update(); u.Urgent {
			t.Error("an instance that comes back is urgent")
		}
		for range maxSettles {
			p.settle(8, 5*time.Second, "product.shop")
		}
		begin = time.Now()
		p.settle(9, 5*time.Second, "product.shop")
		if got := p.settled(); got.Seq != 9 || got.Acked != 0 || time.Since(begin) != 0 {
			t.Errorf("one too many: %v after %v", got, time.Since(begin))
		}
		for range maxSettles {
			if got := p.settled(); got.Seq != 8 || got.Live != 2 || got.Acked != 0 {
				t.Errorf("out of time: %v", got)
			}
		}
		if waited := time.Since(begin); waited != 5*time.Second {
			t.Errorf("waited %v", waited)
		}
		for _, c := range callers {
			c.close()
		}
	})
}

func TestSettleIsBounded(t *testing.T) {
	for name, services := range map[string][]string{"services": make([]string, maxSettled+1), "a name": {"no name"}} {
		bubble(t, Options{}, func(f *fixture) {
			c := f.connect("proc-1")
			defer c.close()
			c.settle(1, time.Second, services...)
			if got := c.failure(); got.Code() != codes.InvalidArgument {
				t.Errorf("%s: %v", name, got)
			}
		})
	}
}

// grants gives everybody who says "token n" a grant of that id.
func grants(_ context.Context, token, _ string) (access.Grant, error) {
	return access.Grant{ID: token, Name: "name of " + token, Role: access.Workload}, nil
}

// Who waits makes the clients hurry: after what was sent already, and after what is sent meanwhile. Nobody else does.
func TestAwaitHurries(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.put("p1", nil)
		c := f.used(1)[0]
		defer c.close()
		change := func(weight int) discovery.Revision {
			return f.put("p1", func(in *discovery.Instance) { in.Weight = weight })
		}
		at := change(7)
		synctest.Wait()
		progress, _ := f.await(f.t.Context(), []discovery.Name{product}, at, 1) // it was sent
		u := c.any().GetUpdate()
		if u == nil || c.any().GetHurry() == nil {
			t.Error("want the update, then that somebody waits")
		}
		c.ack(u)
		if p := progress(); p != (Progress{1, 1}) {
			t.Errorf("%+v", p)
		}
		progress, _ = f.await(f.t.Context(), []discovery.Name{product}, discovery.Revision{Epoch: at.Epoch, Number: at.Number + 1}, 1)
		progress() // there is nothing newer
		change(8)  // the control: nobody waits
		change(9)
		first, second := c.any().GetUpdate(), c.any().GetUpdate()
		if first == nil || second == nil {
			t.Error("asked to hurry for nobody")
		}
		c.ack(second)
		synctest.Wait()
		f.srv.mu.Lock() // holds the push back
		at = change(10)
		f.srv.mu.Unlock()
		progress, _ = f.await(f.t.Context(), []discovery.Name{product}, at, 1)
		u = c.any().GetUpdate()
		if u == nil || c.any().GetHurry() == nil {
			t.Error("want the update, then that somebody waits")
		}
		c.ack(u)
		if p := progress(); p != (Progress{1, 1}) {
			t.Errorf("%+v", p)
		}
	})
}
