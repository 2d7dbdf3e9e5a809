package session

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	weftv1 "github.com/weftmesh/weft/api/weft/v1"
	"github.com/weftmesh/weft/discovery"
	"github.com/weftmesh/weft/internal/registry/catalog"
	"github.com/weftmesh/weft/internal/registry/store"
)

// One change is encoded once for all that know the same, and once more for each that knows something else.
func TestEncodedOnce(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.put("p1", nil)
		first := f.cat.At(product)
		callers := f.used(30)
		f.srv.mu.Lock()
		in := f.srv.interests[product]
		f.srv.mu.Unlock()
		if got := in.encoded.Load(); got != 1 {
			t.Errorf("a snapshot for 30 was encoded %d times", got)
		}
		f.put("p2", nil)
		for _, c := range callers {
			c.update()
		}
		if got := in.encoded.Load(); got != 2 {
			t.Errorf("a change for 30 was encoded %d times", got-1)
		}
		f.put("p3", nil)
		c := f.connect("other")
		c.subscribe("product.shop", first) // the control
		if u, _ := c.update(); len(u.Instances) != 2 {
			t.Errorf("%v", u)
		}
		for _, c := range callers {
			c.update()
		}
		if got := in.encoded.Load(); got != 4 {
			t.Errorf("a change for two kinds of session was encoded %d times", got-2)
		}
		for _, c := range append(callers, c) {
			c.close()
		}
	})
}

// Many processes that do not read, each with more waiting for it than its stream takes, hold nobody up: the others hear of
// changes at the moment they happen, until those are evicted and after.
func TestStalledReadersHoldNobodyUp(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		f.fill(400) // a snapshot of more than one window
		for i := range 100 {
			c := f.connect(fmt.Sprintf("stalled-%d", i))
			defer c.close()
			c.subscribe("product.shop", discovery.Revision{})
			for seq := range uint64(50) { // and answers
				c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Settle{Settle: &weftv1.Settle{Seq: seq}}})
			}
		}
		c := f.connect("reader")
		defer c.close()
		c.subscribe("product.shop", discovery.Revision{})
		u, _ := c.update()
		c.ack(u)
		for i := range 15 {
			begin := time.Now()
			f.put("p0000", func(in *discovery.Instance) { in.Weight = i + 1 })
			u, _ := c.update()
			c.ack(u)
			if waited := time.Since(begin); waited != 0 {
				t.Errorf("change %d was heard of after %v", i, waited)
			}
			time.Sleep(time.Second)
		}
		synctest.Wait()
		if got := len(f.srv.Clients()); got != 1 {
			t.Errorf("%d sessions are left, want the reader's", got)
		}
	})
}

// slowStore counts commits, each of which waits for gate.
type slowStore struct {
	store.Store
	mu      sync.Mutex
	commits int
	gate    chan struct{}
}

func (s *slowStore) Commit(writes []store.Write) error {
	s.mu.Lock()
	s.commits++
	gate := s.gate
	s.mu.Unlock()
	<-gate
	return s.Store.Commit(writes)
}

func (s *slowStore) close() (commits int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate = make(chan struct{})
	return s.commits
}

func (s *slowStore) open() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.gate)
}

// Registrations of a session share commits, unless they are of one id, which keep their order; answers come in order; and
// the rest of what the process says is heard meanwhile.
func TestPipelinedRegistrations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		open := make(chan struct{})
		close(open)
		st := &slowStore{Store: store.NewMemory(), gate: open}
		f := startOn(t, st, Options{})
		defer f.stop()
		c := f.connect("proc-1")
		defer c.close()
		for name, test := range map[string]struct {
			id      func(i int) string
			commits func(n int) bool
		}{
			"of many ids":     {func(i int) string { return fmt.Sprint("p", i) }, func(n int) bool { return n <= 3 }},
			"control, of one": {func(int) string { return "same" }, func(n int) bool { return n == maxUnderWay }},
		} {
			before := st.close()
			for i := range maxUnderWay {
				in := c.instance(test.id(i))
				in.Weight = uint32(i + 1)
				c.seq++
				c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: &weftv1.Register{Seq: c.seq, Instances: []*weftv1.Instance{in}}}})
			}
			c.renew()
			c.settle(99, 0, "product.shop")
			c.settled() // it is heard
			st.open()
			for seq := uint64(0); seq < c.seq; {
				r := c.recv().GetResult()
				if r == nil || len(r.Refusals) > 0 || r.Seq <= seq {
					t.Fatalf("%s: %v after %d", name, r, seq)
				}
				seq = r.Seq
			}
			if got := st.close() - before; !test.commits(got) {
				t.Errorf("%s: %d commits", name, got)
			}
			st.open()
			in, _, _ := f.cat.Instance(product, test.id(maxUnderWay-1))
			if in.Weight != maxUnderWay {
				t.Errorf("%s: the last has weight %d", name, in.Weight)
			}
		}
	})
}

// What is registered and deregistered in one go ends as the last word says.
func TestPipelinedOrder(t *testing.T) {
	bubble(t, Options{}, func(f *fixture) {
		c := f.connect("proc-1")
		defer c.close()
		for i := range 40 {
			if i%2 == 0 {
				c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Register{Register: &weftv1.Register{Seq: uint64(i + 1), Instances: []*weftv1.Instance{c.instance("p1"), c.instance("p2")}}}})
			} else {
				c.send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Deregister{Deregister: &weftv1.Deregister{Seq: uint64(i + 1), Ids: []string{"p1"}}}})
			}
		}
		for c.recv().GetResult().GetSeq() != 40 {
		}
		if f.cat.Has(catalog.InstanceKey{Service: product, ID: "p1"}) || !f.cat.Has(catalog.InstanceKey{Service: product, ID: "p2"}) {
			t.Error("want p2 alone")
		}
		if in := f.srv.Clients()[0].Instances; len(in) != 1 || in[0].ID != "p2" {
			t.Errorf("the session holds %v", in)
		}
	})
}

// A process uses at most so many services in a session, and a message is about at most so many instances.
func TestSessionBounds(t *testing.T) {
	subscribe := func(n int) *weftv1.ConnectRequest {
		m := &weftv1.Subscribe{}
		for i := range n {
			m.Interests = append(m.Interests, &weftv1.Interest{Service: fmt.Sprintf("s%d.shop", i)})
		}
		return &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Subscribe{Subscribe: m}}
	}
	deregister := func(n int) *weftv1.ConnectRequest {
		return &weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Deregister{Deregister: &weftv1.Deregister{Seq: 1, Ids: make([]string, n)}}}
	}
	for name, test := range map[string]struct {
		m    *weftv1.ConnectRequest
		code codes.Code
	}{
		"services":                {subscribe(maxSubscriptions), codes.OK},
		"one service too many":    {subscribe(maxSubscriptions + 1), codes.ResourceExhausted},
		"ids":                     {deregister(maxIDs), codes.OK},
		"one id too many":         {deregister(maxIDs + 1), codes.InvalidArgument},
		"a message that is large": {deregister(1 << 20), codes.ResourceExhausted},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, Options{}, func(f *fixture) {
				c := f.connect("proc-1")
				defer c.close()
				c.send(test.m)
				if test.code != codes.OK {
					c.wantFailure(test.code, "")
					return
				}
				c.settle(7, 0)
				for {
					m := c.recv()
					if m.GetSettled() != nil {
						break
					}
					if u := m.GetUpdate(); u != nil {
						c.ack(u)
					}
				}
			})
		})
	}
}
